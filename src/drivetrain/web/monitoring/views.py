"""What the pages of drift, quality and alerts show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from drivetrain.web.views import Figure, Pair, State


@dataclass(frozen=True)
class FeatureRow:
    """One feature of a window against the reference. `p` and `q` in words."""

    name: str
    kind: str
    state: State
    drawing: Markup
    effect: str
    bar: Markup
    measure: str
    chance: str
    words: str


@dataclass(frozen=True)
class WindowMark:
    """One window in the strip of windows."""

    id: str
    url: str
    tone: str
    says: str
    here: bool


@dataclass(frozen=True)
class DriftPage:
    deployment: str
    url: str
    state: State
    headline: str
    why: str
    figures: Sequence[Figure]
    windows: Sequence[WindowMark]
    features: Sequence[FeatureRow]
    shown: str
    more: int
    drifted: int
    notes: Sequence[str]
    facts: Sequence[Pair]
    paused: bool
    empty: str


@dataclass(frozen=True)
class AlertRow:
    id: str
    url: str
    deployment: str
    deployment_url: str
    source: str
    state: State
    title: str
    text: str
    count: int
    first_ms: int
    last_ms: int
    by: str
    lasting: bool
    acknowledged: bool


@dataclass(frozen=True)
class SilenceRow:
    id: str
    what: str
    why: str
    by: str
    until_ms: int


@dataclass(frozen=True)
class AlertsPage:
    groups: Sequence[tuple[str, str, Sequence[AlertRow]]]
    past: Sequence[AlertRow]
    silences: Sequence[SilenceRow]
    sources: Sequence[str]
    deployments: Sequence[str]
    channels: int
    problem: str = ""


@dataclass(frozen=True)
class DeliveryRow:
    channel: str
    what: str
    state: State
    attempts: int
    error: str
    at_ms: int


@dataclass(frozen=True)
class AlertPage:
    row: AlertRow
    evidence: Sequence[Pair]
    more: str
    undo: str
    links: Sequence[tuple[str, str]]
    deliveries: Sequence[DeliveryRow]
    problem: str = ""


@dataclass(frozen=True)
class ChannelRow:
    name: str
    kind: str
    target: str
    least: str
    state: State
    worked_ms: int | None
    by: str


@dataclass(frozen=True)
class ChannelsPage:
    rows: Sequence[ChannelRow]
    deliveries: Sequence[DeliveryRow]
    kinds: Sequence[str]
    severities: Sequence[str]
    key: str = ""
    key_of: str = ""
    problem: str = ""


@dataclass(frozen=True)
class QualityRow:
    """The labelled answers of one version."""

    name: str
    url: str
    answers: int
    labelled: int
    share: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class QualityPage:
    deployment: str
    url: str
    state: State
    headline: str
    why: str
    figures: Sequence[Figure]
    variants: Sequence[QualityRow]
    facts: Sequence[Pair]
    window: str
    windows: Sequence[str]
    empty: bool
    paused: bool
    server: str
