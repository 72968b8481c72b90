"""What the pages of rollouts, of retraining and of the checklist show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from drivetrain.web.views import Pair, State

Side = Literal["canary", "stable"]


@dataclass(frozen=True)
class Arm:
    """One of the two versions. `colour` is its colour on every chart of the page."""

    name: str
    url: str
    colour: int
    share: float
    note: str


@dataclass(frozen=True)
class Station:
    """A step of the plan. `share` is the canary's part of the traffic; `progress` (0 to 1) is known of the step that it is in."""

    share: str
    state: Literal["done", "here", "ahead", "left"]
    note: str
    needs: str
    progress: float | None = None
    tone: str = ""


@dataclass(frozen=True)
class Road:
    """The river above the steps, in a box 100 units high and `width` wide; `now` is where the rollout stands.

    `canary` is what flowed until now, `ahead` what is planned, `edge` the line between both arms.
    """

    width: float
    canary: str
    ahead: str
    edge: str
    ahead_edge: str
    now: float
    stations: Sequence[Station]
    words: str
    here: str


@dataclass(frozen=True)
class ArmCount:
    name: str
    colour: int
    figure: Markup | str
    note: str


@dataclass(frozen=True)
class Guard:
    """A guardrail as it stands: the verdict, how far the evidence is, and what both arms showed."""

    number: int
    name: str
    measure: str
    signal: bool
    state: State
    words: str
    level: str
    tolerance: str
    arms: Sequence[ArmCount]


@dataclass(frozen=True)
class Told:
    """One guardrail at the moment of a decision."""

    name: str
    state: State
    words: str


@dataclass(frozen=True)
class DecisionRow:
    """One thing that was done, by whom and why, with the numbers it was done on."""

    id: str
    at_ms: int
    actor: str
    automatic: bool
    what: str
    tone: str
    why: str
    share: str
    undo: str
    told: Sequence[Told]


@dataclass(frozen=True)
class Act:
    """Something that can be done now. `says` is what will happen, to what, and how to undo it."""

    key: str
    label: str
    title: str
    says: str
    tone: Literal["", "primary", "danger"] = ""
    steps: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class RolloutRow:
    """A line of a list."""

    id: str
    url: str
    deployment: str
    deployment_url: str
    stable: str
    canary: str
    state: State
    share: str
    bar: Markup
    why: str
    plan: str
    by: str
    started_ms: int
    ended_ms: int | None
    open: bool


@dataclass(frozen=True)
class RolloutPage:
    id: str
    deployment: str
    deployment_url: str
    state: State
    why: str
    stable: Arm
    canary: Arm
    road: Road
    guards: Sequence[Guard]
    mismatch: Guard | None
    decisions: Sequence[DecisionRow]
    acts: Sequence[Act]
    back: Act | None
    facts: Sequence[Pair]
    notes: Sequence[str]
    started_ms: int
    ended_ms: int | None
    open: bool
    problem: str = ""
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class StartForm:
    """What can be rolled out behind a name: versions by the names that deploy them, and the plans."""

    sources: Sequence[tuple[str, str]]
    plans: Sequence[tuple[str, str]]
    serves: str


@dataclass(frozen=True)
class StageMark:
    """A stage of a retraining, as a station of its own small road."""

    name: str
    state: Literal["done", "here", "ahead", "left"]
    words: str
    tone: str = ""


@dataclass(frozen=True)
class Compared:
    """Challenger and champion on the same rows, and the interval of their difference against what the gate asks."""

    what: str
    rows: int
    challenger: str
    champion: str
    difference: str
    drawing: Markup


@dataclass(frozen=True)
class RetrainingRow:
    id: str
    state: State
    cause: str
    doing: str
    why: str
    at_ms: int
    ended_ms: int | None
    stages: Sequence[StageMark]
    gate: Sequence[Compared]
    gate_words: str
    links: Sequence[tuple[str, str]]
    evidence: Sequence[Pair]
    undo: str
    log: str
    may_cancel: bool


@dataclass(frozen=True)
class RetrainingPage:
    deployment: str
    url: str
    state: State
    headline: str
    why: str
    policy: Sequence[Pair]
    rows: Sequence[RetrainingRow]
    has_policy: bool
    paused: bool
    may_begin: bool
    problem: str = ""


@dataclass(frozen=True)
class CheckRow:
    """One line of the checklist, with why it matters and what fixes it."""

    what: str
    state: State
    found: str
    why: str
    command: str
    required: bool


@dataclass(frozen=True)
class ChecklistPage:
    deployment: str
    url: str
    state: State
    headline: str
    rows: Sequence[CheckRow]
