"""The door: every request comes through here, once.

It chooses the dialect by the longest matching prefix (a switch on the path, in front of FastAPI), checks the Host and, for what changes
something, the Origin, finds out who asks, gives the request its id, and turns errors into the dialect's own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from drivetrain.errors import DrivetrainError, Forbidden, Invalid, Unauthenticated
from drivetrain.identity.model import Context
from drivetrain.store.ids import uuid7
from drivetrain.wire.request import Disconnected, Receive, Request, Scope, Send

log = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})
NOBODY = Context(user_id="", user_name="nobody", workspace_id="", workspace="", scopes=frozenset())


class Dialect(Protocol):
    """One wire protocol. It keeps no state."""

    @property
    def name(self) -> str: ...

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Where it is mounted. `request.path` is what follows."""

    def token(self, request: Request) -> str | None:
        """The key, where the protocol has its own place for it; None: the usual headers."""

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        """Status, body and content type of an error in the protocol's own form."""

    async def handle(self, request: Request) -> None: ...


class Authenticator(Protocol):
    """Finds out who asks."""

    async def __call__(self, request_id: str, token: str | None, workspace: str | None, cookie: str | None) -> Context:
        """Raises `Unauthenticated` or `Forbidden`."""


class App(Protocol):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Door:
    """The ASGI application. `rest` (FastAPI) gets what no dialect is mounted at; it finds the context in `scope["state"]`."""

    def __init__(
        self, dialects: Sequence[Dialect], rest: App, who: Authenticator, *, hosts: Sequence[str] = (), open_paths: Sequence[str] = ()
    ) -> None:
        self._mounts: dict[str, Dialect] = {prefix: dialect for dialect in dialects for prefix in dialect.prefixes}
        self._deepest = max((prefix.count("/") for prefix in self._mounts), default=1)
        self._rest = rest
        self._who = who
        self._hosts = LOOPBACK | frozenset(host.lower() for host in hosts)
        self._any_host = "*" in self._hosts
        self._good_hosts: dict[bytes, bool] = {}
        self._open = tuple(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._rest(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        dialect, mount = self._find(scope["path"])
        # A path with an escaped slash or a space has its raw form in raw_path; dialects take the decoded one.
        request = Request(scope, receive, send, NOBODY, uuid7(), scope["path"][len(mount) :] or "/")
        try:
            self._check(request, scope)
            if dialect is None:
                await self._pass_on(request, scope, receive, send)
                return
            request.context = await self._identify(request, dialect)
            await dialect.handle(request)
        except Disconnected:
            return
        except DrivetrainError as error:
            await self._fail(request, dialect, error)
        except UnicodeDecodeError:
            await self._fail(request, dialect, Invalid("The request is not valid UTF-8."))
        except Exception:
            log.exception("request %s: %s %s failed", request.id, request.method, scope["path"])
            await self._fail(request, dialect, DrivetrainError(f"The server failed at this request; its log says why, under {request.id}."))

    def _find(self, path: str) -> tuple[Dialect | None, str]:
        """The dialect with the longest prefix of whole segments."""
        end = len(path)
        while end > 0:
            found = self._mounts.get(path[:end])
            if found is not None:
                return found, path[:end]
            end = path.rfind("/", 0, end)
        return self._mounts.get(""), ""

    def _check(self, request: Request, scope: Scope) -> None:
        host, origin, site = b"", b"", b""
        for key, value in scope["headers"]:
            if key == b"host":
                host = value
            elif key == b"origin":
                origin = value
            elif key == b"sec-fetch-site":
                site = value
        good = self._good_hosts.get(host)
        if good is None:
            good = self._any_host or _name(host.decode("latin-1")) in self._hosts
            if len(self._good_hosts) < 100:
                self._good_hosts[host] = good
        if not good:
            shown = host.decode("latin-1", "replace")[:100]
            raise Forbidden(f"This server is not known as {shown!r}. If it should be, add the name to the setting allowed_hosts.")
        if (origin or site) and request.method not in SAFE_METHODS:
            same = site in (b"same-origin", b"none") or (not site and origin.partition(b"://")[2] == host)
            if not same:
                raise Forbidden(
                    "A page of another site asked for a change. Such requests are refused; ask from a program, or from the dashboard."
                )

    async def _identify(self, request: Request, dialect: Dialect | None) -> Context:
        token = dialect.token(request) if dialect is not None else None
        workspace, cookie = None, None
        for key, value in request.headers:
            if key == b"authorization" and token is None:
                token = bearer(value.decode("latin-1"))
            elif key == b"x-api-key" and token is None:
                token = value.decode("latin-1")
            elif key in (b"x-drivetrain-workspace", b"x-mlflow-workspace"):
                workspace = value.decode("latin-1")
            elif key == b"cookie":
                cookie = value.decode("latin-1")
        return await self._who(request.id, token, workspace, cookie)

    async def _pass_on(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """To FastAPI. Its answers get the request id; pages decide by themselves what somebody unknown may see."""
        state = scope.setdefault("state", {})
        state["request"] = request
        try:
            state["context"] = await self._identify(request, None)
        except (Unauthenticated, Forbidden) as error:
            if not any(scope["path"] == path or scope["path"].startswith(path + "/") for path in self._open):
                state["refused"] = error
            state["context"] = NOBODY

        async def send_with_id(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                request.answered = True
                headers = message.setdefault("headers", [])
                assert isinstance(headers, list)
                headers.append((b"x-request-id", request.id.encode()))
            await send(message)

        await self._rest(scope, receive, send_with_id)  # type: ignore[arg-type]

    async def _fail(self, request: Request, dialect: Dialect | None, error: DrivetrainError) -> None:
        if request.answered:
            return  # the answer has begun: nothing honest can be added to it but its end
        status, body, content_type = dialect.error(error, request.id) if dialect is not None else native_error(error, request.id)
        headers = []
        if after := getattr(error, "retry_after", None):
            headers.append(("retry-after", str(max(1, round(after)))))
        if status == 401:
            headers.append(("www-authenticate", 'Bearer realm="drivetrain"'))
        await request.respond(status, body, content_type, headers)


def native_error(error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
    """The native API's form of an error."""
    about = {"type": type(error).__name__, "message": error.message, "param": error.param, "request_id": request_id}
    return error.status, msgspec.json.encode({"error": about}), "application/json"


def bearer(value: str) -> str | None:
    """The key out of an Authorization header: Bearer, or the password of Basic (the user name, where there is no password)."""
    kind, _, rest = value.partition(" ")
    kind = kind.lower()
    if kind == "bearer":
        return rest.strip()
    if kind == "basic":
        import base64
        import binascii

        try:
            user, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Unauthenticated("The Authorization header is not valid Basic authentication.") from None
        return password or user
    return None


def _name(host: str) -> str:
    """The host's name without its port, in lower case."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
