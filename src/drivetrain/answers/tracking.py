"""What the native API says of experiments and runs. NaN and infinities are strings, since JSON has no form for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from drivetrain.tracking import model
from drivetrain.words import spelled

Number = float | str


class Experiment(Struct, frozen=True, kw_only=True):
    """A named group of runs. `lifecycle`: active or deleted."""

    id: str
    name: str
    lifecycle: str
    created_ms: int
    updated_ms: int
    tags: Mapping[str, str]

    @classmethod
    def of(cls, one: model.Experiment) -> Experiment:
        return cls(**{name: getattr(one, name) for name in cls.__struct_fields__})


class ExperimentList(Struct, frozen=True):
    experiments: list[Experiment]


class Run(Struct, frozen=True, kw_only=True):
    """A run with its params, tags and latest metrics. `experiment` is the name, None where it was not looked up; `last_step` the greatest
    step of any metric."""

    id: str
    name: str
    experiment: str | None
    experiment_id: str
    user: str
    status: str
    lifecycle: str
    start_ms: int
    end_ms: int | None
    git_commit: str | None
    source: str | None
    params: Mapping[str, str]
    metrics: Mapping[str, Number]
    last_step: int | None
    tags: Mapping[str, str]

    @classmethod
    def of(cls, run: model.Run, experiment: str | None = None) -> Run:
        return cls(**about(run, experiment))


class DataUsed(Struct, frozen=True, kw_only=True):
    """A data set that a run has read, and what for. `source` and `profile` are text in the client's own form (mostly JSON)."""

    name: str
    digest: str
    context: str
    source_type: str
    source: str
    profile: str | None

    @classmethod
    def of(cls, one: model.Input) -> DataUsed:
        data = one.dataset
        return cls(
            name=data.name, digest=data.digest, context=one.context, source_type=data.source_type, source=data.source, profile=data.profile
        )


class ModelMade(Struct, frozen=True, kw_only=True):
    """A model that a run logged, registered or not."""

    id: str
    name: str
    status: str
    model_type: str
    created_ms: int

    @classmethod
    def of(cls, one: model.LoggedModel) -> ModelMade:
        return cls(**{name: getattr(one, name) for name in cls.__struct_fields__})


class RunWithModels(Run, frozen=True, kw_only=True):
    """A run, the data that it read, and the models that it made."""

    inputs: list[DataUsed]
    models: list[ModelMade]


class RunList(Struct, frozen=True):
    """`token` asks for the next page; None at the end."""

    runs: list[Run]
    token: str | None


class Beat(Struct, frozen=True):
    """`stop`: somebody asks the run to end."""

    stop: bool


class LineList(Struct, frozen=True):
    lines: list[model.Line]


class MetricHistory(Struct, frozen=True):
    """Points as [step, time in ms, value], ordered by step, then time. `token` asks for the next page; None at the end."""

    key: str
    points: list[tuple[int, int, Number]]
    token: str | None


class File(Struct, frozen=True, kw_only=True):
    """A file, or a folder (whose sha256 is "")."""

    path: str
    is_dir: bool
    size: int
    sha256: str


class FileList(Struct, frozen=True):
    artifacts: list[File]


class FileStored(Struct, frozen=True):
    path: str
    sha256: str
    size: int


def about(run: model.Run, experiment: str | None) -> dict[str, Any]:
    """What is said of a run in any answer."""
    same = (name for name in Run.__struct_fields__ if name not in ("experiment", "metrics", "last_step"))
    return {
        **{name: getattr(run, name) for name in same},
        "experiment": experiment,
        "metrics": {key: spelled(point.value) for key, point in run.metrics.items()},
        "last_step": max((point.step for point in run.metrics.values()), default=None),
    }
