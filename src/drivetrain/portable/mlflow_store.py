"""What an mlflow store holds, read from its files or its database, and where the artifacts lie that it names."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from drivetrain.portable.bring import Columns, ConsoleLine, File, LoggedModel, Row
from drivetrain.portable.folder import safe

Json = dict[str, Any]
STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
MODEL_STATUSES = {0: "PENDING", 1: "PENDING", 2: "READY", 3: "FAILED"}


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A logged model. `artifacts` is where its store says that its files are."""

    record: Json
    artifacts: str


@dataclass(frozen=True, slots=True)
class StoredRun:
    """`marks` changes when the run does; `size` is about how many points it has."""

    record: Json
    artifacts: str
    marks: Sequence[object]
    size: int
    points: Callable[[], Iterator[Columns]]
    models: Sequence[StoredModel] = ()


@dataclass(frozen=True, slots=True)
class StoredExperiment:
    id: str
    name: str
    lifecycle: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredVersion:
    number: int
    source: str
    run_id: str
    stage: str
    description: str
    tags: dict[str, str]
    deleted: bool


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    name: str
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    versions: Sequence[StoredVersion]


class Store(Protocol):
    """`root` is the folder that the store lies in; what it could not read it tells in `warnings`."""

    root: Path
    warnings: list[str]

    def experiments(self) -> list[StoredExperiment]: ...
    def runs(self, experiment: StoredExperiment) -> Iterator[StoredRun]: ...
    def orphans(self, experiment: StoredExperiment) -> Iterator[StoredModel]:
        """Logged models that no run made."""
        ...

    def registered(self) -> list[RegisteredModel]: ...


class Artifacts:
    """Finds files by the addresses in a store. Only what lies in the store's own folder, or in one that was named, is read: a store that
    somebody sent must not make us send other files of this machine."""

    def __init__(self, store: Path, named: Path | None) -> None:
        self.store = store.resolve()
        self._served = (named or store / "mlartifacts").resolve()
        self._roots = [self.store, *([named.resolve()] if named else [])]
        self.warnings: list[str] = []
        self.sizes = 0

    def folder(self, address: str, own: str) -> Path | None:
        """The folder that an address means; None with a warning for one that is elsewhere. `own` is `experiment/run/artifacts`."""
        parts = urlsplit(address)
        if parts.scheme == "mlflow-artifacts":
            return self._served / unquote(parts.path).strip("/")
        if parts.scheme not in ("", "file") and not re.fullmatch("[A-Za-z]", parts.scheme):
            self._warn(f"artifacts at {parts.scheme}://{parts.netloc} were not copied: log them anew, or copy them from there")
            return None
        at = Path(unquote(parts.path) if parts.scheme == "file" else address)
        at = (self.store / at).resolve()
        if not at.is_dir():
            # The store was moved since: what it names is beside it.
            tails = [self.store / own, self.store / "mlruns" / own, self._served / own]
            return next((one for one in tails if one.is_dir()), None)
        if not any(at.is_relative_to(root) for root in self._roots):
            self._warn(f"artifacts outside of {self.store} were not read, as {at}: allow it with --artifacts {_top(at, own)}")
            return None
        return at

    def files(self, address: str, own: str) -> list[File]:
        folder = self.folder(address, own)
        found: list[File] = []
        if folder is None or not folder.is_dir():
            return found
        for where, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                file = Path(where) / name
                path = file.relative_to(folder).as_posix()
                if file.is_symlink() or not file.is_file() or not safe(path):
                    self._warn(f"{file} is a link or has a name that cannot be kept: it was left out")
                else:
                    found.append(File(path, file, file.stat().st_size))
        return found

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


class MlflowRun:
    """A stored run as what can be brought in."""

    def __init__(self, run: StoredRun, experiment: StoredExperiment, artifacts: Artifacts) -> None:
        at = {"name": experiment.name, "tags": experiment.tags}
        self.record: Json = run.record | {"experiment": at}
        self.size = run.size
        self.files: Sequence[File] = artifacts.files(run.artifacts, f"{experiment.id}/{run.record['id']}/artifacts")
        self.models: Sequence[LoggedModel] = [logged(one, experiment, artifacts) for one in run.models]
        files = [*self.files, *(file for model in self.models for file in model.files)]
        marks = [self.record, [one.record for one in self.models], *run.marks]
        marks += [[file.path, file.size, file.local.stat().st_mtime_ns] for file in files]
        self.digest = hashlib.sha256(json.dumps(marks, sort_keys=True, default=str).encode()).hexdigest()
        self._points = run.points

    def points(self) -> Iterator[Columns]:
        return self._points()

    def rows(self) -> Iterator[Row]:
        return iter(())

    def lines(self) -> Iterator[ConsoleLine]:
        return iter(())


def logged(model: StoredModel, experiment: StoredExperiment, artifacts: Artifacts) -> LoggedModel:
    at = {"name": experiment.name, "tags": experiment.tags}
    own = f"{experiment.id}/models/{model.record['id']}/artifacts"
    return LoggedModel(model.record | {"experiment": at}, artifacts.files(model.artifacts, own))


def word(value: object) -> str:
    """A scalar as text; what is none is empty."""
    return str(value) if isinstance(value, str | int | float) else ""


def whole(value: object, default: int = 0) -> int:
    if isinstance(value, bool) or value is None:
        return default
    try:
        return int(str(value))
    except ValueError:
        return default


def _top(at: Path, own: str) -> Path:
    return at.parents[own.count("/")] if at.as_posix().endswith(own) else at
