"""Experiments and runs: list, search, log, and their artifacts. NaN and infinities are strings, since JSON has no form for them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from drivetrain.answers import tracking as answers
from drivetrain.config import Settings
from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.store.ids import now_ms
from drivetrain.tracking.checks import MAX_BATCH
from drivetrain.tracking.model import Experiment, Metric, Owner, View
from drivetrain.tracking.service import Tracking
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import RAW_BODY, Asking
from drivetrain.wire.request import Request as WireRequest
from drivetrain.wire.request import run_sync
from drivetrain.words import spelled


class NewExperiment(BaseModel):
    name: str
    tags: dict[str, str] = {}


class NewRun(BaseModel):
    experiment: str = Field("0", description="Name or id; a name that is not there yet is made")
    name: str | None = None
    tags: dict[str, str] = {}
    start_ms: int | None = None


class RunChange(BaseModel):
    status: Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"] | None = None
    end_ms: int | None = None
    name: str | None = None
    config: dict[str, Any] | None = Field(None, description="Nested; it replaces the params that an earlier config made")
    summary: dict[str, Any] | None = None


class NewPoint(BaseModel):
    key: str
    value: float = Field(description="A number, or 'NaN', 'Infinity', '-Infinity'")
    step: int = 0
    timestamp_ms: int | None = None


class Batch(BaseModel):
    metrics: list[NewPoint] = Field([], max_length=10 * MAX_BATCH)
    params: dict[str, str] = Field({}, max_length=MAX_BATCH)
    tags: dict[str, str] = Field({}, max_length=MAX_BATCH)


def router(tracking: Tracking, settings: Settings) -> APIRouter:
    api = native_router("tracking")
    _experiments(api, tracking)
    _runs(api, tracking)
    _artifacts(api, tracking, settings)
    return api


def _experiments(api: APIRouter, tracking: Tracking) -> None:
    @api.get("/experiments")
    def experiments(ctx: Asking, view: View = View.active, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> answers.ExperimentList:
        """The active experiments, or the deleted ones, or all; the latest changed first."""
        found = tracking.experiments.search(ctx, view=view, limit=limit)
        return answers.ExperimentList([answers.Experiment.of(one) for one in found.items])

    @api.post("/experiments", status_code=201)
    def create(ctx: Asking, new: NewExperiment) -> answers.Experiment:
        return answers.Experiment.of(tracking.experiments.create(ctx, new.name, tags=new.tags))

    @api.get("/experiments/{experiment}")
    def one(ctx: Asking, experiment: str) -> answers.Experiment:
        """By name or id."""
        return answers.Experiment.of(_named(tracking, ctx, experiment))


def _runs(api: APIRouter, tracking: Tracking) -> None:
    @api.get("/runs")
    def search(
        ctx: Asking,
        experiment: str | None = None,
        filter: Annotated[str | None, Query(description="As in mlflow: metrics.accuracy > 0.9 AND params.seed = '7'")] = None,  # noqa: A002
        order_by: Annotated[list[str] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 50,
        token: str | None = None,
        view: View = View.active,
    ) -> answers.RunList:
        """Runs of one experiment (name or id) or of all, the latest begun first; `token` asks for the next page."""
        there = View.active if view is View.active else View.all
        experiments = [_named(tracking, ctx, experiment)] if experiment else _all(tracking, ctx, there)
        names = {one.id: one.name for one in experiments}
        found = tracking.runs.search(ctx, list(names), filter=filter, view=view, order_by=order_by or [], limit=limit, token=token)
        return answers.RunList([answers.Run.of(one, names.get(one.experiment_id)) for one in found.items], found.token)

    @api.post("/runs", status_code=201)
    def create(ctx: Asking, new: NewRun) -> answers.Run:
        experiment = _found_or_made(tracking, ctx, new.experiment)
        made = tracking.runs.create(ctx, experiment.id, name=new.name, tags=new.tags, start_ms=new.start_ms)
        return answers.Run.of(made, experiment.name)

    @api.put("/runs/{run_id}")
    def ensure(ctx: Asking, run_id: str, new: NewRun) -> answers.Run:
        """Create a run under an id of one's own choice, 32 hex digits. The same again finds it as it is."""
        experiment = _found_or_made(tracking, ctx, new.experiment)
        return answers.Run.of(tracking.runs.create(ctx, experiment.id, name=new.name, tags=new.tags, start_ms=new.start_ms, run_id=run_id))

    @api.post("/runs/{run_id}/heartbeat")
    def heartbeat(ctx: Asking, run_id: str) -> answers.Beat:
        """Say that the run's client is there. A run that has beaten and then falls silent for some minutes is FAILED."""
        return answers.Beat(tracking.reports.append(ctx, run_id))

    @api.get("/runs/{run_id}")
    def one(ctx: Asking, run_id: str) -> answers.RunWithModels:
        """A run with its params, tags, latest metrics, data and models."""
        run = tracking.runs.get(ctx, run_id)
        return answers.RunWithModels(
            **answers.about(run, tracking.experiments.get(ctx, run.experiment_id).name),
            inputs=[answers.DataUsed.of(one) for one in run.inputs],
            models=[answers.ModelMade.of(one) for one in tracking.models.of_run(ctx, run_id)],
        )

    @api.patch("/runs/{run_id}")
    def change(ctx: Asking, run_id: str, new: RunChange) -> answers.Run:
        tracking.runs.update(ctx, run_id, status=new.status, end_ms=new.end_ms, name=new.name)
        if new.config is not None or new.summary is not None:
            config = None if new.config is None else json.dumps({key: {"value": value} for key, value in new.config.items()})
            tracking.reports.update(ctx, run_id, config=config, summary=None if new.summary is None else json.dumps(new.summary))
        return answers.Run.of(tracking.runs.get(ctx, run_id))

    @api.delete("/runs/{run_id}")
    def delete(ctx: Asking, run_id: str) -> None:
        """Hide a run."""
        tracking.runs.delete(ctx, run_id)

    @api.post("/runs/{run_id}/restore")
    def restore(ctx: Asking, run_id: str) -> None:
        tracking.runs.restore(ctx, run_id)

    @api.post("/runs/{run_id}/log")
    def log(ctx: Asking, run_id: str, batch: Batch) -> None:
        """Log points, params and tags: all of them or, after an error, none. The same again changes nothing."""
        now = now_ms()
        points = [Metric(p.key, p.value, now if p.timestamp_ms is None else p.timestamp_ms, p.step) for p in batch.metrics]
        tracking.metrics.log(ctx, run_id, metrics=points, params=batch.params, tags=batch.tags)

    @api.get("/runs/{run_id}/console")
    def console(
        ctx: Asking, run_id: str, after: int = -1, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000, last: bool = False
    ) -> answers.LineList:
        """Lines that the run has printed, with a greater number than `after`; `last`: the last of them."""
        return answers.LineList([*tracking.history.console(ctx, run_id, after=after, limit=limit, last=last)])

    @api.get("/runs/{run_id}/metrics/{key:path}")
    def history(
        ctx: Asking, run_id: str, key: str, limit: Annotated[int, Query(ge=1, le=25_000)] = 25_000, token: str | None = None
    ) -> answers.MetricHistory:
        """The points of a metric as [step, time in ms, value], ordered by step, then time."""
        found = tracking.metrics.history(ctx, run_id, key, limit=limit, token=token)
        return answers.MetricHistory(key, [(p.step, p.timestamp_ms, spelled(p.value)) for p in found.items], found.token)


def _artifacts(api: APIRouter, tracking: Tracking, settings: Settings) -> None:
    @api.get("/runs/{run_id}/artifacts")
    def files(ctx: Asking, run_id: str, path: str = "") -> answers.FileList:
        """The files and folders right below a folder of the run's artifacts."""
        found = tracking.artifacts.listing(ctx, Owner.run, run_id, path)
        return answers.FileList([answers.File(path=one.path, is_dir=one.is_dir, size=one.size, sha256=one.sha256) for one in found])

    @api.get("/runs/{run_id}/artifacts/{path:path}")
    def download(ctx: Asking, request: Request, run_id: str, path: str) -> Response:
        """One file; ranges are served."""
        found = tracking.artifacts.get(ctx, Owner.run, run_id, path)
        return File(tracking, request.scope["state"]["request"], found.sha256, path)

    @api.put("/runs/{run_id}/artifacts/{path:path}", status_code=201, openapi_extra=RAW_BODY)
    async def upload(ctx: Asking, request: Request, run_id: str, path: str) -> answers.FileStored:
        """The raw bytes as the body."""
        await run_sync(tracking.artifacts.check_owner, ctx, Owner.run, run_id, writable=True)
        wire: WireRequest = request.scope["state"]["request"]
        blob = await wire.save(tracking.artifacts.blobs, settings.upload_max_bytes)
        await run_sync(tracking.artifacts.put, ctx, Owner.run, run_id, path, blob)
        return answers.FileStored(path, blob.sha256, blob.size)


class File(Response):
    """A blob, sent by the request that it answers."""

    def __init__(self, tracking: Tracking, request: WireRequest, sha256: str, path: str) -> None:
        super().__init__()
        self._tracking = tracking
        self._request = request
        self._sha256 = sha256
        self._name = path.rpartition("/")[2]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._request.respond_blob(self._tracking.artifacts.blobs, self._sha256, name=self._name)


def _found_or_made(tracking: Tracking, ctx: Context, experiment: str) -> Experiment:
    try:
        return _named(tracking, ctx, experiment)
    except NotFound:
        return tracking.experiments.create(ctx, experiment)


def _all(tracking: Tracking, ctx: Context, view: View) -> list[Experiment]:
    return tracking.experiments.search(ctx, view=view, limit=10_000).items


def _named(tracking: Tracking, ctx: Context, experiment: str) -> Experiment:
    """By name, else by id."""
    try:
        return tracking.experiments.find(ctx, experiment)
    except NotFound:
        if not experiment.isdigit():
            raise
        return tracking.experiments.get(ctx, experiment)
