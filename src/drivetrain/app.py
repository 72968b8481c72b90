"""The doors of a web process: which dialect stands where, and the native API and the pages behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version

from fastapi import FastAPI

from drivetrain.dialects.invocations import Invocations
from drivetrain.dialects.kserve import KServe
from drivetrain.dialects.mlflow import MLflow, Otlp
from drivetrain.dialects.native import (
    checklist,
    deletion,
    identity,
    jobs,
    lineage,
    monitors,
    portable,
    registry,
    retraining,
    rollouts,
    server,
    serving,
    sweeps,
    tracking,
)
from drivetrain.dialects.ollama import Ollama
from drivetrain.dialects.openai import OpenAI
from drivetrain.dialects.wandb import Telemetry, Wandb
from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.rollout.judging import gauges
from drivetrain.serving.catalog import Catalog, Listing
from drivetrain.serving.gateway import meters
from drivetrain.serving.gateway.gateway import Gateway
from drivetrain.serving.model import Deployment
from drivetrain.serving.routes import RoutesHolder
from drivetrain.store.events.spool import Spool
from drivetrain.web import pages
from drivetrain.wire.answers import describe_answers
from drivetrain.wire.authentication import Authentication
from drivetrain.wire.door import Dialect, Door
from drivetrain.wire.fastapi import Native
from drivetrain.wire.hosts import Hosts
from drivetrain.wire.meter import Meter, exposition, forget_strangers, share_file, siblings
from drivetrain.wire.request import Receive, Scope, Send, run_sync

log = logging.getLogger(__name__)

SHARE_SECONDS = 1.0


def mounts() -> list[str]:
    """Where dialects are mounted, beside the dashboard at `/`."""
    found = [prefix for dialect in (OpenAI, Ollama, KServe, Invocations, MLflow, Otlp, Wandb, Telemetry) for prefix in dialect.prefixes]
    return sorted([*found, "/api/v1", "/health", "/metrics"])


class Application:
    """What one web process answers with: the door, and behind it all dialects, the native API and the pages.

    `routes` is filled, and `wake` heard, by the supervisor. `ports`: ports that belong to one dialect alone, which has no mount there.
    """

    def __init__(
        self, platform: Platform, routes: RoutesHolder, spool: Spool, wake: Callable[[str], None], ports: Mapping[int, str] | None = None
    ) -> None:
        async def implicit(ctx: Context, name: str) -> Deployment:
            return await run_sync(platform.serving.implicit, ctx, name)

        settings = platform.settings
        self._platform = platform
        self._most_body = settings.max_body_bytes
        self.stopping: Callable[[], bool] = lambda: False
        """Whether this process is to end; it says so itself. Streams without an end of their own end then."""
        self._spool = spool
        self._gateway = Gateway(routes, spool, wake, implicit, settings)
        self._who = Authentication(platform.identity, lambda: routes.current)
        self._dialects = _dialects(platform, self._gateway, Listing(platform.registry, platform.serving), self._who)
        self._hosts = Hosts(settings.host, settings.allowed_hosts)
        self._meter = Meter()
        self._folder = platform.home.runtime
        self._family = 0
        self._native = _native(platform, routes, spool, self.metrics, self._ending)
        self._door = self._make_door({at: dialect for dialect in self._dialects for at in dialect.prefixes})
        self._ports = {port: self._make_door({"": self._named(name)}, whole=False) for port, name in (ports or {}).items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = self._ports.get(scope["server"][1], self._door) if self._ports and scope["type"] == "http" else self._door
        await door(scope, receive, send)

    def _ending(self) -> bool:
        return self.stopping()

    def _named(self, name: str) -> Dialect:
        for dialect in self._dialects:
            if dialect.name == name:
                return dialect
        names = ", ".join(dialect.name for dialect in self._dialects)
        raise Invalid(f"There is no dialect {name!r} to listen for; there are: {names}.", param="listen")

    def inflight(self) -> dict[str, int]:
        """Requests that each deployment (by id) is working on or has waiting, in this process."""
        return self._gateway.directory.inflight()

    def metrics(self, ctx: Context) -> str:
        """Prometheus' text: what all web processes of this server have answered, and this one's state. Of deployments, those of the asker's
        workspace; an admin of the server sees them all."""
        mine = None if ctx.server_admin else ctx.workspace_id
        standing = self._gateway.directory.standing()
        others = siblings(self._folder, self._family, what=meters.PREFIX)
        series, now = self._gateway.meters.total([one for one, _, _ in standing], others)
        lines = exposition(self._meter.total(siblings(self._folder, self._family)))
        lines += meters.exposition(
            [one for one in series if mine is None or one.workspace_id == mine],
            [one for one in now if mine is None or one.workspace_id == mine],
            [one for one in standing if mine is None or one[0].workspace_id == mine],
        )
        try:
            lines += gauges.exposition(self._platform.db, mine)
        except Exception:
            log.warning("the evidence of rollouts is not in the metrics: the database cannot be read", exc_info=True)
        name = "drivetrain_events_lost_total"
        lines += [f"# HELP {name} Events that could not be written down.", f"# TYPE {name} counter", f"{name} {self._spool.lost}"]
        return "\n".join(lines) + "\n"

    async def close(self) -> None:
        """Let go of what is held. Call it when no request is in flight any more."""
        await self._gateway.close()

    def _make_door(self, at: dict[str, Dialect], *, whole: bool = True) -> Door:
        open_paths = (*pages.OPEN, "/health", "/api/v1/session")
        return Door(
            at,
            self._native if whole else None,
            self._who,
            signed=self._who.signed,
            hosts=self._hosts,
            open_paths=open_paths,
            meter=self._meter,
            most_body=self._most_body,
        )

    async def share(self, family: int) -> None:
        """Let the other web processes of this server (children of process `family`) know this one's counts. Runs until it is cancelled."""
        self._family = family
        mine, series = share_file(self._folder, family), share_file(self._folder, family, what=meters.PREFIX)
        for what in ("meter", meters.PREFIX):
            forget_strangers(self._folder, family, what=what)
        while True:
            try:
                self._meter.share(mine)
                self._gateway.meters.share(series, [now for now, _, _ in self._gateway.directory.standing()])
            except OSError as error:
                log.warning("the counts of answers cannot be shared: %s", error)
            await asyncio.sleep(SHARE_SECONDS)


def _dialects(platform: Platform, gateway: Gateway, catalog: Catalog, who: Authentication) -> list[Dialect]:
    async def enter(request_id: str, token: str | None, workspace: str) -> Context:
        return await who(request_id, token, workspace, None)

    most = platform.settings.max_body_bytes
    number = version("drivetrain")
    return [
        OpenAI(gateway, catalog, max_body=most),
        Ollama(gateway, catalog, max_body=most),
        KServe(gateway, server_version=number, max_body=most),
        Invocations(gateway, server_version=number, max_body=most),
        MLflow(platform),
        Otlp(platform.tracking, max_body=most),
        Wandb(platform, enter),
        Telemetry(),
    ]


def _native(
    platform: Platform, routes: RoutesHolder, spool: Spool, metrics: Callable[[Context], str], stopping: Callable[[], bool]
) -> Native:
    app = FastAPI(
        title="drivetrain",
        version=version("drivetrain"),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # a page of the dashboard: the framework's own is loaded from elsewhere
        redoc_url=None,
    )
    routers = (
        server.router(server.Health(platform.db, spool, lambda: routes.current.generation), metrics),
        identity.router(platform.identity, platform.nudge, session_hours=platform.settings.session_hours),
        registry.router(platform.registry, platform.settings),
        rollouts.router(platform.rollouts),
        retraining.router(platform.retrainings),
        checklist.router(platform.checklists),
        monitors.router(platform.monitors, platform.alerts, platform.channels),
        serving.router(platform.serving, platform.events, platform.feedback),
        jobs.router(platform.jobs, platform.home.logs),
        lineage.router(platform.lineages, platform.provenances),
        tracking.router(platform.tracking, platform.settings),
        deletion.router(platform.tracking, platform.deletion),
        portable.router(platform.tracking, platform.settings),
        sweeps.router(platform.sweeps),
        pages.routes(platform, stopping),
    )
    describe_answers(app, routers)
    return Native(app, routers)
