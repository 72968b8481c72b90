"""Contexts as the door makes them."""

from __future__ import annotations

from drivetrain.identity.keys import digest
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.service import Identity


def holder(identity: Identity, secret: str, workspace: str | None = None) -> Context:
    """Who brings this key, in a workspace (by default the key's own)."""
    grant = identity.grant(digest(secret))
    assert grant is not None, "the key is not good"
    slugs = identity.workspaces_map()
    where = grant.default_workspace if workspace is None else slugs[workspace]
    return Context(
        user_id=grant.user_id,
        user_name=grant.user_name,
        workspace_id=where,
        workspace=next(slug for slug, id_ in slugs.items() if id_ == where),
        scopes=frozenset(Scope(scope) for scope in grant.scopes.get(where, ())),
        key_id=grant.key_id,
        server_admin=grant.server_admin,
    )


def newcomer(
    identity: Identity, root: Context, name: str, scopes: tuple[str, ...] = ("read", "write", "invoke", "admin")
) -> tuple[str, Context]:
    """A new user with a key: its secret, and who brings it."""
    identity.create_user(root, name)
    _, secret = identity.create_key(root, user=name, scopes=scopes)
    return secret, holder(identity, secret)
