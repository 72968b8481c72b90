"""What the native API says of sweeps."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from drivetrain.training.sweeps.model import Agent, Importance, State, Sweep, Trial


class LiveSweep(Struct, frozen=True, kw_only=True):
    """A sweep without its configuration. `run_count`: runs that were handed out; `run_count_expected`: of how many, None without an end."""

    id: str
    experiment_id: str
    name: str
    title: str
    description: str
    state: State
    method: str
    metric: str | None
    maximize: bool
    user: str
    created_ms: int
    updated_ms: int
    run_count: int
    run_count_expected: int | None


class SweepWithRuns(LiveSweep, frozen=True, kw_only=True):
    """A sweep with its configuration as it was written, its runs in the order they were handed out, the best of them, and its agents."""

    config: str
    runs: list[Trial]
    best: Trial | None
    agents: list[Agent]


class SweepList(Struct, frozen=True):
    sweeps: list[LiveSweep]


class ImportanceList(Struct, frozen=True):
    parameters: list[Importance]


def live(sweep: Sweep) -> LiveSweep:
    return LiveSweep(**about(sweep))


def about(sweep: Sweep) -> dict[str, Any]:
    """What both answers say of a sweep."""
    said = {name: getattr(sweep, name) for name in LiveSweep.__struct_fields__ if not name.startswith("run_count")}
    return {**said, "run_count": sweep.runs, "run_count_expected": sweep.expected}
