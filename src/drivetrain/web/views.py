"""What pages show, as plain values: the only thing that templates see of the domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from markupsafe import Markup

from drivetrain.web.svg import Drawing

if TYPE_CHECKING:
    from drivetrain.tracking.model import Line
    from drivetrain.web.monitoring.views import AlertRow
    from drivetrain.web.rollout.views import RolloutRow, StartForm
    from drivetrain.web.runs.panels import Panel

Tone = Literal["good", "warn", "bad", "busy", "idle"]


@dataclass(frozen=True)
class State:
    """A word for how something is, with its tone; `why` is said on hover."""

    word: str
    tone: Tone
    why: str = ""


@dataclass(frozen=True)
class Figure:
    """One large number of a page."""

    label: str
    value: Markup | str
    note: str = ""
    spark: Markup | str = ""


# --- overview


@dataclass(frozen=True)
class Happening:
    """Something that somebody (or a loop) did."""

    who: str
    what: str
    object: str
    url: str
    at_ms: int
    why: str = ""
    undo: str = ""


@dataclass(frozen=True)
class JobRow:
    id: str
    kind: str
    what: str
    state: State
    done: float | None
    total: float | None
    message: str
    at_ms: int


@dataclass(frozen=True)
class Overview:
    headline: str
    state: State
    figures: Sequence[Figure]
    deployments: Sequence[DeploymentRow]
    jobs: Sequence[JobRow]
    lately: Sequence[Happening]
    runs: Sequence[RecentRun]
    is_empty: bool
    rollouts: Sequence[RolloutRow] = ()
    alerts: Sequence[AlertRow] = ()


@dataclass(frozen=True)
class RecentRun:
    id: str
    name: str
    experiment: str
    state: State
    started_ms: int
    metric: str
    value: float | None


# --- runs


@dataclass(frozen=True)
class Pair:
    """One line of a list of names and values. `differs`: not so in the neighbouring runs."""

    name: str
    value: str
    differs: bool = False
    url: str = ""
    mono: bool = False


@dataclass(frozen=True)
class FileRow:
    path: str
    size: int
    url: str = ""
    sha256: str = ""


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


# --- models


@dataclass(frozen=True)
class ModelRow:
    name: str
    slug: str
    description: str
    latest: int | None
    aliases: Sequence[tuple[str, int]]
    format: str
    size: int | None
    deployed: Sequence[str]
    updated_ms: int
    on_demand: Sequence[str]  # what it does when it is merely called by its name


@dataclass(frozen=True)
class VersionRow:
    number: int
    aliases: Sequence[str]
    state: State
    run_id: str
    run_name: str
    scores: Sequence[tuple[str, float]]
    deployed: Sequence[str]
    user: str
    created_ms: int
    here: bool


@dataclass(frozen=True)
class ModelPage:
    name: str
    slug: str
    description: str
    versions: Sequence[VersionRow]
    number: int | None
    reference: str
    card: str
    files: Sequence[FileRow]
    bytes: int
    details: Sequence[Pair]
    drawing: Drawing | None
    score_names: Sequence[str]


# --- deployments


@dataclass(frozen=True)
class DeploymentRow:
    name: str
    url: str
    state: State
    serves: str
    serves_url: str
    engine: str
    replicas: str
    requests: int
    errors: int
    p95_ms: float | None
    spark: Markup | str
    on_demand: bool


@dataclass(frozen=True)
class VariantRow:
    name: str
    serves: str
    serves_url: str
    engine: str
    share: float
    state: State
    requests: int
    errors: int
    p50_ms: float | None
    p95_ms: float | None
    created_ms: int
    source: str
    past: bool


@dataclass(frozen=True)
class ReplicaRow:
    id: str
    variant: str
    state: State
    pid: int | None
    memory: int | None
    restarts: int
    started_ms: int | None


@dataclass(frozen=True)
class RequestRow:
    id: str
    at_ms: int
    state: State
    task: str
    dialect: str
    variant: str
    deployment: str
    latency_ms: float
    ttft_ms: float | None
    tokens: str
    user: str


@dataclass(frozen=True)
class DeploymentPage:
    row: DeploymentRow
    figures: Sequence[Figure]
    variants: Sequence[VariantRow]
    replicas: Sequence[ReplicaRow]
    requests: Sequence[RequestRow]
    errors_only: bool
    window: str
    windows: Sequence[str]
    text: bool
    most_replicas: int
    problem: str
    try_it: Sequence[tuple[str, str, str]]
    rollouts: Sequence[RolloutRow] = ()
    start: StartForm | None = None
    alerts: Sequence[AlertRow] = ()


# --- one answer


@dataclass(frozen=True)
class RequestPage:
    id: str
    at_ms: int
    state: State
    deployment: str
    message: str
    figures: Sequence[Figure]
    phases: Sequence[tuple[str, str, float, float]]
    drawing: Drawing | None
    details: Sequence[Pair]
    run: Sequence[Pair]
    params: Sequence[Pair]
    data: Sequence[Pair]
    input: str
    output: str
    opinions: Sequence[Opinion]
    kept: bool
    notes: Sequence[str]


@dataclass(frozen=True)
class Opinion:
    kind: str
    name: str
    value: str
    source: str
    comment: str
    at_ms: int


# --- playground


Kind = Literal["chat", "completion", "tabular", "embeddings"]


@dataclass(frozen=True)
class Playable:
    """Something that one can talk to, or send rows to."""

    name: str
    kind: Kind
    note: str


# --- keys


@dataclass(frozen=True)
class KeyRow:
    id: str
    name: str
    hint: str
    user: str
    scopes: Sequence[str]
    workspace: str
    created_ms: int
    expires_ms: int | None
    state: State
    mine: bool


@dataclass(frozen=True)
class KeysPage:
    rows: Sequence[KeyRow]
    mode: str
    secret: str = ""
    secret_name: str = ""
    problem: str = ""
    scopes: Sequence[str] = field(default_factory=tuple)


# --- search


@dataclass(frozen=True)
class Found:
    group: str
    label: str
    note: str
    url: str
    command: str = ""
    icon: str = ""
