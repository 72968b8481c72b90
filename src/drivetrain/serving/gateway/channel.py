"""Nudges between the supervisor and its web processes, over one Unix socket.

Frames are a 4-byte big-endian length and JSON. The supervisor sends whole route tables; a web process sends what it wants looked at, and
how many requests it has in flight. A lost frame costs time, never correctness: the database is the truth, and both sides look again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from drivetrain.serving.routes import RoutesHolder, Snapshot

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">I")
MOST = 256 << 20
REPORT_SECONDS = 1.0
RETRY_SECONDS = 0.5
SEND_SECONDS = 5


class Message(Struct, omit_defaults=True, kw_only=True):
    """What a web process says. `op`: nudge (`what` has changed), wake (start the deployment `what`), inflight (`counts` by deployment)."""

    op: str
    what: str = ""
    counts: dict[str, int] = {}


class ChannelServer:
    """The supervisor's end: one thread accepts, one reads for each web process."""

    def __init__(self, path: Path, on_message: Callable[[Message], None]) -> None:
        self._on_message = on_message
        self._lock = threading.Lock()
        self._peers: dict[socket.socket, threading.Lock] = {}
        self._inflight: dict[socket.socket, dict[str, int]] = {}
        self._last = b""
        self._closed = False
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(64)
        threading.Thread(target=self._accept, name="channel", daemon=True).start()

    def publish(self, snapshot: Snapshot) -> None:
        """Send this table to everybody, now and to those who come later."""
        frame = msgspec.json.encode(snapshot)
        with self._lock:
            self._last = frame
            peers = list(self._peers.items())
        for peer, sending in peers:
            self._send(peer, sending, frame)

    def inflight(self) -> dict[str, int]:
        """Requests in flight by deployment, over all web processes."""
        total: dict[str, int] = {}
        with self._lock:
            for counts in self._inflight.values():
                for deployment, count in counts.items():
                    total[deployment] = total.get(deployment, 0) + count
        return total

    def close(self) -> None:
        self._closed = True
        with self._lock:
            peers = list(self._peers)
        # Closing alone would not wake the threads that wait for these.
        for waited_for in (self._listener, *peers):
            with contextlib.suppress(OSError):
                waited_for.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                log.warning("a web process could not be let into the channel: %s", error)  # no file descriptor free, say
                time.sleep(RETRY_SECONDS)
                continue
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
            sending = threading.Lock()
            with sending:  # a newer table that is published meanwhile waits, so that it is not followed by this one
                with self._lock:
                    self._peers[peer] = sending
                    frame = self._last
                if frame:
                    self._put(peer, frame)
            threading.Thread(target=self._read, args=(peer,), name="channel-peer", daemon=True).start()

    def _send(self, peer: socket.socket, sending: threading.Lock, frame: bytes) -> None:
        with sending:
            self._put(peer, frame)

    def _put(self, peer: socket.socket, frame: bytes) -> None:
        try:
            peer.sendall(_HEAD.pack(len(frame)) + frame)
        except OSError:
            # Some of it may have gone out, and nothing can follow half a frame: the web process comes back by itself.
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def _read(self, peer: socket.socket) -> None:
        decoder = msgspec.json.Decoder(Message)
        try:
            with peer, peer.makefile("rb") as stream:
                while head := stream.read(_HEAD.size):
                    message = decoder.decode(stream.read(_HEAD.unpack(head)[0]))
                    if message.op == "inflight":
                        with self._lock:
                            self._inflight[peer] = message.counts
                    self._on_message(message)
        except (OSError, struct.error, msgspec.DecodeError):
            log.info("a web process has gone from the channel")
        finally:
            with self._lock:
                self._peers.pop(peer, None)
                self._inflight.pop(peer, None)


class ChannelClient:
    """A web process's end. Sends from any thread."""

    def __init__(self, path: Path, routes: RoutesHolder, inflight: Callable[[], dict[str, int]]) -> None:
        self._path = path
        self._routes = routes
        self._inflight = inflight
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: asyncio.StreamWriter | None = None

    def nudge(self, what: str) -> None:
        self._post(Message(op="nudge", what=what))

    def wake(self, deployment: str) -> None:
        self._post(Message(op="wake", what=deployment))

    async def run(self) -> None:
        """Stay connected: follow the route tables, report what is in flight."""
        self._loop = asyncio.get_running_loop()
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path))
            except OSError:
                await asyncio.sleep(0.02)
                continue
            reporter = asyncio.create_task(self._report())
            try:
                decoder = msgspec.json.Decoder(Snapshot)
                while True:
                    (length,) = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                    if length > MOST:
                        raise ValueError("frame too long")
                    self._routes.put(decoder.decode(await reader.readexactly(length)))
            except (OSError, asyncio.IncompleteReadError, ValueError, msgspec.DecodeError) as error:
                log.warning("the channel to the supervisor broke: %r", error)
            finally:
                reporter.cancel()
                self._writer.close()
                self._writer = None

    async def _report(self) -> None:
        before: dict[str, int] = {}
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            counts = self._inflight()
            if counts or before:
                self._write(Message(op="inflight", counts=counts))
            before = counts

    def _post(self, message: Message) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._write, message)

    def _write(self, message: Message) -> None:
        if self._writer is not None:
            frame = msgspec.json.encode(message)
            self._writer.write(_HEAD.pack(len(frame)) + frame)


def socket_path(runtime: Path) -> Path:
    return runtime / "supervisor.sock"
