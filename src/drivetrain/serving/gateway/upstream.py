"""A small HTTP/1.1 client for replicas: asyncio protocol and httptools, nothing else.

It knows what a gateway needs and no more: a bounded pool of idle connections, one retry on a connection that the replica had closed
meanwhile, back-pressure (a reader who does not read stops the replica from writing), one deadline per answer, and cancelling by
closing the connection. An answer that was not read to its end closes its connection, so that an engine stops working for nobody.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator

import httptools

from drivetrain.compute.address import Address
from drivetrain.errors import UpstreamFailed, UpstreamTimeout

HIGH_WATER = 256 * 1024
MOST_BODY = 512 * 1024 * 1024
CONNECT_SECONDS = 5.0


class Lost(Exception):  # noqa: N818 - a signal inside the package, not an error that anybody sees
    """The replica went away. `sent` is false when it cannot have seen the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class _Connection(asyncio.Protocol):
    """One connection: one request at a time, its answer in pieces."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._paused = False
        self._flow = False  # stop the replica when nobody reads
        self._whole = False  # wake the reader only at the end
        self._last = False  # engines may close connections after a stream that they announced as kept: never keep those
        self._framed = False
        self._error: Exception | None = None
        self.transport: asyncio.Transport | None = None
        self.used = 0
        self.status = 0
        self.content_type = ""
        self.started = False
        self.complete = True
        self.reusable = False

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.complete:
            self.close()  # nobody asked: whatever this is, it is not an answer
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(UpstreamFailed(f"The replica did not answer in HTTP: {error}"))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.reusable = False
        if self.complete:
            return
        if self.started and not self._framed and exc is None:
            self.complete = True  # a body without a length ends with its connection
            self._wake()
        else:
            self._fail(Lost("the connection to the replica broke", sent=True))

    # httptools calls these.

    def on_message_begin(self) -> None:
        self._framed = False
        self.content_type = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.started = True

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered += len(body)
        if self._whole:
            if self._buffered > MOST_BODY:
                self._fail(UpstreamFailed("The replica's answer is larger than the gateway accepts."))
            return
        if self._flow and self._buffered > HIGH_WATER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        self.complete = True
        self.reusable = self._framed and not self._last and self._parser.should_keep_alive()
        self._wake()

    # The client calls these.

    def begin(self, head: bytes, body: bytes, *, whole: bool, last: bool) -> None:
        assert self.transport is not None
        self._last = last
        self._pieces.clear()
        self._buffered = 0
        self.complete = self.started = self._flow = False
        self._error = None
        self._whole = whole
        self.used += 1
        if len(body) < 65536:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    async def ready(self) -> None:
        """Wait for a piece of the body or the end (`whole`: for the end)."""
        while not self.complete and (self._whole or not self._pieces):
            await self._wait()
        if self._error is not None:
            raise self._error
        self._flow = True

    async def read(self) -> bytes:
        """What has arrived since the last call; waits for at least one byte. b"" is the end."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            await self._wait()
        return self.take()

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        self._buffered = 0
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def expire(self, seconds: float) -> None:
        self._fail(UpstreamTimeout(f"The replica did not finish its answer within {seconds:g} seconds (setting request_seconds)."))

    def close(self) -> None:
        self.reusable = False
        if self.transport is not None:
            self.transport.abort()
            self.transport = None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self.complete:
            self.complete = True
            self._error = error
            self._wake()
        self.close()


class Answer:
    """A replica's answer: the whole of it in `body`, or a stream that is read with `chunks`."""

    __slots__ = ("_connection", "_pool", "_timer", "body", "content_type", "status")

    def __init__(self, pool: Upstream, connection: _Connection, timer: asyncio.TimerHandle) -> None:
        self._pool = pool
        self._connection: _Connection | None = connection
        self._timer = timer
        self.status = connection.status
        self.content_type = connection.content_type
        self.body = connection.take() if connection.complete else b""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises `UpstreamFailed` or `UpstreamTimeout` when it breaks off."""
        if self.body:
            yield self.body
        try:
            while self._connection is not None and (piece := await self._connection.read()):
                yield piece
        except Lost as error:
            raise UpstreamFailed("The replica went away in the middle of its answer. Ask again: another one will take over.") from error

    async def rest(self) -> bytes:
        """All of the body that has not been read (for errors, which are short)."""
        return b"".join([piece async for piece in self.chunks()])

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else close it. May be called again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._timer.cancel()
            self._pool._give_back(connection)


class Upstream:
    """The connections to one replica."""

    def __init__(self, address: str, *, reuse: bool = True, most_idle: int = 64) -> None:
        self.address = address
        self._at = Address.parse(address)
        self._reuse = reuse
        self._most_idle = most_idle
        self._idle: deque[_Connection] = deque()
        self._closed = False
        self.open = 0

    async def request(
        self, target: str, body: bytes, *, request_id: str = "", method: str = "POST", stream: bool = False, seconds: float = 600.0
    ) -> Answer:
        """Send a request. With `stream` the answer returns at its first byte, else at its last.

        Raises `Lost` when the replica went away before that, `UpstreamTimeout` when it took longer than `seconds`.
        """
        loop = asyncio.get_running_loop()
        keep = self._reuse and not stream
        head = (
            f"{method} {target} HTTP/1.1\r\nhost: replica\r\ncontent-type: application/json\r\nx-request-id: {request_id}\r\n"
            f"content-length: {len(body)}\r\n{'' if keep else 'connection: close' + chr(13) + chr(10)}\r\n"
        ).encode("latin-1")
        while True:
            connection = self._take_idle() if keep else None
            if connection is None:
                connection = await self._connect(loop, seconds)
            timer = loop.call_later(seconds, connection.expire, seconds)
            try:
                connection.begin(head, body, whole=not stream, last=not keep)
                await connection.ready()
            except Lost:
                timer.cancel()
                fresh, begun = connection.used <= 1, connection.started
                self._give_back(connection)
                if fresh or begun:
                    raise
                continue  # a kept connection that the replica had given up: try the next, at last a fresh one
            except BaseException:
                timer.cancel()
                self._give_back(connection)
                raise
            answer = Answer(self, connection, timer)
            if not stream:
                answer.close()
            return answer

    def close(self) -> None:
        """Close what is idle; what is in use closes when it is given back."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.popleft())

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()  # the warmest
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
            self._drop(connection)
        return None

    def _give_back(self, connection: _Connection) -> None:
        if self._reuse and connection.reusable and connection.complete and not self._closed and len(self._idle) < self._most_idle:
            self._idle.append(connection)
        else:
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        connection.close()
        self.open -= 1

    async def _connect(self, loop: asyncio.AbstractEventLoop, seconds: float) -> _Connection:
        connection = await (self._dial_unix(loop, seconds) if self._at.path else self._dial(loop, seconds))
        self.open += 1
        return connection

    async def _dial(self, loop: asyncio.AbstractEventLoop, seconds: float) -> _Connection:
        try:
            async with asyncio.timeout(min(seconds, CONNECT_SECONDS)):
                _, connection = await loop.create_connection(lambda: _Connection(loop), self._at.host, self._at.port)
        except (OSError, TimeoutError) as error:
            raise Lost(
                f"no replica listens at its address: {getattr(error, 'strerror', None) or 'it took too long'}", sent=False
            ) from error
        return connection

    async def _dial_unix(self, loop: asyncio.AbstractEventLoop, seconds: float) -> _Connection:
        end = loop.time() + min(seconds, CONNECT_SECONDS)
        pause = 0.001
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                sock.connect(self._at.path)
                break
            except BlockingIOError as error:  # the replica's backlog is full: Unix sockets say so at once
                sock.close()
                if loop.time() > end:
                    raise Lost("the replica accepts no more connections", sent=False) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.05)
            except OSError as error:
                sock.close()
                raise Lost(f"no replica listens on its socket: {error.strerror}", sent=False) from error
            except BaseException:
                sock.close()
                raise
        try:
            _, connection = await loop.create_connection(lambda: _Connection(loop), sock=sock)
        except BaseException:
            sock.close()
            raise
        return connection
