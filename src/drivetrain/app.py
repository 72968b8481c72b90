"""Builds the platform from settings: the only place that knows everybody.

`build` makes the services (for the supervisor, and for each web process); `Application` is what a web process answers with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from drivetrain.checklist.service import Checklists
from drivetrain.config import Settings
from drivetrain.errors import Invalid
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.service import Identity
from drivetrain.jobs.service import Jobs
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.reference import References
from drivetrain.monitoring.service import Monitors
from drivetrain.registry.service import Registry
from drivetrain.retraining.provenance import Provenances
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout.service import Rollouts
from drivetrain.serving.lineage import Lineages
from drivetrain.serving.routes import RoutesHolder
from drivetrain.serving.service import Serving
from drivetrain.store.backups.backup import backup_database, last_backup_ms
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.migrate import migrate
from drivetrain.store.sql import Database
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.model import Run
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps.service import Sweeps

if TYPE_CHECKING:
    from fastapi import FastAPI

    from drivetrain.dialects.wandb.services import Services as WandbServices
    from drivetrain.serving.catalog import Catalog
    from drivetrain.serving.gateway.gateway import Gateway
    from drivetrain.serving.model import Deployment
    from drivetrain.wire.door import Dialect, Door
    from drivetrain.wire.request import Receive, Send
    from drivetrain.wire.request import Scope as WireScope
    from drivetrain.wire.who import Who

log = logging.getLogger(__name__)

JOB_HANDLERS = {
    "pull": "drivetrain.registry.pull:run",
    "environment": "drivetrain.engines.environments:run",
    "retrain": "drivetrain.retraining.job:run",
}
"""Kind of job → what runs it, in a process of its own."""
SHARE_SECONDS = 1.0
SIGNED_SECONDS = 24 * 3600.0
"""How long an address is good that clients open without a key: an upload may wait for its turn."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """All services on one database. `nudge` tells the supervisor that something was changed; losing a nudge costs time only."""

    settings: Settings
    home: Home
    db: Database
    blobs: Blobs
    identity: Identity
    jobs: Jobs
    registry: Registry
    tracking: Tracking
    deletion: Deletion
    sweeps: Sweeps
    feedback: Feedback
    serving: Serving
    events: Events
    lineages: Lineages
    rollouts: Rollouts
    alerts: Alerts
    channels: Channels
    monitors: Monitors
    retrainings: Retrainings
    provenances: Provenances
    checklists: Checklists
    nudge: Callable[[str], None]

    def live_blobs(self) -> set[str]:
        """The blobs that something names."""
        return self.registry.live_blobs() | self.tracking.artifacts.live_blobs()


def build(settings: Settings, home: Home, *, nudge: Callable[[str], None], migrating: bool = False) -> Platform:
    """The services. `migrating`: bring the database to this version's schema first; whoever holds the home's lock does that."""
    db = Database(settings.database_url or home.database_url)
    blobs = Blobs(db, settings.blobs_url or str(home.blobs), min_free=settings.min_free_disk_bytes, scratch=home.cache)
    identity = Identity(db, home.secret)
    if migrating:
        migrate(db, backup=lambda: backup_database(home, db))
        identity.bootstrap()
    registry = Registry(db, blobs, serves=lambda commits: serving.named_by(commits))  # noqa: PLW0108 - made below
    serving = Serving(db, registry, settings, nudge)
    tracking = Tracking.of(db, blobs)
    feedback = Feedback(db)
    events = Events(db, blobs, home)
    jobs = Jobs(db, frozenset(JOB_HANDLERS), nudge)
    rollouts = Rollouts(db, serving, feedback, nudge, events)
    retrainings = Retrainings(db, registry, tracking, serving, feedback, rollouts, jobs, events, nudge)
    alerts, channels = Alerts(db, nudge), Channels(db, identity.secrets, nudge)
    monitors = Monitors(db, serving, References(db, registry, tracking))
    return Platform(
        settings=settings,
        home=home,
        db=db,
        blobs=blobs,
        identity=identity,
        jobs=jobs,
        registry=registry,
        tracking=tracking,
        deletion=Deletion(db, registry.live_blobs, nudge),
        sweeps=Sweeps(db, tracking),
        feedback=feedback,
        serving=serving,
        events=events,
        lineages=Lineages(events, registry, tracking, feedback),
        alerts=alerts,
        rollouts=rollouts,
        retrainings=retrainings,
        channels=channels,
        monitors=monitors,
        provenances=Provenances(rollouts, retrainings),
        checklists=Checklists(
            settings,
            serving=serving,
            registry=registry,
            tracking=tracking,
            feedback=feedback,
            events=events,
            monitors=monitors,
            alerts=alerts,
            channels=channels,
            rollouts=rollouts,
            retrainings=retrainings,
            auth=identity.auth_mode,
            backed_up=lambda: last_backup_ms(home),
        ),
        nudge=nudge,
    )


def mounts() -> list[str]:
    """Where dialects are mounted, beside the dashboard at `/`."""
    from drivetrain.dialects.invocations import Invocations
    from drivetrain.dialects.kserve import KServe
    from drivetrain.dialects.mlflow import MLflow, Otlp
    from drivetrain.dialects.ollama import Ollama
    from drivetrain.dialects.openai import OpenAI
    from drivetrain.dialects.wandb import Telemetry, Wandb

    found = [prefix for dialect in (OpenAI, Ollama, KServe, Invocations, MLflow, Otlp, Wandb, Telemetry) for prefix in dialect.prefixes]
    return sorted([*found, "/api/v1", "/health", "/metrics"])


class Application:
    """What one web process answers with: the door, all dialects behind it, and FastAPI (native API, pages) behind those.

    `routes` is filled, and `wake` heard, by the supervisor. `ports`: ports that belong to one dialect alone, which has no mount there.
    """

    def __init__(
        self, platform: Platform, routes: RoutesHolder, spool: Spool, wake: Callable[[str], None], ports: Mapping[int, str] | None = None
    ) -> None:
        from drivetrain.serving.catalog import Listing
        from drivetrain.serving.gateway.gateway import Gateway
        from drivetrain.wire.hosts import Hosts
        from drivetrain.wire.meter import Meter
        from drivetrain.wire.request import run_sync
        from drivetrain.wire.who import Who

        async def implicit(ctx: Context, name: str) -> Deployment:
            return await run_sync(platform.serving.implicit, ctx, name)

        settings = platform.settings
        self._platform = platform
        self._most_body = settings.max_body_bytes
        self.stopping: Callable[[], bool] = lambda: False
        """Whether this process is to end; it says so itself. Streams without an end of their own end then."""
        self._spool = spool
        self._gateway = Gateway(routes, spool, wake, implicit, settings)
        self._who = Who(platform.identity, lambda: routes.current)
        self._dialects = _dialects(platform, self._gateway, Listing(platform.registry, platform.serving), self._who)
        self._hosts = Hosts(settings.host, settings.allowed_hosts)
        self._meter = Meter()
        self._folder = platform.home.runtime
        self._family = 0
        self._rest = _fastapi(platform, routes, spool, self.metrics, self._ending)
        self._door = self._make_door({at: dialect for dialect in self._dialects for at in dialect.prefixes})
        self._ports = {port: self._make_door({"": self._named(name)}, whole=False) for port, name in (ports or {}).items()}

    async def __call__(self, scope: WireScope, receive: Receive, send: Send) -> None:
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
        return self._gateway.inflight()

    def metrics(self, ctx: Context) -> str:
        """Prometheus' text: what all web processes of this server have answered, and this one's state. Of deployments, those of the asker's
        workspace; an admin of the server sees them all."""
        from drivetrain.rollout.judging import gauges
        from drivetrain.serving.gateway import meters
        from drivetrain.wire.meter import exposition, siblings

        mine = None if ctx.server_admin else ctx.workspace_id
        standing = self._gateway.standing()
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
        from drivetrain.web.pages import BELOW_MOUNTS, OPEN
        from drivetrain.wire.door import Door

        open_paths = (*OPEN, "/health", "/api/v1/session")
        return Door(
            at,
            self._rest,
            self._who,
            signed=self._who.signed,
            hosts=self._hosts,
            open_paths=open_paths,
            kept=BELOW_MOUNTS if whole else (),
            meter=self._meter,
            most_body=self._most_body,
        )

    async def share(self, family: int) -> None:
        """Let the other web processes of this server (children of process `family`) know this one's counts. Runs until it is cancelled."""
        from drivetrain.serving.gateway.meters import PREFIX
        from drivetrain.wire.meter import forget_strangers, share_file

        self._family = family
        mine, series = share_file(self._folder, family), share_file(self._folder, family, what=PREFIX)
        for what in ("meter", PREFIX):
            forget_strangers(self._folder, family, what=what)
        while True:
            try:
                self._meter.share(mine)
                self._gateway.meters.share(series, [now for now, _, _ in self._gateway.standing()])
            except OSError as error:
                log.warning("the counts of answers cannot be shared: %s", error)
            await asyncio.sleep(SHARE_SECONDS)


def _dialects(platform: Platform, gateway: Gateway, catalog: Catalog, who: Who) -> list[Dialect]:
    from drivetrain.dialects.invocations import Invocations
    from drivetrain.dialects.kserve import KServe
    from drivetrain.dialects.mlflow import MLflow, Otlp
    from drivetrain.dialects.ollama import Ollama
    from drivetrain.dialects.openai import OpenAI
    from drivetrain.dialects.wandb import Telemetry, Wandb

    async def enter(request_id: str, token: str | None, workspace: str) -> Context:
        return await who(request_id, token, workspace, None)

    most = platform.settings.max_body_bytes
    number = version("drivetrain")
    return [
        OpenAI(gateway, catalog, max_body=most),
        Ollama(gateway, catalog, max_body=most),
        KServe(gateway, server_version=number, max_body=most),
        Invocations(gateway, server_version=number, max_body=most),
        MLflow(platform.tracking, platform.registry, max_body=most, max_upload=platform.settings.upload_max_bytes),
        Otlp(platform.tracking, max_body=most),
        Wandb(_wandb_services(platform), enter, max_body=most, max_upload=platform.settings.upload_max_bytes),
        Telemetry(),
    ]


def _wandb_services(platform: Platform) -> Callable[[str], WandbServices]:
    from drivetrain.dialects.wandb.services import Services as WandbServices

    def sign(ctx: Context, method: str, path: str) -> str:
        scope = Scope.read if method in ("GET", "HEAD") else Scope.write
        return platform.identity.sign_url(ctx, method, path, scopes=[scope], seconds=SIGNED_SECONDS)

    def alert(ctx: Context, run: Run, severity: str, title: str, text: str) -> None:
        platform.alerts.raise_alert(
            workspace_id=ctx.workspace_id,
            deployment="",
            source=f"run {run.name}",
            key=f"run:{run.id}:{title}",
            severity=severity,
            title=title,
            text=text,
            evidence={"run": run.id},
        )

    def services(base_url: str) -> WandbServices:
        return WandbServices(
            tracking=platform.tracking,
            registry=platform.registry,
            sweeps=platform.sweeps,
            sign_url=sign,
            alert=alert,
            base_url=base_url,
        )

    return services


def _fastapi(
    platform: Platform, routes: RoutesHolder, spool: Spool, metrics: Callable[[Context], str], stopping: Callable[[], bool]
) -> FastAPI:
    from fastapi import FastAPI

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
    from drivetrain.web import pages
    from drivetrain.wire.answers import describe_answers
    from drivetrain.wire.fastapi import install_errors

    app = FastAPI(
        title="drivetrain",
        version=version("drivetrain"),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # a page of the dashboard: the framework's own is loaded from elsewhere
        redoc_url=None,
    )
    install_errors(app)
    describe_answers(app)
    for router in (
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
    ):
        app.include_router(router)
    return app
