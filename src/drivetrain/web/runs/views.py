"""What the table of runs shows, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from drivetrain.tracking.model import Line
from drivetrain.tracking.runs.groups import Aggregate
from drivetrain.web.runs.panels import Panel
from drivetrain.web.svg import Drawing
from drivetrain.web.views import FileRow, Pair, State


@dataclass(frozen=True)
class Column:
    """A column of the table of runs. `key` is as in filters (metrics.accuracy, params.C, tags.team), or one of the runs' own (status).
    `sort_url` is empty where the runs cannot be ordered by it; `wide`: left out where there is little room."""

    key: str
    label: str
    kind: str
    shown: bool
    sort: Literal["", "ascending", "descending"]
    sort_url: str
    wide: bool = False


@dataclass(frozen=True)
class RunRow:
    id: str
    name: str
    experiment: str
    experiment_id: str
    state: State
    user: str
    started_ms: int
    ended_ms: int | None
    duration_ms: float | None
    source: str
    commit: str
    labels: Sequence[str]
    values: Mapping[str, float | str | None]
    picked: bool
    pinned: bool
    pin_url: str


@dataclass(frozen=True)
class GroupRow:
    """Runs that have something in common: what their metrics come to, and when it is open the first of them."""

    label: str
    runs: int
    latest_ms: int
    metrics: Mapping[str, Aggregate]
    url: str
    toggle_url: str
    is_open: bool
    rows: Sequence[RunRow]


@dataclass(frozen=True)
class ViewRow:
    """A saved view. `current`: the page shows it, as it was saved."""

    name: str
    url: str
    user: str
    updated_ms: int
    current: bool


@dataclass(frozen=True)
class RunsPage:
    """`total`: how many runs meet the filter; None where counting them is another request's, at `count_url`."""

    rows: Sequence[RunRow]
    pinned: Sequence[RunRow]
    groups: Sequence[GroupRow]
    more_groups: bool
    columns: Sequence[Column]
    shown: Sequence[Column]
    name_column: Column
    group_columns: Mapping[str, Column]
    experiments: Sequence[tuple[str, str]]
    experiment: str
    filter: str
    problem: str
    group: str
    best: Mapping[str, float]
    next_url: str
    first_url: str
    picked: Sequence[str]
    total: int | None
    count_url: str
    views: Sequence[ViewRow]
    view: str
    sweeps: int
    is_empty: bool
    brief: Callable[[float | str | None], str]


@dataclass(frozen=True)
class MetricRow:
    key: str
    last: float
    step: int


@dataclass(frozen=True)
class RunPage:
    id: str
    name: str
    experiment: str
    experiment_id: str
    state: State
    user: str
    started_ms: int
    duration_ms: float | None
    metrics: Sequence[MetricRow]
    curves: Sequence[str]
    params: Sequence[Pair]
    tags: Sequence[Pair]
    environment: Sequence[Pair]
    files: Sequence[FileRow]
    drawing: Drawing | None
    neighbours: int
    note: str = ""
    system: Sequence[str] = ()
    labels: Sequence[str] = ()
    summary: Sequence[Pair] = ()
    is_deleted: bool = False
    stop: Literal["", "can", "asked"] = ""
    panels: Sequence[Panel] = ()
    console: Sequence[Line] = ()
