"""Sweeps: which of their runs is best, how the search went, what matters."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from drivetrain.identity.model import Context
from drivetrain.training.sweeps.model import Sweep, Trial
from drivetrain.training.sweeps.service import best_of
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.services import Services

Viewer = Annotated[Context, Depends(viewer)]


@dataclass(frozen=True)
class SweepPage:
    sweep: Sweep
    trials: list[Trial]
    best: Trial | None
    params: list[str]


def view(services: Services, ctx: Context, name: str) -> SweepPage:
    sweep = services.sweeps.get(ctx, name)
    trials = services.sweeps.trials(ctx, sweep.id)
    return SweepPage(sweep, trials, best_of(trials, maximize=sweep.maximize), sorted({key for trial in trials for key in trial.args}))


def plotted(page: SweepPage) -> dict[str, Any]:
    metric = page.sweep.metric or "metric"
    runs, path = [], []
    best: float | None = None
    for trial in page.trials:
        values: dict[str, Any] = {
            f"params.{key}": value if isinstance(value, int | float) else str(value) for key, value in trial.args.items()
        }
        if trial.value is not None and math.isfinite(trial.value):
            values[f"metrics.{metric}"] = trial.value
            best = trial.value if best is None else max(best, trial.value) if page.sweep.maximize else min(best, trial.value)
        path.append([trial.position, best])
        runs.append({"id": trial.run_id or trial.client_id, "name": trial.client_id, "values": values})
    return {"metric": metric, "runs": runs, "keys": [*(f"params.{key}" for key in page.params), f"metrics.{metric}"], "best": path}


def routes(services: Services, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/sweeps/{sweep}")
    def sweep_page(request: Request, ctx: Viewer, sweep: str) -> Response:
        shown = view(services, ctx, sweep)
        return pages.page(request, "sweep.html", path=[("Runs", "/runs"), (shown.sweep.title or shown.sweep.name, "")], view=shown)

    @router.get("/data/sweeps/{sweep}")
    def data(ctx: Viewer, sweep: str) -> Response:
        body = json.dumps(plotted(view(services, ctx, sweep)), allow_nan=False)
        return Response(body, media_type="application/json", headers=HEADERS)

    @router.get("/data/sweeps/{sweep}/importance")
    def importance(ctx: Viewer, sweep: str) -> Response:
        body = json.dumps({"parameters": [asdict(one) for one in services.sweeps.importance(ctx, sweep)]})
        return Response(body, media_type="application/json", headers=HEADERS)

    return router
