"""Sweeps: which of their runs is best, how the search went, what matters."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.training.sweeps import model
from drivetrain.training.sweeps.model import Agent, Sweep, Trial
from drivetrain.training.sweeps.service import best_of
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.views import State

Viewer = Annotated[Context, Depends(viewer)]
PAGE = 50
_STATES = {
    model.State.running: State("Running", "busy"),
    model.State.paused: State("Paused", "warn"),
    model.State.finished: State("Finished", "good"),
    model.State.canceled: State("Canceled", "idle"),
}
_OF_RUNS = {
    "pending": State("Pending", "idle"),
    "running": State("Running", "busy"),
    "preempting": State("Preempting", "busy"),
    "finished": State("Finished", "good"),
    "failed": State("Failed", "bad"),
    "crashed": State("Crashed", "bad"),
    "killed": State("Killed", "warn"),
}


@dataclass(frozen=True)
class Act:
    """What one can do to a sweep. `says`: what will happen, and how to undo it."""

    state: str
    label: str
    says: str


@dataclass(frozen=True)
class SweepRow:
    name: str
    title: str
    url: str
    state: State
    method: str
    metric: str
    experiment: str
    experiment_id: str
    runs: int
    expected: int | None
    user: str
    created_ms: int


@dataclass(frozen=True)
class SweepsPage:
    rows: Sequence[SweepRow]
    experiment: str
    experiments: Sequence[tuple[str, str]]
    next_url: str


@dataclass(frozen=True)
class TrialRow:
    trial: Trial
    name: str
    state: State
    best: bool


@dataclass(frozen=True)
class SweepPage:
    row: SweepRow
    sweep: Sweep
    trials: Sequence[TrialRow]
    best: Trial | None
    params: Sequence[str]
    agents: Sequence[Agent]
    acts: Sequence[Act]


def listed(platform: Platform, ctx: Context, experiment: str, before: str) -> SweepsPage:
    names = {one.id: one.name for one in platform.tracking.experiments.all(ctx)}
    found = platform.sweeps.list(ctx, experiment_id=experiment or None, limit=PAGE + 1, before=before or None)
    following = ""
    if len(found) > PAGE:
        following = f"/sweeps?before={found[PAGE - 1].id}" + (f"&experiment={quote(experiment)}" if experiment else "")
    return SweepsPage([_row(one, names) for one in found[:PAGE]], experiment, list(names.items()), following)


def _row(sweep: Sweep, names: dict[str, str]) -> SweepRow:
    return SweepRow(
        name=sweep.name,
        title=sweep.title or sweep.name,
        url=f"/sweeps/{quote(sweep.name, safe='')}",
        state=_STATES[sweep.state],
        method=sweep.method,
        metric=f"{'largest' if sweep.maximize else 'smallest'} {sweep.metric}" if sweep.metric else "",
        experiment=names.get(sweep.experiment_id, sweep.experiment_id),
        experiment_id=sweep.experiment_id,
        runs=sweep.runs,
        expected=sweep.expected,
        user=sweep.user,
        created_ms=sweep.created_ms,
    )


def view(platform: Platform, ctx: Context, name: str) -> SweepPage:
    sweep = platform.sweeps.get(ctx, name)
    trials = platform.sweeps.trials(ctx, sweep.id)
    best = best_of(trials, maximize=sweep.maximize)
    named = {run.id: run.name for run in platform.tracking.runs.get_many(ctx, [one.run_id for one in trials if one.run_id])}
    return SweepPage(
        row=_row(sweep, {sweep.experiment_id: platform.tracking.experiments.get(ctx, sweep.experiment_id).name}),
        sweep=sweep,
        trials=[
            TrialRow(one, named.get(one.run_id or "", one.client_id), _OF_RUNS.get(one.state, State(one.state, "idle")), one == best)
            for one in trials
        ],
        best=best,
        params=sorted({key for trial in trials for key in trial.args}),
        agents=platform.sweeps.agents(ctx, sweep.id),
        acts=acts(sweep),
    )


def acts(sweep: Sweep) -> list[Act]:
    resume = Act("RUNNING", "Resume", "")
    stop = Act("FINISHED", "Stop", "Stop this sweep? Its agents end after the run that each is on. To undo it, resume it and start agents.")
    cancel = Act(
        "CANCELED",
        "Cancel",
        "Cancel this sweep? Its agents end at once, and the runs that they are on are killed; what these have logged stays. "
        "To undo it, resume the sweep and start agents; killed runs stay killed.",
    )
    if sweep.state is model.State.running:
        return [Act("PAUSED", "Pause", ""), stop, cancel]
    return [resume]


def plotted(page: SweepPage) -> dict[str, Any]:
    metric = page.sweep.metric or "metric"
    runs, path, dots = [], [], []
    best: float | None = None
    for row in page.trials:
        trial = row.trial
        values: dict[str, Any] = {
            f"params.{key}": value if isinstance(value, int | float) else str(value) for key, value in trial.args.items()
        }
        if trial.value is not None and math.isfinite(trial.value):
            values[f"metrics.{metric}"] = trial.value
            dots.append([trial.position, trial.value])
            best = trial.value if best is None else max(best, trial.value) if page.sweep.maximize else min(best, trial.value)
        path.append([trial.position, best])
        runs.append({"id": trial.run_id or trial.client_id, "name": row.name, "values": values})
    keys = [*(f"params.{key}" for key in page.params), f"metrics.{metric}"]
    return {"metric": metric, "maximize": page.sweep.maximize, "runs": runs, "keys": keys, "best": path, "dots": dots}


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/sweeps")
    def sweeps_page(request: Request, ctx: Viewer, experiment: str = "", before: Annotated[str, Query(max_length=32)] = "") -> Response:
        return pages.page(request, "runs/sweeps.html", path=[("Sweeps", "/sweeps")], view=listed(platform, ctx, experiment, before))

    @router.get("/sweeps/{sweep}")
    def sweep_page(request: Request, ctx: Viewer, sweep: str) -> Response:
        shown = view(platform, ctx, sweep)
        return pages.page(request, "runs/sweep.html", path=[("Sweeps", "/sweeps"), (shown.row.title, "")], view=shown)

    @router.post("/sweeps/{sweep}/state")
    def change(ctx: Viewer, sweep: str, state: Annotated[str, Form()]) -> Response:
        if state not in [one.value for one in model.State]:
            raise Invalid(f"{state[:40]!r} is no state of a sweep: use one of {', '.join(model.State)}.", param="state")
        changed = platform.sweeps.set_state(ctx, sweep, model.State(state))
        return RedirectResponse(f"/sweeps/{quote(changed.name, safe='')}", status_code=303, headers=HEADERS)

    @router.get("/data/sweeps/{sweep}")
    def data(ctx: Viewer, sweep: str) -> Response:
        body = json.dumps(plotted(view(platform, ctx, sweep)), allow_nan=False)
        return Response(body, media_type="application/json", headers=HEADERS)

    @router.get("/data/sweeps/{sweep}/importance")
    def importance(ctx: Viewer, sweep: str) -> Response:
        body = json.dumps({"parameters": [asdict(one) for one in platform.sweeps.importance(ctx, sweep)]})
        return Response(body, media_type="application/json", headers=HEADERS)

    return router
