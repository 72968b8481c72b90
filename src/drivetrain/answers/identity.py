"""What the native API says of people, workspaces, keys and secrets."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.identity.model import Entry, Key, Member, User, Workspace


class Me(Struct, frozen=True, kw_only=True):
    """Who asks. `key` is the id of the key used; `auth`: whether the server asks for keys (`keys`) or lets everybody in (`open`)."""

    user: str
    workspace: str
    scopes: list[str]
    key: str | None
    auth: str
    server_admin: bool


class UserList(Struct, frozen=True):
    users: list[User]


class UserMade(Struct, frozen=True):
    user: User


class WorkspaceList(Struct, frozen=True):
    workspaces: list[Workspace]


class WorkspaceMade(Struct, frozen=True):
    workspace: Workspace


class MemberList(Struct, frozen=True):
    members: list[Member]


class KeyList(Struct, frozen=True):
    keys: list[Key]


class KeyMade(Struct, frozen=True):
    """The secret is in this answer and nowhere else."""

    key: Key
    secret: str


class AuthMode(Struct, frozen=True):
    auth: str


class SignedIn(Struct, frozen=True):
    """`expires_in`: seconds that the session lasts."""

    expires_in: int


class Secret(Struct, frozen=True):
    """A secret without its value."""

    name: str
    updated_ms: int


class SecretList(Struct, frozen=True):
    secrets: list[Secret]


class EntryList(Struct, frozen=True):
    entries: list[Entry]
