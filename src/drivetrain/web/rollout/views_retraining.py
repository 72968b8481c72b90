"""What the pages of retraining and of the checklist show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from drivetrain.web.views import Pair, State


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
    passed: int
