"""The nouns of monitoring: alert, silence, channel, delivery."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Severity(StrEnum):
    info = "info"
    warn = "warn"
    bad = "bad"


SEVERITIES = tuple(Severity)


class AlertState(StrEnum):
    """`acknowledged`: somebody looks after it; it still lasts."""

    open = "open"
    acknowledged = "acknowledged"
    resolved = "resolved"


class Alert(Struct, frozen=True, kw_only=True):
    """One answer of a monitor, or one act of the loop, that people should know of. While it lasts it is one alert that grows: `count` says
    how often it was seen. `evidence` holds the numbers, `undo` the way back, `by` who touched it last."""

    id: str
    workspace_id: str
    deployment: str
    source: str
    key: str
    severity: Severity
    title: str
    text: str
    evidence: dict[str, Any]
    undo: str
    state: AlertState
    count: int
    first_ms: int
    last_ms: int
    resolved_ms: int | None = None
    by: str = ""


class Silence(Struct, frozen=True, kw_only=True):
    """Nobody is told of alerts of a deployment and a source ("": all) for a while; they are still recorded."""

    id: str
    workspace_id: str
    deployment: str
    source: str
    until_ms: int
    why: str
    created_by: str
    created_ms: int


class Channel(Struct, frozen=True, kw_only=True):
    """Where alerts of severity `least` and above go: kind log, webhook or email. `worked_ms`: when a message last arrived."""

    id: str
    workspace_id: str
    name: str
    kind: str
    target: str
    least: Severity
    created_by: str
    created_ms: int
    worked_ms: int | None = None
    problem: str = ""


class Delivery(Struct, frozen=True, kw_only=True):
    """One message to one channel. `what`: raised, resolved, test. `state`: queued, sent, failed."""

    id: str
    workspace_id: str
    channel_id: str
    alert_id: str
    what: str
    state: str
    attempts: int
    error: str
    created_ms: int
    ended_ms: int | None = None


class Monitor(Struct, frozen=True, kw_only=True):
    """A standing question. `kind`: errors, latency, drift, quality. `state`: ok, alarm, waiting (for data). `config`: see `questions`."""

    id: str
    workspace_id: str
    deployment_id: str
    deployment: str
    kind: str
    config: dict[str, Any]
    paused: bool
    state: str
    words: str
    checked_ms: int | None = None
    cursor: str = ""


class Window(Struct, frozen=True, kw_only=True):
    """One window of live data that was compared with the reference of its variant."""

    id: str
    variant_id: str
    from_ms: int
    to_ms: int
    rows: int
    features: int
    drifted: int


class Cohort(Struct, frozen=True, kw_only=True):
    """The answers of a variant from `from_ms` on, for one step. `delay_ms`: how long labels took, on average."""

    variant: str
    from_ms: int
    labelled: int
    right: int
    accuracy: float
    low: float
    high: float
    delay_ms: float


class Quality(Struct, frozen=True):
    """Label-based quality of a deployment's successful answers. `low` and `high` are the 95 % interval of `accuracy`."""

    requests: int
    labelled: int
    right: int
    accuracy: float | None
    low: float | None
    high: float | None
