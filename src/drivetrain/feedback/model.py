"""The nouns of feedback: what was said of answers."""

from __future__ import annotations

from dataclasses import dataclass

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """One thing that was said of one answer. A `label` is the right answer; `feedback` is an opinion of the given one."""

    id: str
    request_id: str
    kind: str
    name: str
    value: Scalar
    source: str
    comment: str
    user: str
    created_ms: int
    about: About | None = None
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class About:
    """The answer that something was said of, as its event tells it."""

    event_ms: int
    deployment: str
    variant: str
    unit: str
    rollout: str
    phase: int
    output: str | None = None
    """To compare with a label; it is not stored here."""
