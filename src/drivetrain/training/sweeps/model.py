"""The nouns of sweeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from msgspec import Struct


class State(StrEnum):
    """PAUSED: agents wait. FINISHED: agents end after the run that they are on. CANCELED: agents end at once, and their runs with them."""

    running = "RUNNING"
    paused = "PAUSED"
    finished = "FINISHED"
    canceled = "CANCELED"


@dataclass(frozen=True, slots=True)
class Sweep:
    """A search over parameters of runs. `name` is what people call it; `expected` how many runs it has in all, None if it has no end."""

    id: str
    experiment_id: str
    name: str
    title: str
    description: str
    state: State
    method: str
    metric: str | None
    maximize: bool
    config: str
    user: str
    created_ms: int
    updated_ms: int
    runs: int
    expected: int | None


@dataclass(frozen=True, slots=True)
class Agent:
    """A process that asks for runs and does them."""

    id: str
    host: str
    created_ms: int
    heartbeat_ms: int
    runs: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep. `value` is the metric's, as it stands now; `stopped`: told to end early."""

    position: int
    client_id: str
    run_id: str | None
    args: Mapping[str, Any]
    state: str
    value: float | None
    stopped: bool
    created_ms: int


@dataclass(frozen=True, slots=True)
class Importance:
    """How much a parameter matters. `importance`: its share of what decides the best results, all shares together 1; None where the search
    library is missing. `correlation`: of ranks, -1 to 1; None for parameters that are no numbers."""

    name: str
    importance: float | None
    correlation: float | None


class Dimension(Struct, kw_only=True):
    """A parameter as the search sees it: a number or an integer from `low` to `high`, or one of `choices` by its place."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: int = 0


class Told(Struct, kw_only=True):
    """A run that was handed out. Without a value it is still on its way."""

    at: dict[str, float]
    value: float | None = None


class Work(Struct, kw_only=True):
    """What the process that searches is told. `what`: suggest or importance."""

    what: str
    dimensions: list[Dimension]
    trials: list[Told]
    maximize: bool = False
    seed: int = 0


class Answer(Struct, kw_only=True):
    """By the names of the dimensions: the suggestion, or shares of importance. `missing`: the library that is not installed."""

    values: dict[str, float] = {}
    missing: str = ""
