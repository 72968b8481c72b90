"""Answers by their request id: where they came from, and what people and labels say of them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, StrictBool, StrictFloat, StrictInt, StrictStr

from drivetrain.answers import requests as answers
from drivetrain.answers.tracking import DataUsed
from drivetrain.feedback.model import Opinion
from drivetrain.retraining.provenance import Provenance, Provenances
from drivetrain.serving.lineage import Lineage, Lineages
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking


class NewFeedback(BaseModel):
    name: str
    value: StrictBool | StrictInt | StrictFloat | StrictStr | None = None
    kind: Literal["feedback", "label"] = "feedback"
    source: str = ""
    comment: str = ""


def router(lineages: Lineages, provenances: Provenances) -> APIRouter:
    api = native_router("lineage")

    @api.get("/requests/{request_id}")
    def request(ctx: Asking, request_id: str) -> answers.Recorded:
        """The recorded request."""
        return answers.Recorded(lineages.event(ctx, request_id))

    @api.get("/requests/{request_id}/lineage")
    def lineage(ctx: Asking, request_id: str) -> answers.Lineage:
        """Answer → variant → version → commit → run → data, and feedback; the rollout that brought the version, and the retraining that
        made it. A step that is gone is null; `notes` says why."""
        found = lineages.of(ctx, request_id)
        return _lineage(found, provenances.of(ctx, found.event.variant))

    @api.post("/requests/{request_id}/feedback", status_code=201)
    def say(ctx: Asking, request_id: str, new: NewFeedback) -> Opinion:
        """Say something of an answer: `feedback` is an opinion of it, a `label` is the right answer. Saying it again replaces it."""
        return lineages.say(ctx, request_id, new.name, new.value, kind=new.kind, source=new.source, comment=new.comment)

    @api.get("/requests/{request_id}/feedback")
    def said(ctx: Asking, request_id: str) -> answers.OpinionList:
        return answers.OpinionList(lineages.feedback.of(ctx, request_id))

    @api.get("/feedback")
    def recent(
        ctx: Asking, name: str | None = None, kind: str | None = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
    ) -> answers.OpinionList:
        """What was said last in the workspace."""
        return answers.OpinionList(lineages.feedback.recent(ctx, name=name, kind=kind, limit=limit))

    @api.delete("/feedback/{feedback_id}")
    def delete(ctx: Asking, feedback_id: str) -> None:
        lineages.feedback.delete(ctx, feedback_id)

    return api


def _lineage(found: Lineage, came: Provenance) -> answers.Lineage:
    event, run = found.event, found.run
    return answers.Lineage(
        request_id=event.id,
        event=event,
        deployment=answers.Named(event.deployment, event.deployment_name),
        variant=answers.ServedBy(event.variant, event.variant_name, event.engine, event.replica),
        version=found.version,
        commit=found.commit,
        files=[answers.CommittedFile(path, file.sha256, file.size) for path, file in found.files.items()],
        run=None if run is None else answers.TrainedBy.of(run),
        git_commit=found.git_commit,
        seed=found.seed,
        experiment=None if found.experiment is None else answers.Named(found.experiment.id, found.experiment.name),
        datasets=[DataUsed.of(one) for one in found.datasets],
        feedback=[*found.feedback],
        notes=[*found.notes],
        rollout=came.rollout,
        decisions=[*came.decisions],
        retraining=came.retraining,
    )
