"""Answers by their request id: where they came from, and what people and labels say of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, StrictStr

from drivetrain.feedback.model import Opinion
from drivetrain.retraining.provenance import Provenances
from drivetrain.serving.lineage import Lineage, Lineages
from drivetrain.tracking.model import Run
from drivetrain.wire.fastapi import Asking


class NewFeedback(BaseModel):
    name: str
    value: StrictBool | StrictInt | StrictFloat | StrictStr | None = None
    kind: Literal["feedback", "label"] = "feedback"
    source: str = ""
    comment: str = ""


def router(lineages: Lineages, provenances: Provenances) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["lineage"])

    @api.get("/requests/{request_id}")
    def request(ctx: Asking, request_id: str) -> dict[str, Any]:
        """The recorded request."""
        return {"event": msgspec.to_builtins(lineages.event(ctx, request_id))}

    @api.get("/requests/{request_id}/lineage")
    def lineage(ctx: Asking, request_id: str) -> dict[str, Any]:
        """Answer → variant → version → commit → run → data, and feedback; the rollout that brought the version, and the retraining that
        made it. A step that is gone is null; `notes` says why."""
        found = lineages.of(ctx, request_id)
        came: dict[str, Any] = msgspec.to_builtins(provenances.of(ctx, found.event.variant))
        return {**shown(found), **came}

    @api.post("/requests/{request_id}/feedback", status_code=201)
    def say(ctx: Asking, request_id: str, new: NewFeedback) -> Opinion:
        """Say something of an answer: `feedback` is an opinion of it, a `label` is the right answer. Saying it again replaces it."""
        return lineages.say(ctx, request_id, new.name, new.value, kind=new.kind, source=new.source, comment=new.comment)

    @api.get("/requests/{request_id}/feedback")
    def said(ctx: Asking, request_id: str) -> dict[str, list[Opinion]]:
        return {"feedback": lineages.feedback.of(ctx, request_id)}

    @api.get("/feedback")
    def recent(
        ctx: Asking, name: str | None = None, kind: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> dict[str, list[Opinion]]:
        """What was said last in the workspace."""
        return {"feedback": lineages.feedback.recent(ctx, name=name, kind=kind, limit=limit)}

    @api.delete("/feedback/{feedback_id}")
    def delete(ctx: Asking, feedback_id: str) -> dict[str, Any]:
        lineages.feedback.delete(ctx, feedback_id)
        return {}

    return api


def shown(lineage: Lineage) -> dict[str, Any]:
    """A lineage as JSON."""
    event = lineage.event
    return {
        "request_id": event.id,
        "event": msgspec.to_builtins(event),
        "deployment": {"id": event.deployment, "name": event.deployment_name},
        "variant": {"id": event.variant, "name": event.variant_name, "engine": event.engine, "replica": event.replica},
        "version": msgspec.to_builtins(lineage.version),
        "commit": msgspec.to_builtins(lineage.commit),
        "files": [{"path": path, "sha256": file.sha256, "size": file.size} for path, file in lineage.files.items()],
        "run": _run(lineage.run),
        "git_commit": lineage.git_commit,
        "seed": lineage.seed,
        "experiment": None if lineage.experiment is None else {"id": lineage.experiment.id, "name": lineage.experiment.name},
        "datasets": [
            {
                "name": one.dataset.name,
                "digest": one.dataset.digest,
                "context": one.context,
                "source_type": one.dataset.source_type,
                "source": one.dataset.source,
                "profile": one.dataset.profile,
            }
            for one in lineage.datasets
        ],
        "feedback": msgspec.to_builtins(lineage.feedback),
        "notes": list(lineage.notes),
    }


def _run(run: Run | None) -> dict[str, Any] | None:
    if run is None:
        return None
    return {
        "id": run.id,
        "name": run.name,
        "status": run.status,
        "user": run.user,
        "start_ms": run.start_ms,
        "end_ms": run.end_ms,
        "source": run.source,
        "params": dict(run.params),
        # NaN and infinities have no form in JSON.
        "metrics": {key: point.value if abs(point.value) < float("inf") else str(point.value) for key, point in run.metrics.items()},
        "tags": dict(run.tags),
    }
