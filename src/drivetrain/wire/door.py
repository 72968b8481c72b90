"""The door: every request comes through here, once.

It finds what answers in one table of all paths (see routing.py), checks the Host and, for what changes something, the Origin, finds out who
asks, gives the request its id, and turns errors into the form of the dialect that the path belongs to.
"""

from __future__ import annotations

import base64
import binascii
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from drivetrain.errors import DrivetrainError, Forbidden, Invalid, MethodNotAllowed, NotFound, Unauthenticated
from drivetrain.identity.model import Context
from drivetrain.identity.service import SIGNATURE
from drivetrain.store.ids import uuid7
from drivetrain.wire.hosts import Hosts
from drivetrain.wire.meter import Meter
from drivetrain.wire.request import Disconnected, Receive, Request, Scope, Send, too_large
from drivetrain.wire.routing import Endpoint, Match, Table, raw_path, segments

log = logging.getLogger(__name__)

_MOST_PATHS = 2048
_LONGEST_PATH = 200
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PROTECTED = ((b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"DENY"), (b"referrer-policy", b"same-origin"))
_Shown = tuple[str | None, str | None, str | None]
"""Token, workspace and cookies, as a request brings them."""
_SIGNED = f"{SIGNATURE}=".encode()
NOBODY = Context(user_id="", user_name="nobody", workspace_id="", workspace="", scopes=frozenset())


class Dialect(Protocol):
    """One wire protocol. It keeps no state."""

    @property
    def name(self) -> str: ...

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Where it is mounted: what is below is told in its own form, served or not."""

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        """What it serves below a mount; "" on a port of its own."""

    def unserved(self, request: Request) -> DrivetrainError:
        """Its error for a path that it does not serve."""

    def token(self, request: Request) -> str | None:
        """The key, where the protocol has its own place for it; None: the usual headers."""

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        """Status, body and content type of an error in the protocol's own form."""


class Authenticator(Protocol):
    """Finds out who asks."""

    async def __call__(self, request_id: str, token: str | None, workspace: str | None, cookie: str | None, /) -> Context:
        """By a key, a token, or the cookies of a browser. Raises `Unauthenticated`, `Forbidden` or `NotFound`."""


Signed = Callable[[str, str, str, str], Context]
"""Finds out who asks by an address that this server signed: request id, method, address, signature. Raises `Unauthenticated`."""


class Rest(Protocol):
    """What stands behind all dialects: FastAPI, with the native API and the pages."""

    def endpoints(self) -> Iterable[tuple[Iterable[str], str, Any]]:
        """Methods, pattern, and what the table has chosen when they fit: it is found as `CHOSEN` in the scope's state."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


CHOSEN = "chosen"


@dataclass(frozen=True, slots=True)
class _Row:
    """What the table has for a pattern. `dialect` None: the rest's, which gets `target` back."""

    dialect: Dialect | None
    handle: Callable[..., Awaitable[None]] | None
    target: Any = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What a path means. `path` is what follows the mount, decoded; `moved`: the same without the slash at its end is meant."""

    dialect: Dialect | None
    path: str
    match: Match[_Row] | None
    moved: bool = False


class Door:
    """The ASGI application. `rest` gets what is of no dialect; it finds the context in `scope["state"]`.

    A dialect mounted at "" has a port of its own. Pages and operations of the rest at `open_paths` and below them may be seen by anybody.
    """

    def __init__(
        self,
        mounts: Sequence[Dialect] | Mapping[str, Dialect],
        rest: Rest | None,
        who: Authenticator,
        *,
        signed: Signed | None = None,
        hosts: Hosts | None = None,
        open_paths: Sequence[str] = (),
        meter: Meter | None = None,
        most_body: int = 32 << 20,
    ) -> None:
        at = mounts if isinstance(mounts, Mapping) else {prefix: dialect for dialect in mounts for prefix in dialect.prefixes}
        self._mounts = {tuple(prefix.split("/")[1:]): dialect for prefix, dialect in at.items()}
        self._deepest = max(map(len, self._mounts), default=0)
        self._table: Table[_Row] = Table()
        for prefix, dialect in at.items():
            for one in dialect.endpoints(prefix):
                self._table.add(one.methods, (prefix + one.path.rstrip("/")) or "/", _Row(dialect, one.handle))
        for methods, pattern, target in rest.endpoints() if rest is not None else ():
            self._table.add(methods, pattern, _Row(None, None, target))
        self._found: dict[tuple[str, bytes], _Found] = {}
        self._rest = rest
        self._who = who
        self._signed = signed
        self._hosts = hosts or Hosts()
        self._open = tuple(open_paths)
        self.meter = meter or Meter()
        self._most_body = most_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan" and self._rest is not None:
                await self._rest(scope, receive, send)
            elif scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            return
        began = time.perf_counter()
        found = self._find(scope["method"], raw_path(scope))
        request = Request(scope, receive, send, NOBODY, uuid7(), found.path)
        try:
            await self._serve(request, found, scope, receive, send)
        finally:
            dialect = found.dialect
            self.meter.count("native" if dialect is None else dialect.name, request.status, time.perf_counter() - began)

    async def _serve(self, request: Request, found: _Found, scope: Scope, receive: Receive, send: Send) -> None:
        dialect, match = found.dialect, found.match
        try:
            shown = self._check(request, scope, dialect)
            if dialect is None:
                await self._pass_on(request, found, shown, scope, receive, send)
                return
            request.context = await self._identify(request, scope, shown)
            if match is None:
                raise dialect.unserved(request)
            if match.target is None:
                raise _not_allowed(request, match)
            assert match.target.handle is not None
            await match.target.handle(request, **match.params)
        except Disconnected:
            if not request.status:
                request.status = 499
        except DrivetrainError as error:
            await self._fail(request, dialect, error)
        except UnicodeDecodeError:
            await self._fail(request, dialect, Invalid("The request is not valid UTF-8."))
        except Exception:
            log.exception("request %s: %s %s failed", request.id, request.method, scope["path"])
            await self._fail(request, dialect, DrivetrainError(f"The server failed at this request; its log says why, under {request.id}."))

    def _find(self, method: str, raw: bytes) -> _Found:
        found = self._found.get((method, raw))
        if found is None:
            found = self._search(method, segments(raw))
            if len(raw) <= _LONGEST_PATH:
                if len(self._found) >= _MOST_PATHS:
                    self._found.clear()
                self._found[method, raw] = found
        return found

    def _search(self, method: str, parts: list[str]) -> _Found:
        # Unless a pattern takes it, the slash at the end of a path says nothing.
        match, moved = self._table.find(method, parts), False
        if match is None and len(parts) > 1 and not parts[-1]:
            match = self._table.find(method, parts[:-1])
            moved = match is not None
        mount, dialect = self._mount(parts)
        if match is not None:
            # The pattern says whose it is, also where a page stands at a dialect's address.
            dialect = match.owner.dialect
        return _Found(dialect, "/" + "/".join(parts[mount:]), match, moved)

    def _mount(self, parts: list[str]) -> tuple[int, Dialect | None]:
        """The longest prefix of whole segments at which a dialect is mounted."""
        for end in range(min(len(parts), self._deepest), -1, -1):
            if (found := self._mounts.get(tuple(parts[:end]))) is not None:
                return end, found
        return 0, None

    def _check(self, request: Request, scope: Scope, dialect: Dialect | None) -> _Shown:
        """One look at the headers: refuse a wrong Host and another site's page, and note what says who asks."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"")
        if not self._hosts.known(host):
            shown = host.decode("latin-1", "replace")[:100]
            raise Forbidden(f"This server is not known as {shown!r}. If it should be, add the name to the setting allowed_hosts.")
        if request.method not in SAFE_METHODS:
            site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
            # Browsers say where a request comes from; old ones, and those on plain http, at least from which origin.
            if (site not in (b"same-origin", b"none")) if site else (origin and origin.partition(b"://")[2] != host):
                raise Forbidden(
                    "A page of another site asked for a change. Such requests are refused; ask from a program, or from the dashboard."
                )
        token = dialect.token(request) if dialect is not None else None
        if token is None:
            if authorization := headers.get(b"authorization"):
                token = credential(authorization.decode("latin-1"))
            elif key := headers.get(b"x-api-key") or headers.get(b"api-key"):
                token = key.decode("latin-1").strip()
        workspace = headers.get(b"x-drivetrain-workspace") or headers.get(b"x-mlflow-workspace")
        cookie = headers.get(b"cookie")
        return token, workspace.decode("latin-1") if workspace else None, cookie.decode("latin-1") if cookie else None

    async def _identify(self, request: Request, scope: Scope, shown: _Shown) -> Context:
        token, workspace, cookie = shown
        query: bytes = scope["query_string"]
        if token is None and self._signed is not None and _SIGNED in query:
            # The signature comes last, and what stands before it is what was signed.
            before, _, signature = query.decode("latin-1").rpartition(f"{SIGNATURE}=")
            path = str(scope.get("raw_path", b"").decode("latin-1") or scope["path"]).partition("?")[0]
            return self._signed(request.id, request.method, f"{path}?{before}".rstrip("?&"), signature)
        return await self._who(request.id, token, workspace, cookie)

    async def _pass_on(self, request: Request, found: _Found, shown: _Shown, scope: Scope, receive: Receive, send: Send) -> None:
        """To FastAPI. Its answers get the request id; pages decide by themselves what somebody unknown may see."""
        match = found.match
        if match is None:
            raise NotFound(f"There is nothing at {scope['path'][:_LONGEST_PATH]}. The API is described at /api/v1/docs.")
        if match.target is None:
            raise _not_allowed(request, match)
        if found.moved:
            query = scope["query_string"].decode("latin-1")
            there = raw_path(scope).decode("latin-1").rstrip("/") + (f"?{query}" if query else "")
            await request.respond(307, b"", "text/plain", [("location", there)])
            return
        state = scope.setdefault("state", {})
        state["request"] = request
        state[CHOSEN] = match.target.target, match.params
        try:
            state["context"] = await self._identify(request, scope, shown)
        except DrivetrainError as error:
            if not any(match.pattern == path or match.pattern.startswith(path + "/") for path in self._open):
                state["refused"] = error
            state["context"] = NOBODY

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                headers = list(message.get("headers", ()))
                named = {name for name, _ in headers}
                headers += [pair for pair in PROTECTED if pair[0] not in named]
                if b"x-request-id" not in named:
                    headers.append((b"x-request-id", request.id.encode()))
                message["headers"] = headers
            await send(message)

        seen = 0

        async def receive_bounded() -> MutableMapping[str, Any]:
            # FastAPI reads a body whole, and before it knows who asks. (Files come in by `Request.save`, which does not pass here.)
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most_body:
                raise too_large(self._most_body)
            return message

        assert self._rest is not None
        await self._rest(scope, receive_bounded, send_with_id)

    async def _fail(self, request: Request, dialect: Dialect | None, error: DrivetrainError) -> None:
        if request.status:
            return  # the answer has begun: nothing honest can be added to it but its end
        status, body, content_type = dialect.error(error, request.id) if dialect is not None else native_error(error, request.id)
        headers = []
        if after := getattr(error, "retry_after", None):
            headers.append(("retry-after", str(max(1, round(after)))))
        if status == 401:
            headers.append(("www-authenticate", 'Bearer realm="drivetrain"'))
        if isinstance(error, MethodNotAllowed):
            headers.append(("allow", ", ".join(error.allowed)))
        if dialect is None:
            headers += [(name.decode(), value.decode()) for name, value in PROTECTED]
        await request.respond(status, body, content_type, headers)


def _not_allowed(request: Request, match: Match[_Row]) -> MethodNotAllowed:
    takes = ", ".join(match.allowed)
    return MethodNotAllowed(f"{request.path[:_LONGEST_PATH]} takes {takes}, not {request.method[:_LONGEST_PATH]}.", allowed=match.allowed)


def native_error(error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
    """The native API's form of an error."""
    about = {"type": type(error).__name__, "message": error.message, "param": error.param, "request_id": request_id}
    return error.status, msgspec.json.encode({"error": about}), "application/json"


def credential(value: str) -> str:
    """The key out of an Authorization header: Bearer, or the password of Basic (the user name, where there is no password).

    Raises `Unauthenticated` for a header that holds none.
    """
    kind, _, rest = value.partition(" ")
    kind, rest = kind.lower(), rest.strip()
    if kind in ("bearer", "token") and rest:
        return rest
    if kind == "basic":
        try:
            user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            raise Unauthenticated("The Authorization header is not valid Basic authentication: base64 of user:key.") from None
        if password or user:
            return password or user
    raise Unauthenticated("The Authorization header holds no key. Give one as 'Authorization: Bearer dt-…', or as the password of Basic.")
