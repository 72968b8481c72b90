"""Keys: who may make which, how long they are good, and that they are kept as hashes only."""

from __future__ import annotations

import logging
import re

import pytest
import sqlalchemy as sa

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from drivetrain.identity.keys import digest, new_secret, refuse_malformed, well_formed
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.service import Identity
from drivetrain.identity.tables import keys
from drivetrain.store.sql import Database, metadata
from tests.identity.people import holder, newcomer

ADMIN = ("read", "write", "invoke", "admin")


def test_a_key_has_40_random_characters_and_is_kept_as_a_hash(identity: Identity, root: Context, database: Database) -> None:
    key, secret = identity.create_key(root, name="laptop")
    assert re.fullmatch(r"dt-[A-Za-z0-9]{40}", secret)
    assert len({new_secret() for _ in range(100)}) == 100
    assert key.hint == secret[-4:]
    with database.read() as connection:
        everything = [str(row) for table in metadata.sorted_tables for row in connection.execute(sa.select(table))]
        assert connection.execute(sa.select(keys.c.sha256)).scalar_one() == digest(secret)
    assert not [row for row in everything if secret in row or secret[3:] in row]
    assert secret not in repr(key)


def test_what_a_key_may_do_is_its_scopes_within_its_users_role(identity: Identity, root: Context) -> None:
    secret, ada = newcomer(identity, root, "ada", ("read", "write"))
    assert ada.workspace == "ada"
    assert ada.scopes == {Scope.read, Scope.write}
    identity.set_member(root, "default", "ada", "viewer")
    assert holder(identity, secret, "default").scopes == {Scope.read}
    identity.set_member(root, "default", "ada", "admin")
    assert holder(identity, secret, "default").scopes == {Scope.read, Scope.write}
    identity.set_member(root, "default", "ada", None)
    assert holder(identity, secret, "default").scopes == frozenset()


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [({"scopes": ("fly",)}, "fly"), ({"scopes": ()}, "scope"), ({"days": 0}, "days"), ({"days": -1.0}, "days")],
)
def test_a_key_that_makes_no_sense_is_refused(identity: Identity, root: Context, wanted: dict[str, object], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        identity.create_key(root, **wanted)  # type: ignore[arg-type]
    assert identity.list_keys(root) == []


def test_a_key_for_a_workspace_its_user_is_not_in_is_refused(identity: Identity, root: Context) -> None:
    newcomer(identity, root, "ada")
    with pytest.raises(NotFound, match="default"):
        identity.create_key(root, user="ada", workspace="default")
    with pytest.raises(NotFound, match="nobody"):
        identity.create_key(root, user="nobody")


class TestNoKeyMakesAStrongerOne:
    def test_not_more_scopes(self, identity: Identity, root: Context) -> None:
        _, reader = newcomer(identity, root, "ada", ("read",))
        with pytest.raises(Forbidden, match="write"):
            identity.create_key(reader, scopes=("read", "write"))
        key, _ = identity.create_key(reader, scopes=("read",))
        assert key.user == "ada"

    def test_not_for_more_workspaces(self, identity: Identity, root: Context) -> None:
        newcomer(identity, root, "ada")
        identity.set_member(root, "default", "ada", "editor")
        _, secret = identity.create_key(root, user="ada", workspace="default", scopes=ADMIN)
        narrow = holder(identity, secret)
        key, _ = identity.create_key(narrow, scopes=("read",))
        assert key.workspace == "default"
        with pytest.raises(Forbidden, match="default"):
            identity.create_key(narrow, scopes=("read",), workspace="ada")

    def test_not_for_longer(self, identity: Identity, root: Context) -> None:
        newcomer(identity, root, "ada")
        short, secret = identity.create_key(root, user="ada", days=1)
        child, _ = identity.create_key(holder(identity, secret), scopes=("read",), days=1000)
        assert child.expires_ms == short.expires_ms
        forever, _ = identity.create_key(holder(identity, secret), scopes=("read",))
        assert forever.expires_ms == short.expires_ms

    def test_not_for_somebody_else(self, identity: Identity, root: Context) -> None:
        _, ada = newcomer(identity, root, "ada")
        assert Scope.admin in ada.scopes, "an admin, but of a workspace of her own only"
        with pytest.raises(Forbidden, match="default"):
            identity.create_key(ada, user="local", scopes=("read",))

    def test_not_by_a_jobs_token(self, identity: Identity, root: Context) -> None:
        _, ada = newcomer(identity, root, "ada")
        job = identity.context_of_job(identity.job_token(ada, scopes=list(Scope), seconds=60))
        with pytest.raises(Forbidden):
            identity.create_key(job, scopes=("read",))


def test_a_revoked_key_lets_nobody_in(identity: Identity, root: Context) -> None:
    key, secret = identity.create_key(root)
    assert identity.grant(digest(secret)) is not None
    identity.revoke_key(root, key.id)
    assert identity.grant(digest(secret)) is None
    assert [one.revoked_ms is not None for one in identity.list_keys(root)] == [True]


def test_keys_of_others_are_not_seen_and_not_revoked(identity: Identity, root: Context) -> None:
    key, _ = identity.create_key(root, name="mine")
    _, ada = newcomer(identity, root, "ada")
    assert {one.user for one in identity.list_keys(ada)} == {"ada"}
    with pytest.raises(NotFound):
        identity.revoke_key(ada, key.id)
    assert {one.user for one in identity.list_keys(root)} == {"ada", "local"}


def test_a_key_that_only_reads_can_end_itself_and_no_other(identity: Identity, root: Context) -> None:
    _, reader = newcomer(identity, root, "ada", ("read",))
    other, _ = identity.create_key(root, user="ada")
    with pytest.raises(Forbidden, match="write"):
        identity.revoke_key(reader, other.id)
    assert reader.key_id is not None
    identity.revoke_key(reader, reader.key_id)
    assert next(key for key in identity.list_keys(root) if key.id == reader.key_id).revoked_ms is not None


def test_a_disabled_user_comes_in_again_when_enabled(identity: Identity, root: Context) -> None:
    secret, _ = newcomer(identity, root, "ada")
    identity.disable_user(root, "ada")
    assert identity.grant(digest(secret)) is None
    identity.disable_user(root, "ada", disabled=False)
    assert identity.grant(digest(secret)) is not None


class TestLockOut:
    """Nothing may leave a server that asks for keys without one that administers it."""

    def test_keys_are_not_required_while_nobody_has_an_admins(self, identity: Identity, root: Context) -> None:
        identity.create_key(root, scopes=("read", "write"))
        newcomer(identity, root, "ada")  # admin, but of her own workspace only
        with pytest.raises(Conflict, match="keys create"):
            identity.set_auth(root, "keys")
        assert identity.auth_mode() == "open"
        identity.create_key(root, scopes=ADMIN)
        identity.set_auth(root, "keys")
        assert identity.auth_mode() == "keys"
        identity.set_auth(root, "open")
        assert identity.auth_mode() == "open"

    def test_the_last_admins_key_stays(self, identity: Identity, root: Context) -> None:
        first, _ = identity.create_key(root, scopes=ADMIN)
        identity.set_auth(root, "keys")
        with pytest.raises(Conflict, match="last key"):
            identity.revoke_key(root, first.id)
        with pytest.raises(Conflict, match="last key"):
            identity.set_member(root, "default", "local", "editor")
        assert identity.list_keys(root)[0].revoked_ms is None
        identity.create_key(root, scopes=ADMIN)
        identity.revoke_key(root, first.id)

    def test_the_last_admin_stays_enabled(self, identity: Identity, root: Context) -> None:
        identity.create_user(root, "ada")
        identity.set_member(root, "default", "ada", "admin")
        identity.create_key(root, user="ada", scopes=ADMIN)
        identity.set_auth(root, "keys")
        with pytest.raises(Conflict):
            identity.disable_user(root, "ada")

    def test_making_a_key_does_not_require_keys(self, identity: Identity, root: Context) -> None:
        identity.create_key(root, scopes=ADMIN)
        assert identity.auth_mode() == "open"


@pytest.mark.parametrize(
    "weak", ["", "dt-", "dt-short", "secret", "dt-" + "a" * 39, "dt-" + "a" * 41, "dt-" + "a" * 39 + "é", "dt-" + "a" * 40 + "\n"]
)
def test_what_is_no_key_is_refused_with_advice(weak: str) -> None:
    assert not well_formed(weak)
    with pytest.raises(Unauthenticated, match="drivetrain keys create") as caught:
        refuse_malformed(weak)
    assert len(weak) < 4 or weak not in caught.value.message, "what was tried may be a real secret of another place"


def test_no_secret_is_logged(identity: Identity, root: Context, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        _, secret = identity.create_key(root, scopes=ADMIN)
        session = identity.sign_in(secret, seconds=60)
        token = identity.job_token(root, scopes=[Scope.read], seconds=60)
        identity.secrets.set(root, "upstream", "hunter2-hunter2")
        identity.secrets.get(root.workspace_id, "upstream")
    for secret_text in (secret, secret[3:], session, token, "hunter2"):
        assert secret_text not in caplog.text
    assert secret not in str([(entry.object, entry.detail) for entry in identity.audit.log(root)])
