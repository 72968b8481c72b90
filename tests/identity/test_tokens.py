"""What the server signs: sessions, job tokens, addresses; and what it seals: secrets."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.errors import DrivetrainError, Forbidden, Invalid, NotFound, Unauthenticated
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.service import SIGNATURE, Identity
from drivetrain.identity.signing import Signer
from drivetrain.identity.tables import secrets
from drivetrain.store.sql import Database
from tests.identity.people import newcomer

SIGNER = Signer(b"k" * 32)


def test_a_token_comes_back_as_it_was_signed() -> None:
    payload = SIGNER.verify("job", SIGNER.sign("job", {"a": 1, "b": "ü"}, 60))
    assert (payload["a"], payload["b"]) == (1, "ü")


def test_a_token_is_good_for_its_purpose_its_time_and_its_home_only() -> None:
    token = SIGNER.sign("session", {"a": 1}, 60)
    with pytest.raises(Unauthenticated, match="purpose"):
        SIGNER.verify("url", token)
    with pytest.raises(Unauthenticated):
        Signer(b"l" * 32).verify("session", token)
    with pytest.raises(Unauthenticated, match="run out"):
        SIGNER.verify("session", SIGNER.sign("session", {}, -1))


@given(st.text(max_size=60))
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        SIGNER.verify("session", token)


@given(user=st.text(max_size=20), at=st.integers(0, 10_000), by=st.integers(1, 255))
def test_no_byte_can_be_changed(user: str, at: int, by: int) -> None:
    token = SIGNER.sign("session", {"user": user}, 60).encode()
    at %= len(token)
    changed = token[:at] + bytes([(token[at] + by) % 256]) + token[at + 1 :]
    with pytest.raises(Unauthenticated):
        SIGNER.verify("session", changed.decode("latin-1"))


@given(st.text(max_size=20))
def test_a_token_has_one_spelling(user: str) -> None:
    token = SIGNER.sign("session", {"user": user}, 60)
    assert SIGNER.verify("session", token)["user"] == user
    plain = token.replace("-", "+").replace("_", "/")
    for other in {plain, token + "=", token + "\n", token.replace(".", "=.")} - {token}:
        with pytest.raises(Unauthenticated):
            SIGNER.verify("session", other)


def test_a_jobs_token_is_no_more_than_its_maker_in_one_workspace(identity: Identity, root: Context) -> None:
    _, ada = newcomer(identity, root, "ada", ("read", "write"))
    job = identity.context_of_job(identity.job_token(ada, scopes=[Scope.read, Scope.admin], seconds=60), request_id="r")
    assert (job.user_name, job.workspace, job.server_admin, job.request_id) == ("ada", "ada", False, "r")
    assert job.scopes == {Scope.read}
    assert not identity.context_of_job(identity.job_token(root, scopes=list(Scope), seconds=60)).server_admin
    with pytest.raises(Forbidden):
        identity.home_token(ada, seconds=60)
    assert identity.context_of_job(identity.home_token(root, seconds=60)).server_admin


def test_a_signed_address_is_good_for_one_method_and_path(identity: Identity, root: Context) -> None:
    url = identity.sign_url(root, "GET", "/mlflow/artifacts/a%20b?x=1", scopes=[Scope.read], seconds=60)
    path, _, signature = url.partition(f"&{SIGNATURE}=")
    assert path == "/mlflow/artifacts/a%20b?x=1"
    context = identity.context_of_url("GET", path, signature)
    assert (context.workspace_id, context.server_admin) == (root.workspace_id, False)
    assert context.scopes == {Scope.read}
    assert identity.context_of_url("HEAD", path, signature).scopes == {Scope.read}
    for method, other in [("PUT", path), ("GET", "/mlflow/artifacts/b"), ("GET", path + "1"), ("DELETE", path)]:
        with pytest.raises(Unauthenticated):
            identity.context_of_url(method, other, signature)
    with pytest.raises(Unauthenticated):
        identity.context_of_job("dtj." + signature)


def test_a_session_ends_with_its_key_and_at_sign_out(identity: Identity, root: Context) -> None:
    _, secret = identity.create_key(root)
    session = identity.sign_in(secret, seconds=60)
    payload = identity.signer.verify("session", session)
    assert secret not in session
    assert not identity.session_ended(payload["id"])
    identity.sign_out(root, session)
    assert identity.session_ended(payload["id"])
    with pytest.raises(Unauthenticated):
        identity.sign_in("dt-" + "x" * 40, seconds=60)
    with pytest.raises(Unauthenticated, match="letters and digits"):
        identity.sign_in("hello", seconds=60)
    key = identity.list_keys(root)[0]
    identity.revoke_key(root, key.id)
    with pytest.raises(Unauthenticated):
        identity.sign_in(secret, seconds=60)


class TestSecrets:
    def test_they_are_sealed(self, identity: Identity, root: Context, database: Database) -> None:
        identity.secrets.set(root, "openai", "sk-verysecret")
        with database.read() as connection:
            assert b"verysecret" not in bytes(connection.execute(sa.select(secrets.c.sealed)).scalar_one())
        assert identity.secrets.get(root.workspace_id, "openai") == "sk-verysecret"
        identity.secrets.set(root, "openai", "sk-newer")
        assert identity.secrets.get(root.workspace_id, "openai") == "sk-newer"
        assert [name for name, _ in identity.secrets.list(root)] == ["openai"]

    def test_another_homes_key_file_does_not_open_them(self, identity: Identity, root: Context, database: Database) -> None:
        identity.secrets.set(root, "openai", "sk-verysecret")
        with pytest.raises(DrivetrainError, match="key file"):
            Identity(database, b"other" * 8).secrets.get(root.workspace_id, "openai")

    @pytest.mark.parametrize("name", ["", "1", "a b", "a/b", "x" * 129, "a\n"])
    def test_names(self, identity: Identity, root: Context, name: str) -> None:
        with pytest.raises(Invalid):
            identity.secrets.set(root, name, "v")
        with pytest.raises(NotFound):
            identity.secrets.delete(root, name)
