"""Live pages: one stream of server-sent events for each, fed by one watcher for the whole process.

A topic has a probe: a cheap question whose answer changes when the page does. Only topics that somebody looks at are probed, once for
all who look, so a page left open costs one small query in a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import StreamingResponse

from drivetrain.errors import DrivetrainError
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.store.ids import now_ms
from drivetrain.tracking.model import Run
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.wire.request import run_sync

log = logging.getLogger(__name__)
Viewer = Annotated[Context, Depends(viewer)]
Probe = Callable[[], Hashable]

EVERY_S = 1.0
BEAT_S = 15.0
LONGEST_S = 600.0
MOST_TOPICS = 8


class Watcher:
    """Probes the topics that are looked at, and wakes those who look when an answer has changed."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._probes: dict[Hashable, Probe] = {}
        self._answers: dict[Hashable, Hashable] = {}
        self._lookers: dict[Hashable, set[asyncio.Queue[str]]] = {}
        self._names: dict[Hashable, str] = {}
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def look(self, key: Hashable, name: str, probe: Probe, queue: asyncio.Queue[str]) -> AsyncIterator[None]:
        """While the block lasts, put `name` into the queue whenever the probe's answer changes; "" when the process is to stop."""
        if key not in self._answers:
            self._answers[key] = await self._ask(key, probe)
        self._probes[key] = probe
        self._names[key] = name
        self._lookers.setdefault(key, set()).add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        finally:
            self._lookers[key].discard(queue)
            if not self._lookers[key]:
                for table in (self._probes, self._answers, self._lookers, self._names):
                    table.pop(key, None)

    async def _watch(self) -> None:
        while self._probes:
            if self._stopping():
                # A stream that goes on would hold up the end of the process.
                for queue in {queue for some in self._lookers.values() for queue in some}:
                    queue.put_nowait("")
                return
            for key, probe in list(self._probes.items()):
                answer = await self._ask(key, probe)
                if key in self._lookers and self._answers.get(key) != answer:
                    self._answers[key] = answer
                    for queue in self._lookers[key]:
                        queue.put_nowait(self._names[key])
            await asyncio.sleep(EVERY_S)

    async def _ask(self, key: Hashable, probe: Probe) -> Hashable:
        try:
            return await run_sync(probe)
        except DrivetrainError:
            return None  # it was deleted: the page will say so
        except Exception:
            log.exception("the probe of %s failed", key)
            return self._answers.get(key)


def probe_of(platform: Platform, ctx: Context, topic: str) -> Probe:
    """The question for a topic: deployments, deployment:NAME, rollout:ID, alerts, drift:NAME, quality:NAME,
    retraining:NAME, runs, run:ID, sweeps, sweep:NAME, models, jobs, overview."""
    kind, _, name = topic.partition(":")

    def traffic(ids: list[str]) -> Hashable:
        now = now_ms()
        point = platform.events.total(ids, since_ms=now - 120_000, until_ms=now + 60_000)
        return (point.requests, point.errors)

    def of(deployments: list[object]) -> Hashable:
        return repr(deployments)

    def deployment() -> Hashable:
        one = platform.serving.get(ctx, name)
        lasting = [(alert.id, alert.count) for alert in platform.alerts.list(ctx, state="lasting", deployment=name, limit=5)]
        moving = platform.rollouts.current(ctx, name)
        return (of([one]), traffic([one.id]), tuple(lasting), moving and (moving.revision, moving.why))

    def all_deployments() -> Hashable:
        some = platform.serving.list(ctx)
        return (of(list(some)), traffic([one.id for one in some]))

    def drift() -> Hashable:
        newest = platform.monitors.windows(ctx, name, limit=1)
        return (newest[0].id if newest else "", *((one.state, one.words, one.paused) for one in platform.monitors.list(ctx, name)))

    def retraining() -> Hashable:
        some = platform.retrainings.list(ctx, deployment=name, limit=5)
        policies = [(one.paused, one.words) for one in platform.retrainings.policies(ctx) if one.deployment == name]
        return (tuple((one.id, one.state, one.why, len(one.stages)) for one in some), tuple(policies))

    def quality() -> Hashable:
        now = now_ms()
        found = platform.monitors.performance(ctx, name, since_ms=now - 3_600_000, until_ms=now, step_ms=3_600_000)
        return sum(one.labelled for one in found)

    def alerts() -> Hashable:
        some = platform.alerts.list(ctx, state="lasting", limit=50)
        sent = platform.channels.deliveries(ctx, limit=20)
        return (tuple((one.id, one.state, one.count) for one in some), tuple((one.id, one.state, one.attempts) for one in sent))

    def rollout() -> Hashable:
        book = platform.rollouts.book(ctx, name)
        return repr((book.rollout, book.tallied))

    def run() -> Hashable:
        one = platform.tracking.runs.get(ctx, name)
        return (one.status, len(one.params), len(one.tags), steps(one))

    def runs() -> Hashable:
        ids = [one.id for one in platform.tracking.experiments.all(ctx)]
        newest = platform.tracking.runs.search(ctx, ids, limit=10).items
        return tuple((one.id, one.status, len(one.metrics), steps(one) if one.status == "RUNNING" else ()) for one in newest)

    def steps(one: Run) -> Hashable:
        return tuple((key, m.step, m.timestamp_ms) for key, m in sorted(one.metrics.items()))

    def sweep() -> Hashable:
        one = platform.sweeps.get(ctx, name)
        return (one.state, one.runs, tuple((it.state, it.value, it.stopped) for it in platform.sweeps.trials(ctx, one.id)))

    def sweeps() -> Hashable:
        return tuple((one.id, one.state, one.runs) for one in platform.sweeps.list(ctx, limit=50))

    def models() -> Hashable:
        return tuple((repo.slug, repo.updated_ms) for repo in platform.registry.repos(ctx, limit=50))

    def jobs() -> Hashable:
        return tuple((job.id, job.state, job.done, job.message) for job in platform.jobs.list(ctx, limit=10))

    def overview() -> Hashable:
        moving = tuple((one.id, one.revision, one.why) for one in platform.rollouts.list(ctx, limit=6))
        return (all_deployments(), runs(), jobs(), alerts(), moving)

    probes: dict[str, Probe] = {
        "deployment": deployment,
        "deployments": all_deployments,
        "alerts": alerts,
        "drift": drift,
        "quality": quality,
        "retraining": retraining,
        "rollout": rollout,
        "run": run,
        "runs": runs,
        "sweep": sweep,
        "sweeps": sweeps,
        "models": models,
        "jobs": jobs,
        "overview": overview,
    }
    return probes.get(kind, lambda: None)


def routes(platform: Platform, pages: Pages, stopping: Callable[[], bool]) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)
    watcher = Watcher(stopping)

    @router.get("/data/live")
    async def live(request: Request, ctx: Viewer, topic: Annotated[tuple[str, ...], Query()] = ()) -> Response:
        async def stream() -> AsyncIterator[str]:
            queue: asyncio.Queue[str] = asyncio.Queue()
            end = time.monotonic() + LONGEST_S
            async with contextlib.AsyncExitStack() as stack:
                for one in dict.fromkeys(topic[:MOST_TOPICS]):
                    await stack.enter_async_context(watcher.look((ctx.workspace_id, one), one, probe_of(platform, ctx, one), queue))
                yield "retry: 2000\n\n"
                while time.monotonic() < end:
                    try:
                        changed = {await asyncio.wait_for(queue.get(), BEAT_S)}
                    except TimeoutError:
                        yield ": still here\n\n"
                        continue
                    while not queue.empty():
                        changed.add(queue.get_nowait())
                    if "" in changed:
                        return
                    yield f"event: change\ndata: {json.dumps(sorted(changed))}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream", headers=HEADERS)

    return router
