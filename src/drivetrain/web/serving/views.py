"""What the pages of deployments, of one answer and of the playground show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from drivetrain.web.monitoring.views import AlertRow
from drivetrain.web.rollout.views import RolloutRow, StartForm
from drivetrain.web.svg import Drawing
from drivetrain.web.views import Figure, Pair, State

Kind = Literal["chat", "completion", "tabular", "embeddings"]


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


@dataclass(frozen=True)
class Opinion:
    kind: str
    name: str
    value: str
    source: str
    comment: str
    at_ms: int


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
class Playable:
    """Something that one can talk to, or send rows to."""

    name: str
    kind: Kind
    note: str
