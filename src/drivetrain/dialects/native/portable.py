"""Runs on the move: everything of a run to read it out, and everything to bring one in. `drivetrain runs export` and `import` use these.

Points go by columns, rows as JSON texts: NaN may stand in those, and in the record of a run.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from drivetrain.answers import portable as answers
from drivetrain.config import Settings
from drivetrain.dialects.native.tracking import File
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Line, Owner, Series
from drivetrain.tracking.service import Tracking
from drivetrain.tracking.transfer.incoming import Imports
from drivetrain.tracking.transfer.outgoing import MAX_POINTS
from drivetrain.tracking.transfer.records import ModelRecord, RunRecord, convert
from drivetrain.wire.answers import Encoded, native_router
from drivetrain.wire.fastapi import RAW_BODY, Asking
from drivetrain.wire.request import Request as WireRequest
from drivetrain.wire.request import run_sync

MAX_DATA = 64 << 20


class NewImport(BaseModel):
    digest: str
    record: dict[str, Any]


class NewModel(BaseModel):
    record: dict[str, Any]


class Finished(BaseModel):
    digest: str
    lifecycle: str = "active"


class Mark(BaseModel):
    run_id: str
    digest: str
    start_ms: int | None = None
    end_ms: int | None = None


class Data(msgspec.Struct):
    series: list[Series] = []
    rows: list[tuple[int, str]] = []
    lines: list[tuple[int, str, str, str]] = []


def router(tracking: Tracking, settings: Settings) -> APIRouter:
    api = native_router("moving runs")
    _out(api, tracking)
    _in(api, tracking.imports)
    _models(api, tracking, settings)
    return api


def _out(api: APIRouter, tracking: Tracking) -> None:
    @api.get("/runs/{run_id}/export")
    def record(ctx: Asking, run_id: str) -> Response:
        """All that is known of a run but points, rows, lines and files' bytes. NaN and Infinity may stand in it as bare words."""
        return Response(json.dumps(tracking.exports.record(ctx, run_id)), media_type="application/json")

    @api.get("/runs/{run_id}/export/points")
    def points(
        ctx: Asking,
        run_id: str,
        system: bool = False,
        limit: Annotated[int, Query(ge=1, le=MAX_POINTS)] = 50_000,
        token: str | None = None,
    ) -> Encoded[answers.SeriesPage]:
        """Every point, by columns, ordered by key, step, time and value."""
        found = tracking.exports.points(ctx, run_id, system=system, limit=limit, token=token)
        return Encoded(answers.SeriesPage(found.items, found.token))

    @api.get("/runs/{run_id}/export/rows")
    def rows(ctx: Asking, run_id: str, after: int = -1, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> Encoded[answers.RowPage]:
        """What rows hold that is no number, as [step, JSON text], after a step."""
        return Encoded(answers.RowPage(tracking.exports.rows(ctx, run_id, after=after, limit=limit)))

    @api.get("/runs/{run_id}/export/lines")
    def lines(ctx: Asking, run_id: str, after: int = -1, limit: Annotated[int, Query(ge=1, le=10_000)] = 5000) -> Encoded[answers.LinePage]:
        """Console lines as [number, level, time, text], after a number."""
        found = tracking.history.console(ctx, run_id, after=after, limit=limit)
        return Encoded(answers.LinePage([(one.number, one.level, one.time, one.text) for one in found]))


def _in(api: APIRouter, imports: Imports) -> None:
    @api.put("/imports/runs/{run_id}")
    def begin(ctx: Asking, run_id: str, new: NewImport) -> answers.Begun:
        """Begin to bring in a run: its id here, and whether it is new, resumed, unchanged, or exists."""
        found = convert({**new.record, "id": run_id}, RunRecord)
        return answers.Begun(*imports.begin_run(ctx, found, new.digest))

    @api.post("/imports/runs/{run_id}/data", openapi_extra=RAW_BODY)
    async def data(ctx: Asking, run_id: str, request: Request) -> None:
        """`{"series": [{"key", "steps", "times", "values"}], "rows": [[step, text]], "lines": [[number, level, time, text]]}` of the run
        with this id here. The same again changes nothing."""
        wire: WireRequest = request.scope["state"]["request"]
        await run_sync(_add, imports, ctx, run_id, await wire.json(Data, MAX_DATA))

    @api.post("/imports/runs/{run_id}/finish")
    def finish(ctx: Asking, run_id: str, done: Finished) -> None:
        """All of the run with this id, where it came from, is there."""
        imports.finish_run(ctx, run_id, done.digest, done.lifecycle)

    @api.get("/imports/sources/{source:path}")
    def marked(ctx: Asking, source: str) -> answers.CameFrom:
        """The run that came from a source by another protocol, and the digest that the source had then."""
        return answers.CameFrom(*imports.marked(ctx, source))

    @api.put("/imports/sources/{source:path}")
    def mark(ctx: Asking, source: str, new: Mark) -> answers.Marked:
        """Remember where a run has come from, and set its times to what they were there."""
        imports.mark(ctx, source, new.run_id, new.digest, start_ms=new.start_ms, end_ms=new.end_ms)
        return answers.Marked(new.run_id)


def _add(imports: Imports, ctx: Context, run_id: str, data: Data) -> None:
    imports.add(ctx, run_id, series=data.series, rows=data.rows, lines=[Line(*one) for one in data.lines])


def _models(api: APIRouter, tracking: Tracking, settings: Settings) -> None:
    @api.put("/imports/models/{model_id}")
    def bring(ctx: Asking, model_id: str, new: NewModel) -> answers.ModelBrought:
        """Bring in a logged model: its id here."""
        return answers.ModelBrought(tracking.imports.model(ctx, convert({**new.record, "id": model_id}, ModelRecord)))

    @api.get("/logged-models/{model_id}/files")
    def files(ctx: Asking, model_id: str) -> answers.ModelFileList:
        """All files of a logged model."""
        found = tracking.artifacts.manifest(ctx, Owner.model, model_id, "")
        return answers.ModelFileList([answers.ModelFile(path, sha256, size) for path, (sha256, size) in found.items()])

    @api.get("/logged-models/{model_id}/files/{path:path}")
    def download(ctx: Asking, request: Request, model_id: str, path: str) -> Response:
        found = tracking.artifacts.get(ctx, Owner.model, model_id, path)
        return File(tracking, request.scope["state"]["request"], found.sha256, path)

    @api.put("/logged-models/{model_id}/files/{path:path}", status_code=201, openapi_extra=RAW_BODY)
    async def upload(ctx: Asking, request: Request, model_id: str, path: str) -> answers.ModelFile:
        """The raw bytes as the body."""
        await run_sync(tracking.artifacts.check_owner, ctx, Owner.model, model_id, writable=True)
        wire: WireRequest = request.scope["state"]["request"]
        blob = await wire.save(tracking.artifacts.blobs, settings.upload_max_bytes)
        await run_sync(tracking.artifacts.put, ctx, Owner.model, model_id, path, blob)
        return answers.ModelFile(path, blob.sha256, blob.size)
