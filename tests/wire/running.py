"""A real uvicorn in a thread, with a door and a dialect of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from fastapi import FastAPI

from drivetrain.dialects.native import identity as native
from drivetrain.errors import DrivetrainError, NotFound, Overloaded
from drivetrain.identity.service import Identity
from drivetrain.serving.routes import Snapshot
from drivetrain.store.blobs import Blobs
from drivetrain.wire.authentication import Authentication
from drivetrain.wire.door import Dialect, Door
from drivetrain.wire.fastapi import Native
from drivetrain.wire.hosts import Hosts
from drivetrain.wire.request import Request
from drivetrain.wire.routing import Endpoint
from tests.conftest import new_sqlite


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Echo:
    """Does one thing for each of what a request can do."""

    name = "echo"
    prefixes: tuple[str, ...] = ("/echo", "/deep/echo")

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.events: list[str] = []

    def token(self, request: Request) -> str | None:
        return request.header("x-echo-key")

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, json.dumps({"echo_error": error.message, "id": request_id}).encode(), "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        return (
            Endpoint("GET", "/who", self._who),
            Endpoint("POST", "/body", self._body),
            Endpoint("POST", "/json", self._json),
            Endpoint("PUT", "/blob", self._save),
            Endpoint("GET", "/blob/{sha256:path}", self._load),
            Endpoint("GET", "/query", self._query),
            Endpoint("GET", "/stream", self._stream),
            Endpoint("GET", "/broken-stream", self._broken),
            Endpoint("GET", "/bug", self._bug),
            Endpoint("GET", "/busy", self._busy),
            Endpoint("GET", "/", self._told),
            Endpoint("GET", "/{rest:path}", self._told),
            Endpoint("GET", "/named/{name}/end", self._told),
        )

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound("Here is no echo.")

    async def _who(self, request: Request) -> None:
        ctx = request.context
        await request.respond_json(
            {"user": ctx.user_name, "workspace": ctx.workspace, "scopes": sorted(ctx.scopes), "id": ctx.request_id, "path": request.path}
        )

    async def _body(self, request: Request) -> None:
        await request.respond(200, await request.body(1000), "text/plain", [("x-extra", "1")])

    async def _json(self, request: Request) -> None:
        await request.respond_json(await request.json(Point, 1000))

    async def _save(self, request: Request) -> None:
        blob = await request.save(self.blobs, 10 << 20, sha256=request.header("x-sha256"), md5=True)
        await request.respond_json({"sha256": blob.sha256, "md5": blob.md5, "size": blob.size})

    async def _load(self, request: Request, sha256: str) -> None:
        await request.respond_blob(self.blobs, sha256, name="a b.html", content_type="text/html")

    async def _query(self, request: Request) -> None:
        await request.respond_json(request.query)

    async def _broken(self, request: Request) -> None:
        async with request.streaming("text/plain") as write:
            await write(b"one")
            raise RuntimeError("secret-of-the-server")

    async def _bug(self, request: Request) -> None:
        raise RuntimeError("secret-of-the-server")

    async def _busy(self, request: Request) -> None:
        raise Overloaded("Too much.", retry_after=2.4)

    async def _told(self, request: Request, **parts: str) -> None:
        await request.respond_json({"path": request.path, "query": request.query, "parts": parts})

    async def _stream(self, request: Request) -> None:
        n = int(request.query.get("n", ["3"])[0])
        try:
            async with request.streaming("text/event-stream") as write:
                for i in range(n):
                    await write(b"data: %d\n\n" % i)
                    await asyncio.sleep(0)
                if n > 100:
                    await asyncio.sleep(60)
        except BaseException as error:
            self.events.append(type(error).__name__)
            raise


@dataclass
class Running:
    url: str
    identity: Identity
    echo: Echo
    door: Door
    blobs: Blobs
    nudges: list[str] = field(default_factory=list)
    refresh: Callable[[], None] = lambda: None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def client(self, key: str | None = None, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={**headers, **({"authorization": f"Bearer {key}"} if key else {})}, timeout=20)

    def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes as they are, and read until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            sock.sendall(data)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := sock.recv(65536):
                answer += piece
            return answer


@contextlib.contextmanager
def running(folder: Path, *, hosts: Hosts | None = None, generation: int = 1, more: Sequence[Dialect] = ()) -> Iterator[Running]:
    """SQLite, blobs, identity with its native API, the door, uvicorn. The table follows the database at `refresh`."""
    folder.mkdir(exist_ok=True)
    db = new_sqlite(folder / "wire.db")
    identity = Identity(db, hashlib.sha256(b"home").digest())
    identity.bootstrap()
    blobs = Blobs(db, str(folder / "blobs"), min_free=0, scratch=folder / "scratch")
    nudges: list[str] = []

    def table() -> Snapshot:
        return Snapshot(
            generation=generation,
            auth=identity.auth_mode(),
            workspaces=identity.workspaces_map(),
            deployments=(),
            keys=tuple(identity.grants()),
        )

    current = [table()]

    def refresh(what: str = "") -> None:
        nudges.append(what)
        current[0] = table()

    rest = FastAPI()

    @rest.get("/bug")
    def bug() -> Any:
        raise RuntimeError("secret-of-the-server")

    @rest.get("/deep/page")
    def page() -> str:
        return "native"

    who = Authentication(identity, lambda: current[0])
    echo = Echo(blobs)
    behind = Native(rest, [native.router(identity, refresh, session_hours=1)])
    door = Door([echo, *more], behind, who, signed=who.signed, hosts=hosts, open_paths=("/api/v1/session",))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(door, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run([listener]), name="wire-test")
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for _ in range(1000):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/echo/who", timeout=5)
                break
        yield Running(url, identity, echo, door, blobs, nudges, refresh)
    finally:
        server.should_exit = True
        thread.join(20)
        db.close()
