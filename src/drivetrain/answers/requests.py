"""What the native API says of requests: the record of one, what is behind its answer, and what was said of it."""

from __future__ import annotations

import math

from msgspec import Struct

from drivetrain.answers.tracking import DataUsed, Number
from drivetrain.feedback.model import Opinion
from drivetrain.registry.model import Commit, Version
from drivetrain.retraining.model import Retraining
from drivetrain.rollout.model import Decision, Rollout
from drivetrain.store.events.model import Event
from drivetrain.tracking.model import Run


class Recorded(Struct, frozen=True):
    event: Event


class RecordedList(Struct, frozen=True):
    events: list[Event]


class OpinionList(Struct, frozen=True):
    feedback: list[Opinion]


class Named(Struct, frozen=True):
    id: str
    name: str


class ServedBy(Struct, frozen=True):
    """The variant that answered, and which of its replicas."""

    id: str
    name: str
    engine: str
    replica: str


class CommittedFile(Struct, frozen=True):
    path: str
    sha256: str
    size: int


class TrainedBy(Struct, frozen=True, kw_only=True):
    """The run that made a version. NaN and infinities are strings."""

    id: str
    name: str
    status: str
    user: str
    start_ms: int
    end_ms: int | None
    source: str | None
    params: dict[str, str]
    metrics: dict[str, Number]
    tags: dict[str, str]

    @classmethod
    def of(cls, run: Run) -> TrainedBy:
        same = {name: getattr(run, name) for name in cls.__struct_fields__ if name != "metrics"}
        # As Python spells them, unlike in other answers: that is what is asked for here since the first version.
        metrics = {key: point.value if math.isfinite(point.value) else str(point.value) for key, point in run.metrics.items()}
        return cls(**same, metrics=metrics)


class Lineage(Struct, frozen=True, kw_only=True):
    """Answer → variant → version → commit → run → data, and feedback; the rollout that brought the version, and the retraining that made
    it. A step that is gone is None; `notes` says why."""

    request_id: str
    event: Event
    deployment: Named
    variant: ServedBy
    version: Version | None
    commit: Commit | None
    files: list[CommittedFile]
    run: TrainedBy | None
    git_commit: str | None
    seed: str | None
    experiment: Named | None
    datasets: list[DataUsed]
    feedback: list[Opinion]
    notes: list[str]
    rollout: Rollout | None
    decisions: list[Decision]
    retraining: Retraining | None
