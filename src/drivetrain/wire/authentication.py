"""Who asks? Answered from memory: the keys' hashes come with the route table, so that letting a request in needs no database.

The database is asked for what the table does not know yet (a key or a workspace made a moment ago), and whether a session has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import Protocol

from drivetrain.errors import Forbidden, NotFound, Unauthenticated
from drivetrain.identity.keys import digest, refuse_malformed
from drivetrain.identity.model import ALL_SCOPES, Context, Grant, Scope
from drivetrain.identity.service import JOB_PREFIX, LOCAL, Identity
from drivetrain.wire.request import run_sync

COOKIE = "drivetrain_session"
WORKSPACE_COOKIE = "drivetrain_workspace"
SESSION = "session"

_FRESH = 1.0
_SESSION_FRESH = 5.0
_MOST = 4096
_LONGEST = 4096


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


class Authentication:
    """The door's `Authenticator`. It never holds a key: only hashes."""

    def __init__(self, identity: Identity, known: Callable[[], Known]) -> None:
        self._identity = identity
        self._known = known
        self._table: Known | None = None
        self._grants: dict[str, Grant] = {}
        self._workspaces: dict[str, str] = {}
        self._contexts: dict[tuple[str, str | None], tuple[Context, int | None]] = {}
        self._asked: dict[tuple[str, str | None], float] = {}
        self._sessions: dict[str, float] = {}
        self._local_user = ""

    async def __call__(self, request_id: str, token: str | None, workspace: str | None, cookie: str | None) -> Context:
        """Raises `Unauthenticated`, `Forbidden`, or `NotFound` for a workspace that is not there or not for this key."""
        table = self._known()
        if table is not self._table:
            self._follow(table)
        workspace = workspace or None
        if token is None and cookie is not None and workspace is None and (chosen := _cookie(cookie, WORKSPACE_COOKIE)) is not None:
            try:
                return await self._find(table, request_id, token, chosen, cookie)
            except NotFound:
                pass  # the choice is an old one
        return await self._find(table, request_id, token, workspace, cookie)

    async def _find(self, table: Known, request_id: str, token: str | None, workspace: str | None, cookie: str | None) -> Context:
        if token is not None and token.startswith(JOB_PREFIX):
            return await self._as_job(token, workspace, request_id)
        # Before the first table has come (generation 0) the database says what it would.
        auth = table.auth if table.generation else await run_sync(self._identity.auth_mode)
        if auth == "open":
            if token is not None and (not token or len(token) > _LONGEST or not token.isprintable()):
                raise Unauthenticated("The credential of this request is empty or no text. Leave it out: this server asks for none.")
            return await self._as_local(workspace, request_id)
        if token is not None:
            refuse_malformed(token)
            return await self._as_grant(digest(token), workspace, request_id)
        if cookie is not None and (session := _cookie(cookie, COOKIE)) is not None:
            return await self._as_grant(await self._session(session), workspace, request_id)
        raise Unauthenticated("This server asks for a key. Give one as 'Authorization: Bearer dt-…'; make one with: drivetrain keys create")

    def signed(self, request_id: str, method: str, path: str, signature: str) -> Context:
        """Whoever brings an address that this server signed."""
        return self._identity.context_of_url(method, path, signature, request_id=request_id)

    def _follow(self, table: Known) -> None:
        self._table = table
        self._grants = {grant.sha256: grant for grant in table.keys}
        self._workspaces = dict(table.workspaces)
        self._contexts.clear()
        self._asked.clear()

    async def _as_job(self, token: str, workspace: str | None, request_id: str) -> Context:
        context = self._identity.context_of_job(token, request_id=request_id)
        if workspace in (None, context.workspace):
            return context
        if not context.server_admin:
            raise Forbidden(f"This token is good for the workspace {context.workspace!r} only.")
        assert workspace is not None
        return Context(
            context.user_id, context.user_name, await self._workspace_id(workspace), workspace, context.scopes, None, request_id, True
        )

    async def _as_local(self, workspace: str | None, request_id: str) -> Context:
        """The user `local`, in any workspace."""
        if not self._local_user:
            self._local_user = (await run_sync(self._identity.local_context)).user_id
        slug = workspace or "default"
        return Context(self._local_user, LOCAL, await self._workspace_id(slug), slug, ALL_SCOPES, None, request_id, True)

    async def _workspace_id(self, slug: str) -> str:
        found = self._workspaces.get(slug)
        if found is None and self._may_ask(("", slug)):
            self._workspaces.update(await run_sync(self._identity.workspaces_map))
            found = self._workspaces.get(slug)
        if found is None:
            raise NotFound(f"There is no workspace {slug[:80]!r}. Make it with: drivetrain workspaces create", param="workspace")
        return found

    async def _as_grant(self, sha256: str, workspace: str | None, request_id: str) -> Context:
        known = self._contexts.get((sha256, workspace))
        if known is None:
            known = self._known_context(sha256, workspace)
            if known is None and self._may_ask((sha256, workspace)):
                grant = await run_sync(self._identity.grant, sha256)
                if grant is not None:
                    self._grants[sha256] = grant
                    if workspace not in self._workspaces or grant.default_workspace not in self._workspaces.values():
                        self._workspaces.update(await run_sync(self._identity.workspaces_map))
                known = self._known_context(sha256, workspace)
            if known is None:
                if sha256 in self._grants:
                    where = "its default workspace any more" if workspace is None else f"a workspace {workspace[:80]!r}, if there is one"
                    raise NotFound(f"This key may not use {where}. See those that it may use: drivetrain workspaces", param="workspace")
                raise Unauthenticated("This key is not known here, or was revoked. Make another with: drivetrain keys create")
            if len(self._contexts) >= _MOST:
                self._contexts.clear()
            self._contexts[sha256, workspace] = known
        context, expires_ms = known
        if expires_ms is not None and expires_ms < time.time() * 1000:
            raise Unauthenticated("This key has run out. Make another with: drivetrain keys create")
        return Context(
            context.user_id,
            context.user_name,
            context.workspace_id,
            context.workspace,
            context.scopes,
            context.key_id,
            request_id,
            context.server_admin,
        )

    def _known_context(self, sha256: str, workspace: str | None) -> tuple[Context, int | None] | None:
        grant = self._grants.get(sha256)
        if grant is None:
            return None
        if workspace is None:
            id_ = grant.default_workspace
            slug = next((slug for slug, other in self._workspaces.items() if other == id_), None)
        else:
            id_, slug = self._workspaces.get(workspace, ""), workspace
        scopes = grant.scopes.get(id_)
        if scopes is None or slug is None:
            return None
        context = Context(
            user_id=grant.user_id,
            user_name=grant.user_name,
            workspace_id=id_,
            workspace=slug,
            scopes=frozenset(Scope(scope) for scope in scopes),
            key_id=grant.key_id,
            server_admin=grant.server_admin,
        )
        return context, grant.expires_ms

    async def _session(self, token: str) -> str:
        """The hash of the key that a browser signed in with."""
        payload = self._identity.signer.verify(SESSION, token)
        session, now = str(payload.get("id", "")), time.monotonic()
        if session and self._sessions.get(session, 0.0) < now:
            if await run_sync(self._identity.session_ended, session):
                raise Unauthenticated("This session has ended. Sign in again.")
            if len(self._sessions) >= _MOST:
                self._sessions.clear()
            self._sessions[session] = now + _SESSION_FRESH
        return str(payload["key"])

    def _may_ask(self, what: tuple[str, str | None]) -> bool:
        """Whether to ask the database for something unknown: a wrong key that is tried over and over must not keep it busy."""
        now = time.monotonic()
        if self._asked.get(what, 0.0) > now:
            return False
        if len(self._asked) >= _MOST:
            self._asked.clear()
        self._asked[what] = now + _FRESH
        return True


def _cookie(header: str, name: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return morsel.value if morsel is not None and morsel.value else None
