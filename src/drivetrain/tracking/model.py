"""The nouns of tracking: experiments, runs, metric points, inputs, logged models, artifacts.

What comes in thousands is a Struct, which is made several times faster than a dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from msgspec import Struct

from drivetrain.tags import DATA_CONTEXT, GIT_COMMIT, SOURCE

T = TypeVar("T")

RUN_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
MODEL_STATUSES = ("PENDING", "READY", "FAILED")
PURGING = "purging"
"""The stage of life of what is being deleted for good: nobody can restore it, and what is left of it shows as deleted."""


class View(StrEnum):
    """Which of the things that can be deleted softly a search looks at."""

    active = "active"
    deleted = "deleted"
    all = "all"


class Owner(StrEnum):
    """What artifacts can belong to. `workspace` is for files that were put beside all runs."""

    run = "run"
    model = "model"
    workspace = "workspace"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A named group of runs. `id` is a decimal number, counted within the workspace; "0" is the experiment `Default`."""

    id: str
    name: str
    lifecycle: str
    artifact_location: str
    created_ms: int
    updated_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    uid: int = 0
    """The row's own id; unlike `id` it is unique over all workspaces."""


class Metric(Struct, frozen=True):
    """One point of a metric's series. `value` may be NaN or infinite. `dataset` is (name, digest) of what it was measured on."""

    key: str
    value: float
    timestamp_ms: int
    step: int = 0
    model_id: str | None = None
    dataset: tuple[str, str] | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """Data that a run read. `source`, `schema` and `profile` are text in the client's own form (mostly JSON)."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None
    id: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """A dataset as one run used it; the tag `mlflow.data.context` says for what."""

    dataset: Dataset
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def context(self) -> str:
        return self.tags.get(DATA_CONTEXT, "")


class ModelLink(Struct, frozen=True):
    """A logged model that a run read (`role` input) or made (`role` output, at `step`)."""

    model_id: str
    role: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `metrics` holds of each series the point with the greatest (step, timestamp, value)."""

    id: str
    workspace_id: str
    experiment_id: str
    name: str
    user: str
    status: str
    lifecycle: str
    start_ms: int
    end_ms: int | None
    artifact_uri: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    inputs: Sequence[Input] = ()
    models: Sequence[ModelLink] = ()

    @property
    def git_commit(self) -> str | None:
        return self.tags.get(GIT_COMMIT)

    @property
    def source(self) -> str | None:
        return self.tags.get(SOURCE)


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run logged, registered or not. Its files are artifacts of owner kind `model`."""

    id: str
    workspace_id: str
    experiment_id: str
    name: str
    status: str
    status_message: str
    model_type: str
    source_run_id: str | None
    artifact_uri: str
    created_ms: int
    updated_ms: int
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, or (with `sha256` empty) a folder of an owner's artifacts. `path` is relative to the owner's root."""

    path: str
    sha256: str
    size: int

    @property
    def is_dir(self) -> bool:
        return not self.sha256


class Line(Struct, frozen=True):
    """A line of a run's console. `level` is "error" for what went to stderr, else empty; `time` as the client wrote it."""

    number: int
    level: str
    time: str
    text: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run with what wandb knows of it: `config` nested, `summary` as it was set or else the latest points, `labels` its tags without a
    value. `private` is what the client keeps in the config for itself. `client_id` is what the client calls the run."""

    run: Run
    client_id: str
    state: str
    sweep: str | None
    config: dict[str, Any]
    private: dict[str, Any]
    summary: dict[str, Any]
    labels: tuple[str, ...]
    events: int
    exit_code: int | None
    stop_requested: bool
    heartbeat_ms: int


class Point(Struct, frozen=True):
    """A point of a series without its key."""

    step: int
    timestamp_ms: int
    value: float


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a listing. `token` asks for what follows; None at the end."""

    items: list[T]
    token: str | None = None


class Series(Struct):
    """Points of one metric, by columns. A value that is not finite is a text: NaN, Infinity, -Infinity."""

    key: str
    steps: list[int]
    times: list[int]
    values: list[float | str]
