"""Sweeps: searches over parameters."""

from __future__ import annotations

from collections.abc import Sequence

from drivetrain.client.groups import Group
from drivetrain.client.http import Json
from drivetrain.client.push import segment


class Sweeps(Group):
    """Searches over parameters, which `wandb.sweep` begins and `wandb.agent` does the runs of."""

    def list(self, *, experiment: str | None = None, limit: int = 50) -> list[Json]:
        """The newest first; `experiment` is an id."""
        return self._list("/sweeps", "sweeps", experiment=experiment, limit=limit)

    def get(self, sweep: str) -> Json:
        """One sweep with its runs and the best of them."""
        return self._one("GET", f"/sweeps/{segment(sweep)}")

    def importance(self, sweep: str) -> Sequence[Json]:
        """How much each parameter matters, the one that matters most first."""
        return self._list(f"/sweeps/{segment(sweep)}/importance", "parameters")

    def stop(self, sweep: str) -> Json:
        """Hand out no more runs; those that have begun end."""
        return self._one("POST", f"/sweeps/{segment(sweep)}/stop")

    def cancel(self, sweep: str) -> Json:
        """End it at once, with the runs that have begun."""
        return self._one("POST", f"/sweeps/{segment(sweep)}/cancel")

    def pause(self, sweep: str) -> Json:
        """Hand out no more runs until it is resumed."""
        return self._one("POST", f"/sweeps/{segment(sweep)}/pause")

    def resume(self, sweep: str) -> Json:
        return self._one("POST", f"/sweeps/{segment(sweep)}/resume")
