"""Deleting: hide and restore experiments (runs: see tracking); let go for good what was hidden for long enough."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from drivetrain.answers.deletion import CollectedList
from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.tracking.deletion.model import Collected, Preview, Retention
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.service import Tracking
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking

_MADE = "With the runs, the logged models that they made, deleted or not; registered versions stay"
_AGE = "Seconds since it was deleted; in place of the policy's grace"


class WhatToCollect(BaseModel):
    older_than_s: float | None = Field(None, ge=0, le=1e10, description=_AGE)
    runs: list[str] = Field([], max_length=1000, description="Ids; only these")
    experiments: list[str] = Field([], max_length=1000, description="Names or ids; only these")
    made_models: bool = Field(False, description=_MADE)


class PolicyChange(BaseModel):
    grace_s: float | None = Field(None, ge=0, le=1e10, description="How long what was deleted can be restored for sure")
    automatic: bool | None = Field(None, description="Whether it goes by itself after that")


def router(tracking: Tracking, deletion: Deletion) -> APIRouter:
    api = native_router("deletion")
    _hide(api, tracking)
    _collect(api, tracking, deletion)

    @api.get("/retention")
    def policy(ctx: Asking) -> Retention:
        """How long the workspace keeps what was deleted, and whether it goes by itself then."""
        return deletion.policy(ctx)

    @api.put("/retention")
    def set_policy(ctx: Asking, change: PolicyChange) -> Retention:
        """Change what is given. Needs the scope `admin`."""
        return deletion.set_policy(ctx, grace_ms=_ms(change.grace_s), automatic=change.automatic)

    return api


def _hide(api: APIRouter, tracking: Tracking) -> None:
    @api.delete("/experiments/{experiment}")
    def delete_experiment(ctx: Asking, experiment: str) -> None:
        """Hide an experiment (name or id) with its runs."""
        tracking.experiments.delete(ctx, _number(tracking, ctx, experiment))

    @api.post("/experiments/{experiment}/restore")
    def restore_experiment(ctx: Asking, experiment: str) -> None:
        """Bring an experiment back, with the runs that were deleted together with it."""
        tracking.experiments.restore(ctx, _number(tracking, ctx, experiment))


def _collect(api: APIRouter, tracking: Tracking, deletion: Deletion) -> None:
    @api.get("/gc/preview")
    def preview(
        ctx: Asking,
        older_than_s: Annotated[float | None, Query(ge=0, le=1e10, description=_AGE)] = None,
        run: Annotated[list[str] | None, Query(max_length=1000)] = None,
        experiment: Annotated[list[str] | None, Query(max_length=1000)] = None,
        made_models: Annotated[bool, Query(description=_MADE)] = False,
    ) -> Preview:
        """What would be deleted for good: how many, the first by name, and how many bytes that frees. Changes nothing."""
        numbers = [_number(tracking, ctx, one) for one in experiment or []]
        age = _ms(older_than_s)
        return deletion.preview(ctx, older_than_ms=age, runs=run or [], experiments=numbers, made_models=made_models)

    @api.post("/gc", status_code=202)
    def collect(ctx: Asking, what: WhatToCollect) -> Collected:
        """Delete for good what the preview shows. The answer comes before it is done: ask for the collection until `ended_ms` is set.
        Needs the scope `admin`."""
        numbers = [_number(tracking, ctx, one) for one in what.experiments]
        age = _ms(what.older_than_s)
        return deletion.collect(ctx, older_than_ms=age, runs=what.runs, experiments=numbers, made_models=what.made_models)

    @api.get("/gc")
    def collections(ctx: Asking, limit: Annotated[int, Query(ge=1, le=1000)] = 20) -> CollectedList:
        """What was deleted for good, the newest first."""
        return CollectedList([*deletion.collections(ctx, limit=limit)])

    @api.get("/gc/{collection}")
    def one(ctx: Asking, collection: str) -> Collected:
        """How far a collection has come: `waiting` is what it still has to delete."""
        return deletion.collection(ctx, collection)


def _number(tracking: Tracking, ctx: Context, experiment: str) -> str:
    """The id of an experiment by its name, or else by that id."""
    try:
        return tracking.experiments.find(ctx, experiment).id
    except NotFound:
        return tracking.experiments.get(ctx, experiment).id


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
