"""Keys: what they look like, how they are kept, and what each of them lets its holder do.

A key is `dt-` and 40 random letters and digits. Only its SHA-256 is kept: of so much randomness one round is enough.
"""

from __future__ import annotations

import hashlib
import re
import secrets as random
import string

import sqlalchemy as sa

from drivetrain.errors import Forbidden, Unauthenticated
from drivetrain.identity.model import ROLE_SCOPES, Context, Grant, Role, Scope
from drivetrain.identity.tables import keys, members, users, workspaces

DEFAULT = "default"
_ALPHABET = string.ascii_letters + string.digits
_WELL_FORMED = re.compile(r"dt-[A-Za-z0-9]{40}")


def new_secret() -> str:
    return "dt-" + "".join(random.choice(_ALPHABET) for _ in range(40))


def digest(secret: str) -> str:
    """How a key is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


def well_formed(token: str) -> bool:
    """Whether this could be a key of ours."""
    return _WELL_FORMED.fullmatch(token) is not None


def refuse_malformed(token: str) -> None:
    if not well_formed(token):
        raise Unauthenticated(
            "This is not a key of this server: keys are 'dt-' and 40 letters and digits. Make one with: drivetrain keys create"
        )


def grants_of(connection: sa.Connection, *only: sa.ColumnElement[bool]) -> list[Grant]:
    """What each good key (of those that `only` chooses) lets its holder do where."""
    query = (
        sa.select(keys, users.c.name.label("user_name"), users.c.default_workspace_id)
        .join(users, users.c.id == keys.c.user_id)
        .where(keys.c.revoked_ms.is_(None), users.c.disabled_ms.is_(None), *only)
    )
    default = connection.execute(sa.select(workspaces.c.id).where(workspaces.c.slug == DEFAULT)).scalar()
    roles: dict[str, list[tuple[str, Role]]] = {}
    for row in connection.execute(sa.select(members)):
        roles.setdefault(row.user_id, []).append((row.workspace_id, Role(row.role)))
    found = []
    for row in connection.execute(query):
        scopes = {
            workspace: tuple(sorted(frozenset(row.scopes) & ROLE_SCOPES[role]))
            for workspace, role in roles.get(row.user_id, ())
            if row.workspace_id in (None, workspace)
        }
        found.append(
            Grant(
                sha256=row.sha256,
                key_id=row.id,
                user_id=row.user_id,
                user_name=row.user_name,
                default_workspace=row.workspace_id or row.default_workspace_id,
                scopes=scopes,
                expires_ms=row.expires_ms,
                server_admin=Scope.admin in scopes.get(str(default), ()),
            )
        )
    return found


def within(
    connection: sa.Connection, ctx: Context, wanted: frozenset[Scope], workspace: str | None, expires: int | None
) -> tuple[str | None, int | None]:
    """Workspace and end of a key that somebody makes for themselves: it gives no more, and lasts no longer, than the one that asks."""
    mine = connection.execute(sa.select(keys).where(keys.c.id == ctx.key_id)).one_or_none() if ctx.key_id is not None else None
    if mine is None:
        raise Forbidden("Keys are made with a key, or signed in with one. Sign in, or use: drivetrain keys create --home")
    if lacking := ", ".join(sorted(wanted - frozenset(mine.scopes))):
        raise Forbidden(f"A key cannot make one that may do more than itself; this one lacks: {lacking}.")
    if mine.workspace_id is not None:
        if workspace not in (None, ctx.workspace):
            raise Forbidden(f"This key is good for the workspace {ctx.workspace!r} only, and so are those that it makes.")
        workspace = ctx.workspace
    if mine.expires_ms is not None:
        expires = min(expires or mine.expires_ms, mine.expires_ms)
    return workspace, expires
