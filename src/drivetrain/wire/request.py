"""One request over raw ASGI: what dialects need of it, and nothing that costs on the hot path.

Header names and values are looked up in the ASGI list as they are; nothing is parsed before somebody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs, quote

import msgspec

from drivetrain.errors import Invalid, TooLarge
from drivetrain.identity.model import Context
from drivetrain.store.blobs import Blob, Blobs

P = ParamSpec("P")
T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[str, str]]
Write = Callable[[bytes], Awaitable[None]]

UPLOAD_PIECE = 1 << 20
_LONGEST_RANGE = 64

_pool = ThreadPoolExecutor(max_workers=24, thread_name_prefix="verb")
_json = msgspec.json.Encoder()


async def run_sync(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a verb of the control plane in the pool of threads that is bounded for all of them."""
    return await asyncio.get_running_loop().run_in_executor(_pool, lambda: function(*args, **kwargs))


class Disconnected(Exception):  # noqa: N818  an event, not an error
    """The client has gone: nobody reads what would be written."""


class Request:
    """`path` is what follows the mount. `id` is the `x-request-id` of the answer, and the id of the event if there is one."""

    __slots__ = ("_body", "_receive", "_scope", "_send", "context", "id", "method", "path", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, context: Context, request_id: str, path: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body: bytes | None = None
        self.context = context
        self.id = request_id
        self.method: str = scope["method"]
        self.path = path
        self.status = 0  # of the answer; 0 until it has begun

    # What came in.

    def header(self, name: str) -> str | None:
        """The value of the header with this lower-case name."""
        wanted = name.encode("latin-1")
        for key, value in self._scope["headers"]:
            if key == wanted:
                return str(value.decode("latin-1"))
        return None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return list(self._scope["headers"])

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self._scope["query_string"].decode("latin-1"), keep_blank_values=True)

    @property
    def base_url(self) -> str:
        """Address under which the client reached this server, without a path."""
        return f"{self._scope['scheme']}://{self.header('host') or '127.0.0.1'}"

    @property
    def url(self) -> str:
        """The address that was asked for, without its query."""
        raw = self._scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
        return self.base_url + (raw or quote(self._scope["path"]))

    async def body(self, limit: int) -> bytes:
        """All of the body. Raises `TooLarge` above `limit` bytes, before it has been read."""
        if self._body is None:
            self._body = await self._read(limit)
        return self._body

    async def _read(self, limit: int) -> bytes:
        message = await self._message()
        piece: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(piece) > limit:
                raise too_large(limit)
            return piece
        announced = self.header("content-length")
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise too_large(limit)
        pieces, size = [piece], len(piece)
        while message.get("more_body", False):
            message = await self._message()
            piece = message.get("body", b"")
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            pieces.append(piece)
        return b"".join(pieces)

    async def _message(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        return message

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive."""
        more = True
        while more:
            message = await self._message()
            if piece := message.get("body", b""):
                yield piece
            more = message.get("more_body", False)

    async def json(self, type: type[T], limit: int = 32 << 20) -> T:  # noqa: A002  msgspec's own name for it
        """The body as `type`. Raises `Invalid` that says where it does not fit."""
        try:
            return msgspec.json.decode(await self.body(limit) or b"{}", type=type)
        except msgspec.ValidationError as error:
            raise Invalid(f"The request's body does not fit: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"The request's body is not valid JSON: {error}") from None

    async def save(self, blobs: Blobs, limit: int, *, sha256: str | None = None, size: int | None = None, md5: bool = False) -> Blob:
        """Stream the body into a blob, with bounded memory and the writing off the event loop; `md5`: take that, too."""
        announced = self.header("content-length")
        if announced is not None and announced.isdigit():
            if int(announced) > limit:
                raise too_large(limit)
            size = int(announced) if size is None else size
        upload = await run_sync(blobs.begin, size=size, md5=md5)
        writing: asyncio.Future[None] | None = None
        try:
            seen, pieces, held = 0, list[bytes](), 0
            async for piece in self.stream():
                seen += len(piece)
                if seen > limit:
                    raise too_large(limit)
                pieces.append(piece)
                held += len(piece)
                if held >= UPLOAD_PIECE:
                    if writing is not None:
                        await writing
                    # Hashing and writing one piece while the next comes in.
                    writing = asyncio.ensure_future(run_sync(upload.write, b"".join(pieces)))
                    pieces, held = [], 0
            if writing is not None:
                await writing
            if pieces:
                await run_sync(upload.write, b"".join(pieces))
            return await run_sync(upload.finish, sha256=sha256, size=size)
        except BaseException:
            if writing is not None:
                writing.add_done_callback(_seen)
            # Not awaited by thread: a cancelled request must not leave its half upload behind.
            upload.abort()
            raise

    async def disconnected(self) -> None:
        """Return when the client has gone. Call it only after the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    # What goes out.

    async def respond(self, status: int, body: bytes, content_type: str, headers: Headers = ()) -> None:
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": self._head(content_type, headers, len(body))})
        await self._send({"type": "http.response.body", "body": body if self.method != "HEAD" else b""})

    async def respond_json(self, value: Any, status: int = 200, headers: Headers = ()) -> None:
        await self.respond(status, _json.encode(value), "application/json", headers)

    @asynccontextmanager
    async def streaming(
        self, content_type: str, headers: Headers = (), status: int = 200, *, length: int | None = None
    ) -> AsyncIterator[Write]:
        """`async with request.streaming(…) as write`: each `write(piece)` is sent at once. Raises `Disconnected` from `write` or from the
        block's body when the client leaves."""
        self.status = status
        send = self._send
        await send({"type": "http.response.start", "status": status, "headers": self._head(content_type, headers, length)})
        gone = False
        task = asyncio.current_task()
        assert task is not None

        def leave(watch: asyncio.Task[None]) -> None:
            nonlocal gone
            if not watch.cancelled():
                gone = True
                task.cancel()

        watch = asyncio.get_running_loop().create_task(self.disconnected())
        watch.add_done_callback(leave)

        async def write(piece: bytes) -> None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        try:
            yield write
        except asyncio.CancelledError:
            if gone:
                task.uncancel()
                raise Disconnected from None
            raise
        finally:
            watch.remove_done_callback(leave)
            watch.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def respond_blob(self, blobs: Blobs, sha256: str, *, name: str = "", content_type: str = "application/octet-stream") -> None:
        """Send a blob, or the range of it that the client asks for (RFC 9110 §14: one range; others get it all)."""
        blob = await run_sync(blobs.stat, sha256)
        headers = [("accept-ranges", "bytes"), ("etag", f'"{sha256}"'), ("x-content-type-options", "nosniff")]
        # What users stored is shown by itself, without our origin: a stored page must not act as the one who looks at it.
        headers.append(("content-security-policy", "sandbox"))
        if name:
            headers.append(("content-disposition", f"attachment; filename*=UTF-8''{_quoted(name)}"))
        if self.header("if-none-match") == f'"{sha256}"':
            await self.respond(304, b"", content_type, headers)
            return
        start, end, status = 0, blob.size, 200
        if wanted := _range(self.header("range"), blob.size):
            start, end = wanted
            status = 206
            if start >= end:
                await self.respond(416, b"", content_type, [*headers, ("content-range", f"bytes */{blob.size}")])
                return
            headers.append(("content-range", f"bytes {start}-{end - 1}/{blob.size}"))
        if self.method == "HEAD":
            self.status = status
            await self._send({"type": "http.response.start", "status": status, "headers": self._head(content_type, headers, end - start)})
            await self._send({"type": "http.response.body", "body": b""})
            return
        pieces = await run_sync(blobs.read, sha256, start, end)
        async with self.streaming(content_type, headers, status, length=end - start) as write:
            while (piece := await run_sync(next, pieces, b"")) != b"":
                await write(piece)

    def _head(self, content_type: str, headers: Headers, length: int | None) -> list[tuple[bytes, bytes]]:
        head = [(b"content-type", content_type.encode("latin-1")), (b"x-request-id", self.id.encode())]
        if length is not None:
            head.append((b"content-length", str(length).encode()))
        head.extend((key.encode("latin-1"), value.encode("latin-1")) for key, value in headers)
        return head


def _seen(done: asyncio.Future[None]) -> None:
    """Its failure has another reader already."""
    if not done.cancelled():
        done.exception()


def too_large(limit: int) -> TooLarge:
    shown = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
    return TooLarge(
        f"The request's body is larger than {shown}, the most that is accepted here (settings max_body_bytes, upload_max_bytes)."
    )


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of a single byte range; None for none, or for a form that we may ignore."""
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    first, dash, last = header[6:].strip().partition("-")
    if not dash or not (first or last) or not ((first + last).isascii() and (first + last).isdigit()) or len(header) > _LONGEST_RANGE:
        return None
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def _quoted(name: str) -> str:
    return quote(name, safe="")
