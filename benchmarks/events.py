"""What events cost: writing them down in the request's way, and counting them beside it.

*Recording* is what a request waits for: its exposure (in a rollout), its event and the counts for Prometheus, in one process.
*Folding* is what another process does for it later: the CPU of counting one event, beside the CPU that the gateway spends on one request,
both in the same run. In a rollout the most that can be asked for is that every
request is a new unit's; looks are taken of people who come back.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import sqlalchemy as sa

from benchmarks.common import ROOT, alternate, quantile, report, until
from benchmarks.fixtures.gate import ROLLOUT, snapshot
from benchmarks.gateway import CONNECTIONS, Target
from drivetrain.config import Settings
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting.fold import Counting
from drivetrain.rollout.counting.outputs import Known
from drivetrain.rollout.planning.plans import preset
from drivetrain.serving.gateway.meters import Meters
from drivetrain.serving.routes import DeploymentRoute
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.fold import EventFolder
from drivetrain.store.events.model import Event, Exposure
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.ids import uuid7
from drivetrain.store.sql import Database

EVENTS = 20_000
REQUESTS = 6_000
PEOPLE = 500
ROUND = 1_500
"""Requests between two folds: about what comes in the half second between them."""


def event(unit: str, *, rollout: str = "") -> Event:
    """As the gateway makes them of a chat of 700 characters in and 500 out."""
    body = '{"model":"m","messages":[{"role":"user","content":"' + "x" * 700 + '"}]}'
    return Event(
        id=uuid7(), t=time.time_ns(), workspace="w" * 32, deployment="m", deployment_name="m", variant="v-old", variant_name="old",
        repo="default/m", version=1, commit="c" * 64, replica="r" * 32, engine="llamacpp", user="ann", key="k" * 32, unit=unit,
        dialect="openai", task="chat", latency_ms=20.0, tokens_in=170, tokens_out=120, bytes_in=len(body), bytes_out=900, input=body,
        output="y" * 500, rollout=rollout, phase=1 if rollout else 0,
    )  # fmt: skip


def recording(route: DeploymentRoute, *, moving: bool) -> dict[str, float]:
    rollout = ROLLOUT if moving else ""
    took: list[float] = []
    with tempfile.TemporaryDirectory(prefix="dtb-") as name:
        spool, meters = Spool(Path(name) / "spool"), Meters()
        for i in range(EVENTS):
            one = event(f"u{i}", rollout=rollout)
            began = time.perf_counter()
            if moving:
                of = {"deployment": one.deployment, "variant": one.variant, "unit": one.unit, "rollout": rollout, "phase": 1}
                spool.append(Exposure(exposure=one.id, t=one.t, **of))  # type: ignore[arg-type]
            spool.append(one)
            meters.count(one, route)
            took.append((time.perf_counter() - began) * 1e6)
        spool.close()
    return {"recording p50, µs": quantile(took, 0.5), "recording p99, µs": quantile(took, 0.99)}


@contextmanager
def gate(folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The gateway in a process of its own, before a replica that answers at once."""
    path = str(folder / "r.sock")
    replica = subprocess.Popen([sys.executable, "-m", "benchmarks.fixtures.instant", path], cwd=ROOT)
    server = subprocess.Popen([sys.executable, "-m", "benchmarks.fixtures.gate", str(folder), path, path], cwd=ROOT)
    try:
        port, pid = map(int, until(lambda: (folder / "port").exists() and (folder / "port").read_text(), seconds=20).split())
        until(lambda: Path(path).exists(), seconds=20)
        yield port, psutil.Process(pid)
    finally:
        for process in (server, replica):
            process.terminate()
            process.wait(20)


def folding(*, moving: bool, people: int = 10**9) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="dtb-") as name:
        folder = Path(name)
        with gate(folder) as (port, process):
            home = Home.open(folder / "home")
            db = Database(home.database_url)
            begin(db)
            blobs = Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)
            folder_ = EventFolder(db, blobs, home, Settings(home=home.path), folds=[Counting()])
            target = Target(port=port, model="moving" if moving else "m")
            asyncio.run(ask(target, 2 * PEOPLE, 10**6, people))
            folder_.fold()
            gateway = counting = 0.0
            for start in range(0, REQUESTS, ROUND):
                before = busy(process)
                asyncio.run(ask(target, ROUND, start, people))
                gateway += busy(process) - before
                before = time.process_time()
                lines = folder_.fold()
                counting += time.process_time() - before
                assert ROUND <= lines <= ROUND * (2 if moving else 1), lines
            db.close()
    return {
        "gateway, µs CPU a request": gateway / REQUESTS * 1e6,
        "folding, µs CPU a request": counting / REQUESTS * 1e6,
        "folding, % of the gateway's": 100 * counting / gateway,
    }


def busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def ask(target: Target, count: int, start: int, people: int) -> None:
    clients = [await target.connect() for _ in range(CONNECTIONS)]
    numbers = iter([number % people for number in range(start, start + count)])
    await asyncio.gather(*(each(client, target, numbers) for client in clients))
    for client in clients:
        client.transport.close()


async def each(client: object, target: Target, numbers: Iterator[int]) -> None:
    for number in numbers:
        await client.ask(target.request(number))  # type: ignore[attr-defined]


def begin(db: Database) -> None:
    """The rollout that the gateway's events are of, with the guardrails of the preset `safe`."""
    plan = preset("safe")
    row = {
        "id": ROLLOUT,
        "stable": "v-old",
        "canary": "v-new",
        "stable_name": "old",
        "canary_name": "new",
        "plan": msgspec.to_builtins(plan),
    }
    row |= {
        "workspace_id": "w",
        "workspace": "default",
        "deployment_id": "moving",
        "deployment": "moving",
        "origin": {},
        "state": "running",
    }
    row |= {"step": 0, "phase": 1, "elapsed_ms": 0, "revision": 1, "why": "", "created_ms": 0, "created_by": "ann"}
    known = msgspec.to_builtins(Known(forms=("text",), edges=(10.0, 20.0, 40.0)))
    guards = [{"rollout_id": ROLLOUT, "number": n, "line": 5.0, "known": known, "from_phase": 1} for n in range(len(plan.guardrails))]
    with db.write() as c:
        c.execute(sa.insert(t.rollouts).values(**row))
        c.execute(sa.insert(t.phases).values(rollout_id=ROLLOUT, number=1, step=0, share=500, shadow=0, started_ms=0))
        c.execute(sa.insert(t.guards), guards)


def main() -> None:
    rest, moving, back = "a deployment at rest", "in a rollout, all new people", f"in a rollout, {PEOPLE} people who come back"
    route = snapshot("", "").deployments[0]
    gc.freeze()  # as the supervisor does, which folds
    gc.set_threshold(50_000, 20, 20)
    samples = alternate(
        {
            rest: lambda: recording(route, moving=False) | folding(moving=False),
            moving: lambda: recording(route, moving=True) | folding(moving=True),
            back: lambda: recording(route, moving=True) | folding(moving=True, people=PEOPLE),
        }
    )
    report(
        "events",
        "Events: what recording adds to a request, and what counting costs beside it",
        samples,
        notes=f"{ROUND} requests between two folds. Other work was running beside it: read the ratios.",
    )


if __name__ == "__main__":
    main()
