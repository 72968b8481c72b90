"""Who asks, in which workspace, with which scope: the nouns that every verb takes as its first argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

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

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless this request may be used for `scope` in its workspace."""
        if scope not in self.scopes:
            raise Forbidden(
                f"This needs the scope '{scope.value}' in workspace '{self.workspace}', which {self.user_name!r} (or the key used) "
                f"does not have there. Ask an admin of the workspace, or use another key: drivetrain keys create --scope {scope.value}"
            )
