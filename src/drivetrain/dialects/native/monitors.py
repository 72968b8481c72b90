"""Monitors of deployments, drift reports, performance by labels; alerts and the channels that tell them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from msgspec.structs import asdict
from pydantic import BaseModel, Field

from drivetrain.answers import monitoring as answers
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.model import Alert, Delivery, Monitor, Silence
from drivetrain.monitoring.service import Monitors
from drivetrain.store.ids import now_ms
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking

DAY_MS = 86_400_000


class Settings(BaseModel):
    """The settings to change; see the monitor's own `config` for what there is."""

    config: dict[str, Any] = Field(default_factory=dict)
    paused: bool | None = None


class NewSilence(BaseModel):
    deployment: str = ""
    source: str = ""
    seconds: float
    why: str = ""


class NewChannel(BaseModel):
    """`kind`: log, webhook or email. `url`: where to; see the documentation of alerts. `least`: the least severity that is told."""

    name: str
    kind: str
    url: str = ""
    least: str = "warn"


def router(monitors: Monitors, alerts: Alerts, channels: Channels) -> APIRouter:
    """Include it before the router of deployments: their names may hold slashes, so what follows a name must come first."""
    api = native_router("monitoring")

    @api.get("/monitors")
    def everything(ctx: Asking) -> answers.MonitorList:
        """All monitors of the workspace."""
        return answers.MonitorList(monitors.list(ctx))

    @api.get("/deployments/{name:path}/monitors")
    def listed(ctx: Asking, name: str) -> answers.MonitorList:
        """What is asked of a deployment, and the last answers."""
        return answers.MonitorList(monitors.list(ctx, name))

    @api.put("/deployments/{name:path}/monitors/{kind}")
    def change(ctx: Asking, name: str, kind: str, settings: Settings) -> Monitor:
        """Change settings of a monitor, pause it, or let it go on."""
        return monitors.set(ctx, name, kind, config=settings.config, paused=settings.paused)

    @api.get("/deployments/{name:path}/drift")
    def drift(ctx: Asking, name: str, window: str | None = None) -> answers.DriftReport:
        """The report of the newest window, or of the one that is named."""
        found, report = monitors.report(ctx, name, window)
        return answers.DriftReport(deployment=name, window=found, **asdict(report))

    @api.get("/deployments/{name:path}/drift/windows")
    def windows(ctx: Asking, name: str, limit: int = 50) -> answers.WindowList:
        """The windows that were compared, the newest first."""
        return answers.WindowList(monitors.windows(ctx, name, limit=min(max(limit, 1), 500)))

    @api.get("/deployments/{name:path}/performance")
    def performance(
        ctx: Asking, name: str, since_ms: int | None = None, until_ms: int | None = None, step_ms: int = 3_600_000
    ) -> answers.CohortList:
        """How right the answers were by their labels, by the time of the answers and by variant; the last day by default."""
        until = until_ms or now_ms()
        since = since_ms if since_ms is not None else until - DAY_MS
        return answers.CohortList(monitors.performance(ctx, name, since_ms=since, until_ms=until, step_ms=step_ms))

    @api.get("/alerts")
    def all_alerts(ctx: Asking, state: str | None = None, deployment: str | None = None, limit: int = 100) -> answers.AlertList:
        """The alerts, the newest first. `state`: open, acknowledged, resolved, or lasting (the first two)."""
        return answers.AlertList(alerts.list(ctx, state=state, deployment=deployment, limit=min(max(limit, 1), 1000)))

    @api.get("/alerts/{alert}")
    def one(ctx: Asking, alert: str) -> answers.AlertTold:
        """An alert with its evidence, and who was told."""
        found = alerts.get(ctx, alert)
        return answers.AlertTold(**asdict(found), deliveries=channels.deliveries(ctx, alert=found.id))

    @api.post("/alerts/{alert}/acknowledge")
    def acknowledge(ctx: Asking, alert: str) -> Alert:
        """Say that one looks after it."""
        return alerts.acknowledge(ctx, alert)

    @api.post("/alerts/{alert}/resolve")
    def resolve(ctx: Asking, alert: str) -> Alert:
        """Say that it is over; seen again, it is raised anew."""
        return alerts.resolve(ctx, alert)

    @api.get("/alert-silences")
    def silences(ctx: Asking) -> answers.SilenceList:
        return answers.SilenceList(alerts.silences(ctx))

    @api.post("/alert-silences", status_code=201)
    def silence(ctx: Asking, new: NewSilence) -> Silence:
        """Tell nobody of some alerts for a while. They are still recorded."""
        return alerts.silence(ctx, **new.model_dump())

    @api.delete("/alert-silences/{silence}")
    def end_silence(ctx: Asking, silence: str) -> None:
        alerts.end_silence(ctx, silence)

    @api.get("/alert-channels")
    def all_channels(ctx: Asking) -> answers.ChannelList:
        return answers.ChannelList(channels.list(ctx))

    @api.post("/alert-channels", status_code=201)
    def add_channel(ctx: Asking, new: NewChannel) -> answers.ChannelMade:
        """Add a channel. `key` signs a webhook's messages and is shown this once."""
        channel, key = channels.add(ctx, new.name, new.kind, new.url, least=new.least)
        return answers.ChannelMade(**asdict(channel), key=key)

    @api.delete("/alert-channels/{name}")
    def delete_channel(ctx: Asking, name: str) -> None:
        channels.delete(ctx, name)

    @api.post("/alert-channels/{name}/test", status_code=202)
    def test_channel(ctx: Asking, name: str) -> Delivery:
        """Queue a message that says nothing but that it arrives; look at the delivery to see how it went."""
        return channels.test(ctx, name)

    @api.get("/alert-deliveries")
    def deliveries(ctx: Asking, alert: str | None = None, limit: int = 50) -> answers.DeliveryList:
        """Who was told what, the newest first."""
        return answers.DeliveryList(channels.deliveries(ctx, alert=alert, limit=min(max(limit, 1), 500)))

    @api.get("/alert-deliveries/{delivery}")
    def delivery(ctx: Asking, delivery: str) -> Delivery:
        return channels.delivery(ctx, delivery)

    return api
