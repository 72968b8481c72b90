"""Runs beside each other: their curves, what they were told, and what came of it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tracking.model import Run
from drivetrain.web.format import colours
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.runs.columns import state
from drivetrain.web.views import State

Viewer = Annotated[Context, Depends(viewer)]
MOST_RUNS = 20
MOST_CURVES = 24
MOST_ROWS = 2000


@dataclass(frozen=True)
class ComparedRun:
    id: str
    name: str
    colour: int
    without_url: str
    state: State


@dataclass(frozen=True)
class ComparedRow:
    """What one key is in each of the runs, in their order; None where a run lacks it."""

    key: str
    values: Sequence[str | float | None]
    differs: bool


@dataclass(frozen=True)
class ComparePage:
    runs: Sequence[ComparedRun]
    config: Sequence[ComparedRow]
    metrics: Sequence[ComparedRow]
    curves: Sequence[str]
    same: int
    all: bool
    other_url: str
    missing: int
    beyond: int


def address(ids: Sequence[str], *, all_rows: bool = False) -> str:
    return "/runs/compare?" + urlencode([("ids", ",".join(ids)), *([("all", "true")] if all_rows else [])], safe=",")


def wanted(ids: Sequence[str]) -> list[str]:
    """Ids as they stand in the address: repeated, with commas between, or both."""
    return list(dict.fromkeys(one.strip() for text in ids for one in text.split(",") if one.strip()))


def view(platform: Platform, ctx: Context, ids: Sequence[str], *, all_rows: bool) -> ComparePage:
    runs = platform.tracking.runs.get_many(ctx, ids[:MOST_RUNS])
    painted = colours(sorted(run.id for run in runs))
    present = [run.id for run in runs]
    config = [ComparedRow(key, values, len(set(values)) > 1) for key, values in _params(runs)]
    keys = sorted({key for run in runs for key in run.metrics if not key.startswith("system/")})
    metrics = [[run.metrics[key].value if key in run.metrics else None for run in runs] for key in keys]
    return ComparePage(
        runs=[
            ComparedRun(
                run.id, run.name, painted[run.id], address([one for one in present if one != run.id], all_rows=all_rows), state(run)
            )
            for run in runs
        ],
        config=[row for row in config if all_rows or row.differs][:MOST_ROWS],
        metrics=[ComparedRow(key, values, len(set(values)) > 1) for key, values in zip(keys, metrics, strict=True)],
        curves=keys[:MOST_CURVES],
        same=sum(not row.differs for row in config),
        all=all_rows,
        other_url=address(present, all_rows=not all_rows),
        missing=len(ids[:MOST_RUNS]) - len(runs),
        beyond=max(0, len(ids) - MOST_RUNS),
    )


def _params(runs: Sequence[Run]) -> list[tuple[str, list[str | None]]]:
    return [(key, [run.params.get(key) for run in runs]) for key in sorted({key for run in runs for key in run.params})]


def plotted(runs: Sequence[Run]) -> dict[str, Any]:
    """For plots: of each run the numbers and words by their keys, and which keys tell the runs apart."""
    rows, seen = [], dict[str, set[str | float]]()
    for run in runs:
        values: dict[str, str | float] = {f"params.{key}": number(text) for key, text in run.params.items()}
        found = {key: metric.value for key, metric in run.metrics.items() if not key.startswith("system/")}
        values |= {f"metrics.{key}": value for key, value in found.items() if math.isfinite(value)}
        for key, value in values.items():
            seen.setdefault(key, set()).add(value)
        rows.append({"id": run.id, "name": run.name, "values": values})
    telling = sorted((key for key, some in seen.items() if len(some) > 1), key=lambda key: (key.startswith("metrics."), key))
    return {"runs": rows, "keys": telling}


def number(text: str) -> str | float:
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) else text


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/runs/compare")
    def compare(
        request: Request,
        ctx: Viewer,
        ids: Annotated[tuple[str, ...], Query()] = (),
        pick: Annotated[tuple[str, ...], Query()] = (),
        all: bool = False,  # noqa: A002  the name in the address
    ) -> Response:
        shown = view(platform, ctx, wanted([*ids, *pick]), all_rows=all)
        return pages.page(request, "runs/compare.html", path=[("Runs", "/runs"), ("Compare", "")], view=shown)

    @router.get("/data/compare")
    def data(ctx: Viewer, ids: Annotated[tuple[str, ...], Query()] = ()) -> Response:
        runs = platform.tracking.runs.get_many(ctx, wanted(ids)[:MOST_RUNS])
        return Response(json.dumps(plotted(runs), allow_nan=False), media_type="application/json", headers=HEADERS)

    return router
