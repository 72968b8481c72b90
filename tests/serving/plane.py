"""A whole data plane for tests: dialects and gateway behind a real uvicorn, real spool, replicas made for tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvicorn

from drivetrain.config import Settings
from drivetrain.dialects.invocations import Invocations
from drivetrain.dialects.kserve import KServe
from drivetrain.dialects.ollama import Ollama
from drivetrain.dialects.openai import OpenAI
from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.serving.catalog import Servable
from drivetrain.serving.gateway.gateway import Gateway
from drivetrain.serving.routes import DeploymentRoute, ReplicaRoute, Snapshot, VariantRoute
from drivetrain.store.events.model import Event, Exposure
from drivetrain.store.events.spool import Spool
from drivetrain.wire.door import Dialect, Door
from tests.serving.replica import FakeReplica

T = TypeVar("T")

CONTEXT = Context(user_id="u1", user_name="local", workspace_id="w1", workspace="default")
ALL_TASKS = ("chat", "completion", "embeddings", "infer")


@dataclass
class Made:
    id: str


@dataclass
class Holder:
    """Routes that tests swap."""

    current: Snapshot = field(
        default_factory=lambda: Snapshot(generation=1, auth="open", workspaces={"default": "w1"}, deployments=(), keys=())
    )
    _waiters: list[asyncio.Future[None]] = field(default_factory=list)

    async def changed(self, generation: int) -> Snapshot:
        while self.current.generation == generation:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return self.current

    def put(self, deployments: Sequence[DeploymentRoute]) -> None:
        self.current = msgspec.structs.replace(self.current, generation=self.current.generation + 1, deployments=tuple(deployments))
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def variant(name: str, replicas: Sequence[FakeReplica], *, weight: int = 10_000, slots: int = 4, **more: Any) -> VariantRoute:
    routes = tuple(ReplicaRoute(id=replica.name, address=f"unix:{replica.socket}", slots=slots) for replica in replicas)
    values: dict[str, Any] = {"repo": "default/m", "version": 1, "commit": "c" * 64, "engine": "test", "tasks": ALL_TASKS} | more
    return VariantRoute(id=f"v-{name}", name=name, weight=weight, replicas=routes, **values)


def deployment(name: str, *variants: VariantRoute, **more: Any) -> DeploymentRoute:
    values: dict[str, Any] = {"on_demand": False, "capture": "all", "capture_rate": 1.0, "workspace_id": "w1"} | more
    return DeploymentRoute(id=f"d-{name}", workspace="default", name=name, salt=f"salt-{name}", variants=variants, **values)


class Plane:
    """Runs in a thread with an event loop of its own; `url` is its address."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.holder = Holder()
        self.settings = replace(Settings(home=folder, queue_seconds=5.0, request_seconds=20.0, max_body_bytes=1 << 20), **settings)
        self.woken: list[str] = []
        self.catalog: list[Servable] = []
        self.on_demand: Callable[[str], DeploymentRoute] | None = None
        self.asked: list[str] = []
        self.spool = Spool(folder / "spool", fsync_s=0.1)
        self.replicas: list[FakeReplica] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="plane")
        self.loop: asyncio.AbstractEventLoop
        self.gateway: Gateway
        self.url = ""

    def start(self) -> Plane:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self.spool.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the plane's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def call(self, work: Callable[[], T]) -> T:
        async def do() -> T:
            return work()

        return self.run(do())

    def replica(self, name: str = "replica") -> FakeReplica:
        replica = FakeReplica(self.folder / f"{name}.sock", name=name)
        self.run(replica.start())
        self.replicas.append(replica)
        return replica

    def routes(self, *deployments: DeploymentRoute) -> None:
        self.call(lambda: self.holder.put(deployments))

    def events(self) -> list[Event]:
        """All events in the spool."""
        return [msgspec.json.decode(line, type=Event) for line in self._lines() if line.startswith(b'{"id"')]

    def exposures(self) -> list[Exposure]:
        """All exposures in the spool: the lines of their own, and those that events tell of."""
        found = [msgspec.json.decode(line, type=Exposure) for line in self._lines() if line.startswith(b'{"exposure"')]
        for event in self.events():
            if event.exposed:
                of: dict[str, Any] = {name: getattr(event, name) for name in ("t", "deployment", "unit", "rollout", "phase")}
                found.append(Exposure(exposure=event.id, variant=event.assigned or event.variant, **of))
        return sorted(found, key=lambda one: one.exposure)

    def _lines(self) -> list[bytes]:
        return [line for file in sorted(self.spool.folder.glob("*.jsonl")) for line in file.read_bytes().split(b"\n") if line]

    async def _implicit(self, context: Context, name: str) -> Made:
        self.asked.append(name)
        await asyncio.sleep(0)
        if self.on_demand is None:
            raise NotFound(f"There is no model {name!r} in the workspace {context.workspace!r}.", param="model")
        route = self.on_demand(name)
        if route.id not in {existing.id for existing in self.holder.current.deployments}:
            self.loop.call_later(0.05, lambda: self.holder.put([*self.holder.current.deployments, route]))
        return Made(route.id)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.gateway = Gateway(self.holder, self.spool, self.woken.append, self._implicit, self.settings)
        most = self.settings.max_body_bytes
        dialects: list[Dialect] = [
            OpenAI(self.gateway, lambda _: self.catalog, max_body=most),
            Ollama(self.gateway, lambda _: self.catalog, max_body=most),
            KServe(self.gateway, server_version="0", max_body=most),
            Invocations(self.gateway, server_version="0", max_body=most),
        ]
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            Door(dialects, None, anybody), log_level="warning", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        with contextlib.suppress(NotImplementedError):
            self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        serving = asyncio.create_task(self._server.serve([listener]))
        while not self._server.started:
            await asyncio.sleep(0.005)
        self._ready.set()
        await serving
        await self.gateway.close()
        for replica in self.replicas:
            await replica.stop()


async def anybody(*_: str | None) -> Context:
    return CONTEXT


@contextlib.contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Plane]:
    plane = Plane(folder, **settings).start()
    try:
        yield plane
    finally:
        plane.stop()
