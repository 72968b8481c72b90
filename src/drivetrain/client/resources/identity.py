"""Keys, users, workspaces, secrets, and who did what."""

from __future__ import annotations

from collections.abc import Sequence

from drivetrain.answers import identity as answers
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import Resource
from drivetrain.identity.model import Entry, Key, Member, User, Workspace


class Keys(Resource):
    """Keys, and whether they are required."""

    def list(self) -> list[Key]:
        return self._get(answers.KeyList, "/keys").keys

    def create(
        self, *, name: str = "", scopes: Sequence[str], user: str | None = None, workspace: str | None = None, days: float | None = None
    ) -> answers.KeyMade:
        """Make a key. The secret is shown this once."""
        asked = {"name": name, "scopes": [*scopes], "user": user, "workspace": workspace, "days": days}
        return self._send(answers.KeyMade, "POST", "/keys", asked)

    def revoke(self, key_id: str) -> None:
        self._do("DELETE", f"/keys/{segment(key_id)}")

    def me(self) -> answers.Me:
        """Who one is with this key: user, workspace, scopes, and the server's `auth` (open or keys)."""
        return self._get(answers.Me, "/me")

    def set_auth(self, mode: str) -> answers.AuthMode:
        """`keys`: every request needs a key. `open`: none does (on loopback only)."""
        return self._send(answers.AuthMode, "PUT", "/auth", {"auth": mode})


class Users(Resource):
    """Users of the server."""

    def list(self) -> list[User]:
        return self._get(answers.UserList, "/users").users

    def create(self, name: str, *, display: str = "") -> User:
        return self._send(answers.UserMade, "POST", "/users", {"name": name, "display": display}).user

    def disable(self, name: str) -> None:
        """Let none of the user's keys in until the user is enabled again."""
        self._do("POST", f"/users/{segment(name)}/disable")

    def enable(self, name: str) -> None:
        self._do("POST", f"/users/{segment(name)}/enable")


class Workspaces(Resource):
    """Workspaces, and the roles that users have in them."""

    def list(self) -> list[Workspace]:
        return self._get(answers.WorkspaceList, "/workspaces").workspaces

    def create(self, slug: str, *, display: str = "") -> Workspace:
        return self._send(answers.WorkspaceMade, "POST", "/workspaces", {"slug": slug, "display": display}).workspace

    def members(self, slug: str) -> Sequence[Member]:
        return self._get(answers.MemberList, f"/workspaces/{segment(slug)}/members").members

    def add(self, slug: str, user: str, role: str) -> None:
        """Give a user a role: viewer, editor or admin."""
        self._do("PUT", f"/workspaces/{segment(slug)}/members/{segment(user)}", {"role": role})

    def remove(self, slug: str, user: str) -> None:
        self._do("DELETE", f"/workspaces/{segment(slug)}/members/{segment(user)}")

    def audit(self, *, limit: int = 100) -> Sequence[Entry]:
        """Who did what in the client's workspace, the newest first."""
        return self._get(answers.EntryList, "/audit", limit=limit).entries


class Secrets(Resource):
    """Values that the server keeps encrypted and shows to nobody."""

    def list(self) -> list[answers.Secret]:
        return self._get(answers.SecretList, "/secrets").secrets

    def set(self, name: str, value: str) -> None:
        self._do("PUT", f"/secrets/{segment(name)}", {"value": value})

    def delete(self, name: str) -> None:
        self._do("DELETE", f"/secrets/{segment(name)}")
