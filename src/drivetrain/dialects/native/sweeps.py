"""Sweeps: what was searched, what came of it, what matters."""

from __future__ import annotations

from fastapi import APIRouter

from drivetrain.answers import sweeps as answers
from drivetrain.training.sweeps.model import State
from drivetrain.training.sweeps.service import Sweeps, best_of
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking


def router(sweeps: Sweeps) -> APIRouter:
    api = native_router("sweeps")

    @api.get("/sweeps")
    def listed(ctx: Asking, experiment: str | None = None, limit: int = 50, before: str | None = None) -> answers.SweepList:
        """The workspace's sweeps, the newest first; `before`: those older than the sweep of this id."""
        found = sweeps.list(ctx, experiment_id=experiment, limit=limit, before=before)
        return answers.SweepList([answers.live(one) for one in found])

    @api.get("/sweeps/{sweep}")
    def one(ctx: Asking, sweep: str) -> answers.SweepWithRuns:
        """A sweep by its name or id: its runs in the order they were handed out, and the best."""
        found = sweeps.get(ctx, sweep)
        trials = sweeps.trials(ctx, found.id)
        best = best_of(trials, maximize=found.maximize)
        return answers.SweepWithRuns(
            **answers.about(found), config=found.config, runs=trials, best=best, agents=[*sweeps.agents(ctx, found.id)]
        )

    @api.get("/sweeps/{sweep}/importance")
    def importance(ctx: Asking, sweep: str) -> answers.ImportanceList:
        """How much each parameter matters for the metric, by the runs that have ended; the one that matters most first."""
        return answers.ImportanceList(sweeps.importance(ctx, sweep))

    @api.post("/sweeps/{sweep}/stop")
    def stop(ctx: Asking, sweep: str) -> answers.LiveSweep:
        """Hand out no more runs; agents leave when they have ended the ones that they are on."""
        return answers.live(sweeps.set_state(ctx, sweep, State.finished))

    @api.post("/sweeps/{sweep}/cancel")
    def cancel(ctx: Asking, sweep: str) -> answers.LiveSweep:
        """Let agents leave at once, and end the runs that they are on."""
        return answers.live(sweeps.set_state(ctx, sweep, State.canceled))

    @api.post("/sweeps/{sweep}/pause")
    def pause(ctx: Asking, sweep: str) -> answers.LiveSweep:
        """Hand out no more runs until it is resumed; agents wait."""
        return answers.live(sweeps.set_state(ctx, sweep, State.paused))

    @api.post("/sweeps/{sweep}/resume")
    def resume(ctx: Asking, sweep: str) -> answers.LiveSweep:
        """Hand out runs again."""
        return answers.live(sweeps.set_state(ctx, sweep, State.running))

    return api
