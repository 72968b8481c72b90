"""Who asks? Answered from memory: the keys' hashes come with the route table, so that letting a request in needs no database."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

from drivetrain.errors import Forbidden, NotFound, Unauthenticated
from drivetrain.identity.model import ALL_SCOPES, Context, Grant, Scope
from drivetrain.identity.service import JOB_PREFIX, LOCAL, Identity, digest, refuse_malformed
from drivetrain.wire.request import run_sync

COOKIE = "drivetrain_session"
SESSION = "session"


class Known(Protocol):
    """What the route table says of identity."""

    @property
    def generation(self) -> int: ...
    @property
    def auth(self) -> str: ...
    @property
    def workspaces(self) -> dict[str, str]: ...
    @property
    def keys(self) -> tuple[Grant, ...]: ...


class Who:
    """An `Authenticator`. Keys that the table does not know yet are looked up in the database, a few times a second at most."""

    def __init__(self, identity: Identity, known: Callable[[], Known]) -> None:
        self._identity = identity
        self._known = known
        self._table: Known | None = None
        self._grants: dict[str, Grant] = {}
        self._slugs: dict[str, str] = {}
        self._local: dict[str | None, Context] = {}
        self._unknown: dict[str, float] = {}

    async def __call__(self, request_id: str, token: str | None, workspace: str | None, cookie: str | None) -> Context:
        table = self._known()
        if table is not self._table:
            self._follow(table)
        workspace = workspace or None
        if token and token.startswith(JOB_PREFIX):
            context = self._identity.context_of_job(token, request_id=request_id)
            if workspace not in (None, context.workspace):
                if Scope.admin not in context.scopes:
                    raise Forbidden(f"This token is good for the workspace {context.workspace!r} only.")
                return await self._as_local(workspace, request_id)
            return context
        if table.auth == "open":
            return await self._as_local(workspace, request_id)
        if token:
            refuse_malformed(token)
            return self._as_grant(await self._grant(digest(token)), workspace, request_id)
        if cookie and (session := _session(cookie)):
            return self._as_grant(await self._grant(str(self._identity.signer.verify(SESSION, session)["key"])), workspace, request_id)
        raise Unauthenticated("This server asks for a key. Give one as 'Authorization: Bearer dt-…'; make one with: drivetrain keys create")

    def _follow(self, table: Known) -> None:
        self._table = table
        self._grants = {grant.sha256: grant for grant in table.keys}
        self._slugs = {id_: slug for slug, id_ in table.workspaces.items()}
        self._local.clear()
        self._unknown.clear()

    async def _as_local(self, workspace: str | None, request_id: str) -> Context:
        """The user `local`, in any workspace."""
        context = self._local.get(workspace)
        if context is None:
            context = self._local[workspace] = await run_sync(self._identity.local_context, workspace)
        return Context(context.user_id, LOCAL, context.workspace_id, context.workspace, ALL_SCOPES, None, request_id)

    async def _grant(self, sha256: str) -> Grant:
        grant = self._grants.get(sha256)
        now = time.monotonic()
        if grant is None and self._unknown.get(sha256, 0.0) < now:
            grant = await run_sync(self._identity.grant, sha256)
            if grant is not None:
                self._grants[sha256] = grant
            else:
                if len(self._unknown) > 1000:
                    self._unknown.clear()
                self._unknown[sha256] = now + 1.0
        if grant is None:
            raise Unauthenticated("This key is not known here, or was revoked. Make another with: drivetrain keys create")
        if grant.expires_ms is not None and grant.expires_ms < time.time() * 1000:
            raise Unauthenticated("This key has run out. Make another with: drivetrain keys create")
        return grant

    def _as_grant(self, grant: Grant, workspace: str | None, request_id: str) -> Context:
        table = self._table
        assert table is not None
        id_ = grant.default_workspace if workspace is None else table.workspaces.get(workspace, "")
        scopes = grant.scopes.get(id_)
        if scopes is None:
            raise NotFound(f"There is no workspace {workspace!r} that this key may use.")
        slug = workspace or self._slugs.get(id_) or id_
        return Context(
            user_id=grant.user_id,
            user_name=grant.user_name,
            workspace_id=id_,
            workspace=slug,
            scopes=frozenset(Scope(scope) for scope in scopes),
            key_id=grant.key_id,
            request_id=request_id,
        )


def _session(cookie: str) -> str | None:
    try:
        morsel = SimpleCookie(cookie).get(COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel is not None else None
