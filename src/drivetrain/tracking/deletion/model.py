"""The nouns of deletion: how long deleted things are kept, what would go for good, and what has gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DAY_MS = 24 * 3600 * 1000
GRACE_MS = 30 * DAY_MS


@dataclass(frozen=True, slots=True)
class Retention:
    """`automatic`: what was deleted longer ago than `grace_ms` goes by itself."""

    grace_ms: int = GRACE_MS
    automatic: bool = False
    updated_ms: int | None = None
    updated_by: str = ""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A run or an experiment that would go. `of` is the run's experiment."""

    id: str
    name: str
    deleted_ms: int
    of: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a collection would take: everything of the kinds that was deleted before `before_ms`; the first of it by name.

    `runs` and `models` count those of `experiments` too. `files` are artifacts, `bytes` is what they say they hold; `blobs` and
    `freed_bytes` is what the store gets rid of, since files with the same content are kept once, and others may name them too.
    """

    before_ms: int
    grace_ms: int
    automatic: bool
    experiments: int
    runs: int
    models: int
    files: int
    bytes: int
    blobs: int
    freed_bytes: int
    made_models: int
    """Logged models that the runs made, and that stay: nobody has deleted them."""
    some_experiments: Sequence[Deleted]
    some_runs: Sequence[Deleted]


@dataclass(frozen=True, slots=True)
class Collected:
    """One collection: what it has deleted so far, and what waits. `later`: blobs that may be on their way into something else again."""

    id: str
    user: str
    created_ms: int
    ended_ms: int | None
    experiments: int
    runs: int
    models: int
    files: int
    blobs: int
    bytes: int
    later_blobs: int
    later_bytes: int
    waiting: int
