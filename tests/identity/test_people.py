"""Users, workspaces and members: who may change what, and that workspaces do not see each other."""

from __future__ import annotations

import threading

import pytest

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.identity.model import ALL_SCOPES, Context, Role, Scope
from drivetrain.identity.service import Identity
from drivetrain.store.sql import Database
from tests.identity.people import holder, newcomer


def test_bootstrap_makes_local_and_default_once(identity: Identity, database: Database) -> None:
    before = identity.local_context()
    identity.bootstrap()
    Identity(database, b"t" * 32).bootstrap()
    assert identity.local_context() == before
    assert (before.user_name, before.workspace, before.scopes, before.server_admin) == ("local", "default", ALL_SCOPES, True)
    assert identity.auth_mode() == "open"
    assert identity.workspaces_map() == {"default": before.workspace_id}


def test_servers_that_start_at_once_bootstrap_once(database: Database) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            Identity(database, b"s" * 32).bootstrap()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    identity = Identity(database, b"s" * 32)
    assert list(identity.workspaces_map()) == ["default"]
    assert [user.name for user in identity.list_users(identity.local_context())] == ["local"]


def test_a_user_gets_a_workspace_of_the_same_name(identity: Identity, root: Context) -> None:
    _, ada = newcomer(identity, root, "ada")
    assert [(one.slug, one.role) for one in identity.list_workspaces(ada)] == [("ada", Role.admin)]
    assert [(member.user, member.role) for member in identity.list_members(ada, "ada")] == [("ada", Role.admin)]
    assert [one.slug for one in identity.list_workspaces(root)] == ["ada", "default"]


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a b", "a/b", "../a", "ä", "x" * 65, "api", "v1", "mlflow"])
def test_names_that_would_break_an_address_are_refused(identity: Identity, root: Context, name: str) -> None:
    with pytest.raises(Invalid):
        identity.create_user(root, name)
    with pytest.raises(Invalid):
        identity.create_workspace(root, name)
    assert list(identity.workspaces_map()) == ["default"]


def test_a_name_is_given_once(identity: Identity, root: Context) -> None:
    identity.create_user(root, "ada")
    for make in (identity.create_user, identity.create_workspace):
        with pytest.raises(Conflict, match="ada"):
            make(root, "ada")
    identity.create_workspace(root, "vision")
    with pytest.raises(Conflict, match="vision"):
        identity.create_user(root, "vision")


class TestAdminsOfOneWorkspaceDoNotAdministerTheServer:
    @pytest.fixture
    def ada(self, identity: Identity, root: Context) -> Context:
        _, ada = newcomer(identity, root, "ada")
        assert Scope.admin in ada.scopes
        return ada

    def test_users(self, identity: Identity, ada: Context) -> None:
        with pytest.raises(Forbidden, match="default"):
            identity.create_user(ada, "eve")
        with pytest.raises(Forbidden):
            identity.disable_user(ada, "ada", disabled=False)
        assert [user.name for user in identity.list_users(ada)] == ["ada"]

    def test_workspaces_and_auth(self, identity: Identity, ada: Context) -> None:
        with pytest.raises(Forbidden):
            identity.create_workspace(ada, "evil")
        for mode in ("open", "keys"):
            with pytest.raises(Forbidden):
                identity.set_auth(ada, mode)

    def test_other_workspaces_are_not_found(self, identity: Identity, ada: Context) -> None:
        for workspace in ("default", "nowhere"):
            with pytest.raises(NotFound):
                identity.list_members(ada, workspace)
            with pytest.raises(NotFound):
                identity.set_member(ada, workspace, "ada", "admin")

    def test_but_their_own(self, identity: Identity, root: Context, ada: Context) -> None:
        identity.create_user(root, "bob")
        identity.set_member(ada, "ada", "bob", "viewer")
        assert [(member.user, member.role) for member in identity.list_members(ada, "ada")] == [("ada", Role.admin), ("bob", Role.viewer)]
        identity.set_member(ada, "ada", "bob", None)
        assert [member.user for member in identity.list_members(ada, "ada")] == ["ada"]

    def test_an_admins_key_of_default_does(self, identity: Identity, root: Context) -> None:
        secret, _ = newcomer(identity, root, "carol")
        assert not holder(identity, secret).server_admin
        identity.set_member(root, "default", "carol", "admin")
        carol = holder(identity, secret)
        assert carol.server_admin
        identity.create_user(carol, "dave")
        _, reading = identity.create_key(root, user="carol", scopes=("read", "write"))
        assert not holder(identity, reading).server_admin


def test_a_key_of_one_workspace_does_not_change_another_of_its_user(identity: Identity, root: Context) -> None:
    newcomer(identity, root, "ada")
    identity.set_member(root, "default", "ada", "admin")
    _, secret = identity.create_key(root, user="ada", workspace="ada", scopes=("read", "write", "admin"))
    narrow = holder(identity, secret)
    assert not narrow.server_admin
    with pytest.raises(NotFound):
        identity.set_member(narrow, "default", "ada", "viewer")


@pytest.mark.parametrize("role", ["viewer", "editor"])
def test_members_who_are_no_admins_change_nobody(identity: Identity, root: Context, role: str) -> None:
    secret, _ = newcomer(identity, root, "ada")
    identity.set_member(root, "default", "ada", role)
    ada = holder(identity, secret, "default")
    with pytest.raises(Forbidden):
        identity.set_member(ada, "default", "ada", "admin")
    with pytest.raises(Forbidden):
        identity.secrets.set(ada, "name", "value")
    with pytest.raises(Forbidden):
        identity.audit.log(ada)


def test_roles_and_users_must_exist(identity: Identity, root: Context) -> None:
    with pytest.raises(Invalid, match="viewer, editor, admin"):
        identity.set_member(root, "default", "local", "king")
    with pytest.raises(NotFound, match="nobody"):
        identity.set_member(root, "default", "nobody", "viewer")


def test_every_change_is_in_the_audit_log(identity: Identity, root: Context) -> None:
    identity.create_user(root, "ada")
    identity.create_workspace(root, "vision")
    identity.set_member(root, "vision", "ada", "editor")
    key, secret = identity.create_key(root, scopes=("read", "admin"))
    identity.set_auth(root, "keys")
    identity.set_auth(root, "open")
    session = identity.sign_in(secret, seconds=60)
    identity.sign_out(root, session)
    identity.revoke_key(root, key.id)
    identity.secrets.set(root, "upstream", "v")
    identity.secrets.delete(root, "upstream")
    identity.disable_user(root, "ada")
    done = [entry.action for entry in reversed(identity.audit.log(root))]
    assert done == [
        "user.create",
        "workspace.create",
        "member.set",
        "key.create",
        "auth.set",
        "auth.set",
        "session.begin",
        "session.end",
        "key.revoke",
        "secret.set",
        "secret.delete",
        "user.disable",
    ]


def test_what_was_refused_left_no_trace(identity: Identity, root: Context) -> None:
    with pytest.raises(NotFound):
        identity.create_key(root, user="nobody")
    with pytest.raises(Conflict):
        identity.set_auth(root, "keys")
    assert identity.audit.log(root) == []


def test_audit_logs_and_secrets_are_their_workspaces_own(identity: Identity, root: Context) -> None:
    _, ada = newcomer(identity, root, "ada")
    identity.secrets.set(ada, "token", "ada's")
    identity.secrets.set(root, "token", "local's")
    assert identity.secrets.get(ada.workspace_id, "token") == "ada's"
    assert identity.secrets.get(root.workspace_id, "token") == "local's"
    assert [entry.object for entry in identity.audit.log(ada)] == ["token"]
    identity.secrets.delete(ada, "token")
    with pytest.raises(NotFound):
        identity.secrets.get(ada.workspace_id, "token")
    assert [name for name, _ in identity.secrets.list(root)] == ["token"]
