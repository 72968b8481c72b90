"""Deployments, their events, figures and quality."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from msgspec.structs import asdict
from pydantic import BaseModel, Field

from drivetrain.answers import serving as answers
from drivetrain.answers.monitoring import LabelQuality
from drivetrain.answers.serving import LiveDeployment
from drivetrain.errors import Invalid, NotFound
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context, Scope
from drivetrain.monitoring.quality import quality
from drivetrain.serving.model import Capture, Unit
from drivetrain.serving.service import Serving
from drivetrain.store.events.lookup import Events
from drivetrain.store.ids import now_ms
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking

MOST_EVENTS = 1000
QUALITY_EVENTS = 10_000
HOUR_MS = 3_600_000


class NewDeployment(BaseModel):
    name: str
    source: str
    engine: str = "auto"
    options: dict[str, Any] = Field(default_factory=dict)
    min_replicas: int = 1
    max_replicas: int | None = None
    capture: Capture = Capture.all
    capture_rate: float = 1.0
    unit: Unit | None = None
    prices: dict[str, float] | None = None


class Scale(BaseModel):
    min_replicas: int
    max_replicas: int | None = None


def router(serving: Serving, events: Events, feedback: Feedback) -> APIRouter:
    api = native_router("serving")

    @api.get("/deployments")
    def deployments(ctx: Asking) -> answers.DeploymentList:
        return answers.DeploymentList([LiveDeployment.of(one) for one in serving.list(ctx)])

    @api.post("/deployments", status_code=201)
    def deploy(ctx: Asking, new: NewDeployment) -> LiveDeployment:
        return LiveDeployment.of(serving.deploy(ctx, **new.model_dump()))

    # Names may hold slashes: what follows the name comes first in the routes.

    @api.post("/deployments/{name:path}/scale")
    def scale(ctx: Asking, name: str, bounds: Scale) -> LiveDeployment:
        return LiveDeployment.of(serving.scale(ctx, name, min_replicas=bounds.min_replicas, max_replicas=bounds.max_replicas))

    @api.post("/deployments/{name:path}/restart")
    def restart(ctx: Asking, name: str) -> LiveDeployment:
        return LiveDeployment.of(serving.restart(ctx, name))

    @api.get("/deployments/{name:path}/series")
    def series(
        ctx: Asking,
        name: str,
        since_ms: int | None = None,
        until_ms: int | None = None,
        step_ms: int = 60_000,
        variant: str | None = None,
    ) -> answers.PointList:
        """Requests, errors by kind, tokens, cost, and quantiles of latency, first bytes and waiting, step by step (at least a minute); the
        last hour by default. `variant`: of this one alone, by its name."""
        until = until_ms or now_ms() + 60_000
        since = since_ms if since_ms is not None else until - HOUR_MS
        id_, one = serving.get(ctx, name).id, None
        if variant is not None:
            one = next((each.id for each in serving.history(ctx, name) if each.name == variant), None)
            if one is None:
                raise NotFound(f"The deployment {name!r} has no variant {variant[:80]!r}. See: drivetrain ps", param="variant")
        return answers.PointList(events.series([id_], since_ms=since, until_ms=until, step_ms=step_ms, variant=one))

    @api.get("/deployments/{name:path}/quality")
    def label_quality(ctx: Asking, name: str) -> LabelQuality:
        """Accuracy of the newest answers for which labels have come."""
        deployment = serving.get(ctx, name)
        newest = events.recent(ctx.workspace_id, deployment=deployment.id, limit=QUALITY_EVENTS)
        labels = feedback.labels(ctx, [event.id for event in newest])
        return LabelQuality(deployment=name, **asdict(quality(newest, labels)))

    @api.get("/deployments/{name:path}")
    def deployment(ctx: Asking, name: str) -> LiveDeployment:
        return LiveDeployment.of(serving.get(ctx, name))

    @api.delete("/deployments/{name:path}")
    def delete(ctx: Asking, name: str) -> None:
        serving.delete(ctx, name)

    @api.get("/events")
    def recent(
        ctx: Asking, deployment: str | None = None, limit: int = 100, before: str | None = None, errors_only: bool = False
    ) -> answers.RequestList:
        """The newest events, of one deployment (by name) or of all."""
        ctx.require(Scope.read)
        if not 0 < limit <= MOST_EVENTS:
            raise Invalid(f"limit is between 1 and {MOST_EVENTS}.", param="limit")
        id_ = _id(ctx, deployment)
        return answers.RequestList(events.recent(ctx.workspace_id, deployment=id_, limit=limit, before=before, errors_only=errors_only))

    def _id(ctx: Context, name: str | None) -> str | None:
        return serving.get(ctx, name).id if name is not None else None

    return api
