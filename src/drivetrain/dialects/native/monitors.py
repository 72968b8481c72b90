"""Monitors of deployments, drift reports, performance by labels; alerts and the channels that tell them."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field

from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.service import Monitors
from drivetrain.store.ids import now_ms
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
    api = APIRouter(prefix="/api/v1", tags=["monitoring"])

    @api.get("/monitors")
    def everything(ctx: Asking) -> dict[str, Any]:
        """All monitors of the workspace."""
        return {"monitors": msgspec.to_builtins(monitors.list(ctx))}

    @api.get("/deployments/{name:path}/monitors")
    def listed(ctx: Asking, name: str) -> dict[str, Any]:
        """What is asked of a deployment, and the last answers."""
        return {"monitors": msgspec.to_builtins(monitors.list(ctx, name))}

    @api.put("/deployments/{name:path}/monitors/{kind}")
    def change(ctx: Asking, name: str, kind: str, settings: Settings) -> dict[str, Any]:
        """Change settings of a monitor, pause it, or let it go on."""
        changed: dict[str, Any] = msgspec.to_builtins(monitors.set(ctx, name, kind, config=settings.config, paused=settings.paused))
        return changed

    @api.get("/deployments/{name:path}/drift")
    def drift(ctx: Asking, name: str, window: str | None = None) -> dict[str, Any]:
        """The report of the newest window, or of the one that is named."""
        found, report = monitors.report(ctx, name, window)
        return {"deployment": name, "window": msgspec.to_builtins(found), **msgspec.to_builtins(report)}

    @api.get("/deployments/{name:path}/drift/windows")
    def windows(ctx: Asking, name: str, limit: int = 50) -> dict[str, Any]:
        """The windows that were compared, the newest first."""
        return {"windows": msgspec.to_builtins(monitors.windows(ctx, name, limit=min(max(limit, 1), 500)))}

    @api.get("/deployments/{name:path}/performance")
    def performance(
        ctx: Asking, name: str, since_ms: int | None = None, until_ms: int | None = None, step_ms: int = 3_600_000
    ) -> dict[str, Any]:
        """How right the answers were by their labels, by the time of the answers and by variant; the last day by default."""
        until = until_ms or now_ms()
        since = since_ms if since_ms is not None else until - DAY_MS
        return {"cohorts": msgspec.to_builtins(monitors.performance(ctx, name, since_ms=since, until_ms=until, step_ms=step_ms))}

    @api.get("/alerts")
    def all_alerts(ctx: Asking, state: str | None = None, deployment: str | None = None, limit: int = 100) -> dict[str, Any]:
        """The alerts, the newest first. `state`: open, acknowledged, resolved, or lasting (the first two)."""
        return {"alerts": msgspec.to_builtins(alerts.list(ctx, state=state, deployment=deployment, limit=min(max(limit, 1), 1000)))}

    @api.get("/alerts/{alert}")
    def one(ctx: Asking, alert: str) -> dict[str, Any]:
        """An alert with its evidence, and who was told."""
        found = alerts.get(ctx, alert)
        return {**msgspec.to_builtins(found), "deliveries": msgspec.to_builtins(channels.deliveries(ctx, alert=found.id))}

    @api.post("/alerts/{alert}/acknowledge")
    def acknowledge(ctx: Asking, alert: str) -> dict[str, Any]:
        """Say that one looks after it."""
        done: dict[str, Any] = msgspec.to_builtins(alerts.acknowledge(ctx, alert))
        return done

    @api.post("/alerts/{alert}/resolve")
    def resolve(ctx: Asking, alert: str) -> dict[str, Any]:
        """Say that it is over; seen again, it is raised anew."""
        done: dict[str, Any] = msgspec.to_builtins(alerts.resolve(ctx, alert))
        return done

    @api.get("/alert-silences")
    def silences(ctx: Asking) -> dict[str, Any]:
        return {"silences": msgspec.to_builtins(alerts.silences(ctx))}

    @api.post("/alert-silences", status_code=201)
    def silence(ctx: Asking, new: NewSilence) -> dict[str, Any]:
        """Tell nobody of some alerts for a while. They are still recorded."""
        made: dict[str, Any] = msgspec.to_builtins(alerts.silence(ctx, **new.model_dump()))
        return made

    @api.delete("/alert-silences/{silence}")
    def end_silence(ctx: Asking, silence: str) -> dict[str, Any]:
        alerts.end_silence(ctx, silence)
        return {}

    @api.get("/alert-channels")
    def all_channels(ctx: Asking) -> dict[str, Any]:
        return {"channels": msgspec.to_builtins(channels.list(ctx))}

    @api.post("/alert-channels", status_code=201)
    def add_channel(ctx: Asking, new: NewChannel) -> dict[str, Any]:
        """Add a channel. `key` signs a webhook's messages and is shown this once."""
        channel, key = channels.add(ctx, new.name, new.kind, new.url, least=new.least)
        return {**msgspec.to_builtins(channel), "key": key}

    @api.delete("/alert-channels/{name}")
    def delete_channel(ctx: Asking, name: str) -> dict[str, Any]:
        channels.delete(ctx, name)
        return {}

    @api.post("/alert-channels/{name}/test", status_code=202)
    def test_channel(ctx: Asking, name: str) -> dict[str, Any]:
        """Queue a message that says nothing but that it arrives; look at the delivery to see how it went."""
        queued: dict[str, Any] = msgspec.to_builtins(channels.test(ctx, name))
        return queued

    @api.get("/alert-deliveries")
    def deliveries(ctx: Asking, alert: str | None = None, limit: int = 50) -> dict[str, Any]:
        """Who was told what, the newest first."""
        return {"deliveries": msgspec.to_builtins(channels.deliveries(ctx, alert=alert, limit=min(max(limit, 1), 500)))}

    @api.get("/alert-deliveries/{delivery}")
    def delivery(ctx: Asking, delivery: str) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(channels.delivery(ctx, delivery))
        return found

    return api
