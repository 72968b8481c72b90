"""Sweeps: what was searched, what came of it, what matters."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from drivetrain.training.sweeps.model import State, Sweep, Trial
from drivetrain.training.sweeps.service import Sweeps, best_of
from drivetrain.wire.fastapi import Asking


def router(sweeps: Sweeps) -> APIRouter:
    api = APIRouter(prefix="/api/v1", tags=["sweeps"])

    @api.get("/sweeps")
    def listed(ctx: Asking, experiment: str | None = None, limit: int = 50, before: str | None = None) -> dict[str, Any]:
        """The workspace's sweeps, the newest first; `before`: those older than the sweep of this id."""
        found = sweeps.list(ctx, experiment_id=experiment, limit=limit, before=before)
        return {"sweeps": [shown(one) for one in found]}

    @api.get("/sweeps/{sweep}")
    def one(ctx: Asking, sweep: str) -> dict[str, Any]:
        """A sweep by its name or id: its runs in the order they were handed out, and the best."""
        found = sweeps.get(ctx, sweep)
        trials = sweeps.trials(ctx, found.id)
        best = best_of(trials, maximize=found.maximize)
        agents = [asdict(agent) for agent in sweeps.agents(ctx, found.id)]
        return {
            **shown(found),
            "config": found.config,
            "runs": [shown_trial(trial) for trial in trials],
            "best": shown_trial(best) if best is not None else None,
            "agents": agents,
        }

    @api.get("/sweeps/{sweep}/importance")
    def importance(ctx: Asking, sweep: str) -> dict[str, Any]:
        """How much each parameter matters for the metric, by the runs that have ended; the one that matters most first."""
        return {"parameters": [asdict(parameter) for parameter in sweeps.importance(ctx, sweep)]}

    @api.post("/sweeps/{sweep}/stop")
    def stop(ctx: Asking, sweep: str) -> dict[str, Any]:
        """Hand out no more runs; agents leave when they have ended the ones that they are on."""
        return shown(sweeps.set_state(ctx, sweep, State.finished))

    @api.post("/sweeps/{sweep}/cancel")
    def cancel(ctx: Asking, sweep: str) -> dict[str, Any]:
        """Let agents leave at once, and end the runs that they are on."""
        return shown(sweeps.set_state(ctx, sweep, State.canceled))

    @api.post("/sweeps/{sweep}/pause")
    def pause(ctx: Asking, sweep: str) -> dict[str, Any]:
        """Hand out no more runs until it is resumed; agents wait."""
        return shown(sweeps.set_state(ctx, sweep, State.paused))

    @api.post("/sweeps/{sweep}/resume")
    def resume(ctx: Asking, sweep: str) -> dict[str, Any]:
        """Hand out runs again."""
        return shown(sweeps.set_state(ctx, sweep, State.running))

    return api


def shown(sweep: Sweep) -> dict[str, Any]:
    found = asdict(sweep)
    del found["config"]
    found["run_count"] = found.pop("runs")
    found["run_count_expected"] = found.pop("expected")
    return found


def shown_trial(trial: Trial) -> dict[str, Any]:
    return asdict(trial)
