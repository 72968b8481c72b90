"""A small HTTP/1.1 server, for replicas whose engine has none.

Only our own gateway and loops speak to it, so it knows what they use: whole requests, whole answers, connections that stay open. It does
not know what a model is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import httptools

from drivetrain.compute.address import Address

log = logging.getLogger(__name__)

MOST_BODY = 256 << 20
BACKLOG = 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"


Handle = Callable[[str, str, bytes], "Answer | asyncio.Future[Answer]"]
"""(method, path, body) → the answer, now or later. It must not raise. A future is cancelled when its client goes away."""


class Server:
    """`start`, then `stop`: what has begun is finished first."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self.stopping = False

    async def start(self, address: str) -> None:
        """Listen there. A socket file that an earlier life left is taken over."""
        path, host, port = Address.parse(address)
        loop = asyncio.get_running_loop()
        if path:
            Path(path).unlink(missing_ok=True)
            self._server = await loop.create_unix_server(lambda: _Connection(self, self._handle), path, backlog=BACKLOG)
        else:
            self._server = await loop.create_server(lambda: _Connection(self, self._handle), host, port, backlog=BACKLOG)

    async def stop(self, seconds: float) -> None:
        """No new connections; those that wait for an answer get it, if that takes no longer than `seconds`."""
        assert self._server is not None
        self.stopping = True
        self._server.close()
        for connection in list(self._connections):
            connection.close_when_idle()
        if self._connections:
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                log.warning("%d requests were not finished within %g s", len(self._connections), seconds)

    def opened(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def closed(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if self.stopping and not self._connections:
            self._empty.set()


class _Connection(asyncio.Protocol):
    """One connection. Answers go out in the order of their requests, one at a time."""

    def __init__(self, server: Server, handle: Handle) -> None:
        self._server = server
        self._handle = handle
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._waiting: deque[tuple[str, str, bytes, bool]] = deque()
        self._current: asyncio.Future[Answer] | None = None
        self._keep = True
        self._reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.clear()
        if self._current is not None:
            self._current.cancel()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, b'{"error":"this server speaks HTTP/1.1 only"}')
        except httptools.HttpParserError:
            self._refuse(400, b'{"error":"this is not HTTP"}')

    def close_when_idle(self) -> None:
        self._keep = False
        if self._current is None and not self._waiting and self._size == 0:
            self._transport.close()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._url = b""
        self._pieces = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MOST_BODY:
            self._refuse(413, b'{"error":"the request is too large"}')
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        self._size = 0
        path = self._url.partition(b"?")[0].decode("latin-1")
        self._waiting.append((self._parser.get_method().decode(), path, body, self._parser.should_keep_alive()))
        if self._current is None:
            self._next()
        elif self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _next(self) -> None:
        while self._waiting and not self._transport.is_closing():
            method, path, body, keep = self._waiting.popleft()
            self._keep = keep and not self._server.stopping
            answer = self._handle(method, path, body)
            if isinstance(answer, asyncio.Future):
                self._current = answer
                answer.add_done_callback(self._done)
                return
            self._write(answer)
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _done(self, future: asyncio.Future[Answer]) -> None:
        self._current = None
        if not future.cancelled() and not self._transport.is_closing():
            self._write(future.result())
            self._next()

    def _write(self, answer: Answer) -> None:
        close = "" if self._keep else "connection: close\r\n"
        reason = _REASONS.get(answer.status, "Unknown")
        head = (
            f"HTTP/1.1 {answer.status} {reason}\r\ncontent-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\n{close}\r\n"
        )
        self._transport.write(head.encode() + answer.body)
        if not self._keep:
            self._transport.close()

    def _refuse(self, status: int, body: bytes) -> None:
        if not self._transport.is_closing():
            self._keep = False
            self._write(Answer(status, body))
