"""Replicas as wanted: start, watch, replace, drain, stop when idle; and the route table that follows from it.

Each server runs the replicas that its own web processes use, since sockets are local to a host. The loop keeps nothing that it could
not learn again: what is wanted is in the database, what runs are its own children, which die with it.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psutil

from drivetrain.compute.process import Compute
from drivetrain.config import GiB, Settings
from drivetrain.identity.model import Grant
from drivetrain.identity.service import Identity
from drivetrain.loops.environments import Environments
from drivetrain.loops.loop import Loop
from drivetrain.loops.replicas import Failure, Running, tidy
from drivetrain.registry.service import Registry
from drivetrain.serving.model import Variant
from drivetrain.serving.routes import DeploymentRoute, Prices, ReplicaRoute, RolloutRoute, Snapshot, VariantRoute
from drivetrain.serving.service import WHOLE
from drivetrain.serving.wanted import Wanted, forget_replicas, note_ready, write_replicas
from drivetrain.serving.wanted import wanted as wanted_state
from drivetrain.store.blobs import Blobs
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database
from drivetrain.wire.hosts import is_loopback

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TICK_SECONDS = 0.05
QUIET_SECONDS = 0.5
FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 60.0
STEADY_SECONDS = 30.0


class Trouble:
    """What is known of a variant that fails here."""

    def __init__(self) -> None:
        self.failures = 0
        self.again_at = 0.0
        self.message = ""
        self.final = False

    def add(self, failure: Failure, *, served_for: float) -> None:
        self.failures = 1 if served_for > STEADY_SECONDS else self.failures + 1
        # A replica that had served is replaced at once; only what keeps failing waits longer and longer.
        wait = 0.0 if self.failures == 1 and served_for else min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0**self.failures)
        self.again_at = time.monotonic() + wait
        self.message, self.final = failure.message, failure.final


class Reconciler:
    """Poked when something may have changed."""

    def __init__(
        self,
        db: Database,
        home: Home,
        blobs: Blobs,
        registry: Registry,
        identity: Identity,
        environments: Environments,
        compute: Compute,
        settings: Settings,
        *,
        publish: Callable[[Snapshot], None],
        inflight: Callable[[], dict[str, int]],
    ) -> None:
        self._db = db
        self._home = home
        self._blobs = blobs
        self._registry = registry
        self._identity = identity
        self._environments = environments
        self._compute = compute
        self._settings = settings
        self._publish = publish
        self._inflight = inflight
        self._wanted: dict[str, Wanted] = {}
        self._running: list[Running] = []
        self._trouble: dict[str, Trouble] = {}
        self._used: dict[str, float] = {}
        self._snapshot: Snapshot | None = None
        self._rows: dict[str, dict[str, object]] = {}
        self._marked: set[str] = set()
        self._been_ready: set[str] = set()
        self._probes = ThreadPoolExecutor(max_workers=8, thread_name_prefix="probe")
        self._auth = "keys"
        self._workspaces: dict[str, str] = {}
        self._grants: tuple[Grant, ...] = ()
        self._looked = float("-inf")
        self._forgotten = False
        self._wake: Callable[[], None] = lambda: None

    def use(self, deployment: str) -> None:
        """Somebody waits for a replica of this deployment."""
        self._used[deployment] = time.monotonic()

    def step(self, loop: Loop) -> float:
        """One look at the world and what follows from it."""
        self._wake = loop.wake  # for what it begins off the loop
        if not self._forgotten:
            self._forget()
            self._forgotten = True
        now = time.monotonic()
        if loop.news or now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._read()
        for running in self._running:
            running.check(self._settings, self._ask)
        for running in [one for one in self._running if one.state == "ended"]:
            self._ended(running)
        for deployment, count in self._inflight().items():
            if count:
                self._used[deployment] = time.monotonic()
        for wanted in self._wanted.values():
            self._reconcile(wanted)
        known = {variant.id for wanted in self._wanted.values() for variant in wanted.variants}
        for running in self._running:
            if running.variant.id not in known:
                running.drain()
        self._compile()
        self._drain()
        self._mark()
        self._write()
        return QUIET_SECONDS if all(one.state == "ready" for one in self._running) else TICK_SECONDS

    def _ask(self, question: Callable[[], bool]) -> Future[bool]:
        """Ask a replica something, off the loop: one that is slow to answer must not hold up the others."""
        asked = self._probes.submit(question)
        asked.add_done_callback(lambda _: self._wake())
        return asked

    def _read(self) -> None:
        self._wanted = wanted_state(self._db, {running.variant.id for running in self._running})
        live = {variant.id for wanted in self._wanted.values() for variant in (*wanted.live, wanted.stand_in) if variant is not None}
        for gone in [variant for variant in self._trouble if variant not in live]:
            del self._trouble[gone]
        self._been_ready &= live
        # Whoever can reach this server from elsewhere needs a key, whatever another server of this database allows.
        self._auth = self._identity.auth_mode() if is_loopback(self._settings.host) else "keys"
        self._workspaces = self._identity.workspaces_map()
        self._grants = tuple(self._identity.grants())

    def _of(self, variant: str, *states: str) -> list[Running]:
        return [one for one in self._running if one.variant.id == variant and (not states or one.state in states)]

    def _reconcile(self, wanted: Wanted) -> None:
        for variant in wanted.live:
            self._keep(wanted, variant)
        served = all(self._of(variant.id, "ready") or self._count(wanted, variant) == 0 for variant in wanted.serving)
        if wanted.stand_in is not None and not served:
            self._keep(wanted, wanted.stand_in)
        for variant in wanted.variants:
            if variant.retired_ms is not None and (served or wanted.stand_in is None or variant.id != wanted.stand_in.id):
                for running in self._of(variant.id):
                    # The version before serves on until its successor does; not so one that was taken back.
                    if served or running.state != "ready" or variant.withdrawn:
                        running.drain()

    def _keep(self, wanted: Wanted, variant: Variant) -> None:
        count = self._count(wanted, variant)
        have = self._of(variant.id, "preparing", "starting", "ready")
        for extra in have[count:]:
            extra.drain()
        for _ in range(count - len(have)):
            if not self._start(variant):
                break

    def _count(self, wanted: Wanted, variant: Variant) -> int:
        if variant.min_replicas > 0:
            return variant.min_replicas
        used = self._used.get(wanted.row.id)
        idle = self._settings.idle_stop_seconds
        return int(used is not None and (idle == 0 or time.monotonic() - used < idle))

    def _start(self, variant: Variant) -> bool:
        trouble = self._trouble.get(variant.id)
        if trouble is not None and (trouble.final or time.monotonic() < trouble.again_at):
            return False
        if lacking := self._lacking(variant):
            self._fail(variant, Failure(lacking), 0.0)
            return False
        running = Running(variant, self._home, self._compute)
        self._running.append(running)
        threading.Thread(target=self._launch, args=(running,), name=f"launch-{running.id[-6:]}", daemon=True).start()
        return True

    def _launch(self, running: Running) -> None:
        try:
            running.launch(self._blobs, self._registry.files, self._environments, self._settings)
        except Exception as error:
            log.exception("replica %s of %s could not be started", running.id, running.variant.repo)
            running.failure = Failure(f"Its files could not be put in place: {error}")
            running.state = "ended"
        self._wake()
        if running.child is not None:
            running.child.wait()  # so that the loop hears of its end at once
            self._wake()

    def _lacking(self, variant: Variant) -> str:
        """Why this variant is not admitted to memory; "" if it is. Idle replicas that started on demand make room."""
        limit = int(psutil.virtual_memory().total * self._settings.memory_fraction)
        held = sum(one.variant.memory_bytes for one in self._running if one.state != "ended")
        if held + variant.memory_bytes <= limit:
            return ""
        inflight = self._inflight()
        idle = [
            one
            for one in self._running
            if one.state == "ready" and one.variant.min_replicas == 0 and not inflight.get(one.variant.deployment_id)
        ]
        for one in sorted(idle, key=lambda one: self._used.get(one.variant.deployment_id, 0.0)):
            one.drain()
            self._used.pop(one.variant.deployment_id, None)
            held -= one.variant.memory_bytes
            if held + variant.memory_bytes <= limit:
                return ""
        return (
            f"It needs about {variant.memory_bytes / GiB:.1f} GiB; replicas may take {limit / GiB:.1f} GiB of this machine (setting "
            f"memory_fraction), of which {held / GiB:.1f} are taken. Stop another deployment, or serve a smaller version."
        )

    def _ended(self, running: Running) -> None:
        self._running.remove(running)
        running.end()
        if running.failure is not None:
            served = 0.0 if running.ready_at is None else time.monotonic() - running.ready_at
            self._fail(running.variant, running.failure, served)

    def _fail(self, variant: Variant, failure: Failure, served: float) -> None:
        trouble = self._trouble.setdefault(variant.id, Trouble())
        if failure.message != trouble.message or served:
            log.warning("%s %s: %s", variant.repo, variant.name, failure.message)
        trouble.add(failure, served_for=served)

    def _drain(self) -> None:
        for running in self._running:
            if running.state == "draining" and running.drained(self._settings, self._ask):
                # Off the loop: a Python model may take its time to finish what it has begun.
                running.state = "stopping"
                threading.Thread(target=self._stop_one, args=(running,), name=f"stop-{running.id[-6:]}", daemon=True).start()

    def _stop_one(self, running: Running) -> None:
        if running.child is not None:
            running.child.stop(self._settings.drain_seconds)
        running.state = "ended"
        self._wake()

    def _mark(self) -> None:
        """Write down which variants have been ready for the first time."""
        new = {one.variant.id for one in self._running if one.state == "ready" and one.variant.ready_ms is None} - self._marked
        if new:
            note_ready(self._db, new)
            self._marked |= new
            self._looked = float("-inf")

    def _compile(self) -> None:
        self._been_ready.update(one.variant.id for one in self._running if one.state == "ready")
        routes = tuple(self._route(wanted) for wanted in self._wanted.values() if wanted.variants)
        before = self._snapshot
        generation = 0 if before is None else before.generation
        state: dict[str, Any] = {"auth": self._auth, "workspaces": self._workspaces, "deployments": routes, "keys": self._grants}
        if before is None or Snapshot(generation=generation, **state) != before:
            # Later than every table of an earlier life of this server, too.
            self._snapshot = Snapshot(generation=max(generation + 1, time.time_ns()), **state)
            self._publish(self._snapshot)

    def _route(self, wanted: Wanted) -> DeploymentRoute:
        row = wanted.row
        gone = [variant for variant in wanted.variants if variant.retired_ms is not None and not variant.withdrawn]
        old = [variant for variant in gone if self._of(variant.id, "ready")]
        if not old and wanted.stand_in is not None and self._of(wanted.stand_in.id):
            old = [wanted.stand_in]  # those who call wait for it
        stand_in = old[-1].id if old and not any(self._of(variant.id, "ready") for variant in wanted.serving) else None
        shown: Iterable[Variant] = wanted.variants if stand_in else wanted.live
        variants = []
        for variant in shown:
            weight = variant.weight if stand_in is None else WHOLE if variant.id == stand_in else 0
            ready = self._of(variant.id, "ready")
            trouble = self._trouble.get(variant.id)
            variants.append(
                VariantRoute(
                    id=variant.id,
                    name=variant.name,
                    weight=weight,
                    repo=variant.repo,
                    version=variant.version,
                    commit=variant.commit,
                    engine=variant.engine,
                    tasks=variant.tasks,
                    replicas=tuple(_replica_route(one) for one in ready),
                    problem="" if ready or trouble is None else trouble.message,
                    starting=bool(self._of(variant.id, "preparing", "starting")),
                    final=not ready and trouble is not None and trouble.final,
                    shadow=variant.shadow,
                    prices=Prices(**variant.prices) if variant.prices else None,
                )
            )
        return DeploymentRoute(
            id=row.id,
            workspace_id=row.workspace_id,
            workspace=row.workspace,
            name=row.name,
            salt=row.salt,
            on_demand=wanted.on_demand,
            capture=row.capture,
            capture_rate=row.capture_rate,
            unit=row.unit,
            variants=tuple(variants),
            rollout=self._rollout(wanted),
        )

    def _rollout(self, wanted: Wanted) -> RolloutRoute | None:
        """The rollout, while both its versions answer requests.

        The phase is 0, in which nothing is counted, until this server has had both ready: which of them is the first to be ready after a
        start of the server says nothing about either.
        """
        row = wanted.row
        if row.rollout is None or row.phase == 0:
            return None
        arms = {variant.id: variant for variant in wanted.live if variant.id in (row.stable, row.canary)}
        if len(arms) < 2 or arms[row.stable].weight == 0 or not (arms[row.canary].weight or arms[row.canary].shadow):
            return None
        both = all(arm in self._been_ready for arm in arms)
        return RolloutRoute(id=row.rollout, phase=row.phase if both else 0, stable=row.stable, canary=row.canary)

    def _write(self) -> None:
        """What people see of replicas. Only differences are written."""
        now: dict[str, dict[str, object]] = {}
        for one in self._running:
            trouble = self._trouble.get(one.variant.id)
            state = {"preparing": "starting", "stopping": "draining"}.get(one.state, one.state)
            now[one.id] = self._row(one.id, one.variant, state) | {
                "message": trouble.message if trouble is not None else "",
                "pid": one.child.pid if one.child is not None else None,
                "address": one.address,
                "restarts": trouble.failures if trouble is not None else 0,
                "started_ms": one.started_ms,
                "ready_ms": one.ready_ms,
            }
        for variant in [variant for wanted in self._wanted.values() for variant in wanted.live]:
            trouble = self._trouble.get(variant.id)
            if trouble is not None and not self._of(variant.id):
                id_ = uuid.uuid5(uuid.UUID(variant.id), self._home.server_id).hex  # one such row for each server
                now[id_] = self._row(id_, variant, "failed" if trouble.final else "restarting") | {
                    "message": trouble.message,
                    "pid": None,
                    "address": "",
                    "restarts": trouble.failures,
                    "started_ms": self._rows.get(id_, {"started_ms": now_ms()})["started_ms"],
                    "ready_ms": None,
                }
        if now == self._rows:
            return
        gone = [id_ for id_ in self._rows if id_ not in now]
        changed = [row for id_, row in now.items() if self._rows.get(id_) != row]
        write_replicas(self._db, changed, gone=gone)
        self._rows = now

    def _row(self, id_: str, variant: Variant, state: str) -> dict[str, object]:
        server = {"variant_id": variant.id, "server_id": self._home.server_id, "memory_bytes": variant.memory_bytes}
        return {"id": id_, "state": state, **server}

    def end(self) -> None:
        """The server stops: all replicas at once."""
        for running in self._running:
            if running.child is not None:
                running.child.terminate()
        end = time.monotonic() + self._settings.drain_seconds
        for running in self._running:
            if running.child is not None:
                running.child.stop(max(0.0, end - time.monotonic()))
            running.end()
        self._probes.shutdown()
        self._forget()

    def _forget(self) -> None:
        """No replica of this server runs: those of an earlier life died with it."""
        tidy(self._home)
        forget_replicas(self._db, self._home.server_id)


def _replica_route(one: Running) -> ReplicaRoute:
    pid = one.child.pid if one.child is not None else 0
    keep = one.engine.keeps_connections
    return ReplicaRoute(id=one.id, address=one.address, slots=one.variant.slots, pid=pid, keep=keep)
