"""Sweeps: searches over parameters."""

from __future__ import annotations

from collections.abc import Sequence

from drivetrain.answers.sweeps import ImportanceList, LiveSweep, SweepList, SweepWithRuns
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import Resource
from drivetrain.training.sweeps.model import Importance


class Sweeps(Resource):
    """Searches over parameters, which `wandb.sweep` begins and `wandb.agent` does the runs of."""

    def list(self, *, experiment: str | None = None, limit: int = 50) -> list[LiveSweep]:
        """The newest first; `experiment` is an id."""
        return self._get(SweepList, "/sweeps", experiment=experiment, limit=limit).sweeps

    def get(self, sweep: str) -> SweepWithRuns:
        """One sweep with its runs and the best of them."""
        return self._get(SweepWithRuns, f"/sweeps/{segment(sweep)}")

    def importance(self, sweep: str) -> Sequence[Importance]:
        """How much each parameter matters, the one that matters most first."""
        return self._get(ImportanceList, f"/sweeps/{segment(sweep)}/importance").parameters

    def stop(self, sweep: str) -> LiveSweep:
        """Hand out no more runs; those that have begun end."""
        return self._send(LiveSweep, "POST", f"/sweeps/{segment(sweep)}/stop")

    def cancel(self, sweep: str) -> LiveSweep:
        """End it at once, with the runs that have begun."""
        return self._send(LiveSweep, "POST", f"/sweeps/{segment(sweep)}/cancel")

    def pause(self, sweep: str) -> LiveSweep:
        """Hand out no more runs until it is resumed."""
        return self._send(LiveSweep, "POST", f"/sweeps/{segment(sweep)}/pause")

    def resume(self, sweep: str) -> LiveSweep:
        return self._send(LiveSweep, "POST", f"/sweeps/{segment(sweep)}/resume")
