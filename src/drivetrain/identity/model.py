"""Who asks, in which workspace, with which scope: the nouns that every verb takes as its first argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from msgspec import Struct

from drivetrain.errors import Forbidden


class Role(StrEnum):
    """What a member may do in a workspace. Each role may do all that the one before it may."""

    viewer = "viewer"
    editor = "editor"
    admin = "admin"


class Scope(StrEnum):
    """What a key may be used for. A key never gives more than its user's role does."""

    read = "read"
    write = "write"
    invoke = "invoke"
    admin = "admin"


ALL_SCOPES = frozenset(Scope)
ROLE_SCOPES: dict[Role, frozenset[Scope]] = {
    Role.viewer: frozenset({Scope.read, Scope.invoke}),
    Role.editor: frozenset({Scope.read, Scope.write, Scope.invoke}),
    Role.admin: ALL_SCOPES,
}


@dataclass(frozen=True, slots=True)
class Context:
    """One request's answer to: who, where, with which scopes. Made once at the door, passed to every verb."""

    user_id: str
    user_name: str
    workspace_id: str
    workspace: str
    scopes: frozenset[Scope] = field(default=ALL_SCOPES)
    key_id: str | None = None
    request_id: str = ""
    server_admin: bool = False  # may do what concerns the whole server: users, workspaces, other people's keys, auth

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless this request may be used for `scope` in its workspace."""
        if scope not in self.scopes:
            raise Forbidden(
                f"This needs the scope '{scope.value}' in workspace '{self.workspace}', which {self.user_name!r} (or the key used) "
                f"does not have there. Ask an admin of the workspace, or use another key: drivetrain keys create --scope {scope.value}"
            )

    def require_server_admin(self) -> None:
        """Raise `Forbidden` unless this request may be used for what concerns the whole server."""
        if not self.server_admin:
            raise Forbidden(
                f"Only an admin of the workspace 'default' administers the server, with a key that has the scope 'admin' there; "
                f"{self.user_name!r} (or the key used) does not. Ask one, or use such a key."
            )


class User(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    display: str = ""
    created_ms: int = 0
    disabled_ms: int | None = None


class Workspace(Struct, frozen=True, kw_only=True):
    """`role` is the asking user's."""

    id: str
    slug: str
    display: str = ""
    created_ms: int = 0
    role: Role | None = None


class Member(Struct, frozen=True, kw_only=True):
    user: str
    role: Role
    created_ms: int


class Key(Struct, frozen=True, kw_only=True):
    """A key without its secret. `hint` is the secret's end; `workspace` None means all of the user's."""

    id: str
    user: str
    name: str
    hint: str
    workspace: str | None
    scopes: tuple[str, ...]
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None


class Grant(Struct, frozen=True, kw_only=True):
    """What a key (named by its hash) may do: enough to let a request in without the database."""

    sha256: str
    key_id: str
    user_id: str
    user_name: str
    default_workspace: str  # id
    scopes: dict[str, tuple[str, ...]]  # workspace id -> scopes there
    expires_ms: int | None = None
    server_admin: bool = False


class Entry(Struct, frozen=True):
    """One line of the audit log: who did what to which thing, by which key and request."""

    at_ms: int
    user_name: str
    key_id: str | None
    request_id: str
    action: str
    object: str
    detail: dict[str, Any]
