"""mlflow's file store (`mlruns`), read without mlflow: a folder for each experiment and run, a file for each metric, param and tag."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from drivetrain.errors import NotFound
from drivetrain.portable.bring import Columns
from drivetrain.portable.mlflow_store import (
    MODEL_STATUSES,
    STATUSES,
    Json,
    RegisteredModel,
    StoredExperiment,
    StoredModel,
    StoredRun,
    StoredVersion,
    whole,
    word,
)
from drivetrain.tags import RUN_NAME
from drivetrain.words import spelled

MAX_META = 64 << 20
MAX_TEXT = 1 << 20
_PAGE = 100_000


class FileStore:
    def __init__(self, root: Path) -> None:
        if not root.is_dir() or not any((one / "meta.yaml").is_file() for one in _folders(root)):
            raise NotFound(f"{root} is no mlflow store: no folder in it has a meta.yaml. Name the folder mlruns, or the file mlflow.db.")
        self.root = root
        self.warnings: list[str] = []
        self._at: dict[str, Path] = {}

    def experiments(self) -> list[StoredExperiment]:
        found: list[StoredExperiment] = []
        for folder in [*_folders(self.root), *_folders(self.root / ".trash")]:
            meta = self._meta(folder)
            if "experiment_id" in meta and meta.get("name") is not None:
                experiment = word(meta["experiment_id"])
                deleted = meta.get("lifecycle_stage") == "deleted" or folder.parent.name == ".trash"
                self._at[experiment] = folder
                found.append(StoredExperiment(experiment, word(meta["name"]), "deleted" if deleted else "active", _texts(folder / "tags")))
        return sorted(found, key=lambda one: one.name)

    def runs(self, experiment: StoredExperiment) -> Iterator[StoredRun]:
        folder = self._at[experiment.id]
        made: dict[str, list[StoredModel]] = {}
        for model in self._models(folder):
            made.setdefault(model.record["source_run_id"] or "", []).append(model)
        found = [(whole(meta.get("start_time")), one, meta) for one in _folders(folder) if (meta := self._run_meta(one))]
        for _, one, meta in sorted(found, key=lambda entry: entry[:2]):
            run_id = word(meta.get("run_id") or meta.get("run_uuid"))
            yield self._run(one, meta, experiment, made.get(run_id, []))

    def orphans(self, experiment: StoredExperiment) -> Iterator[StoredModel]:
        folder = self._at[experiment.id]
        runs = {word(meta.get("run_id") or meta.get("run_uuid")) for one in _folders(folder) if (meta := self._run_meta(one))}
        yield from (one for one in self._models(folder) if one.record["source_run_id"] not in runs)

    def registered(self) -> list[RegisteredModel]:
        found = []
        for folder in _folders(self.root / "models"):
            meta = self._meta(folder)
            if not meta.get("name"):
                continue
            versions = [self._version(one) for one in _folders(folder) if one.name.startswith("version-")]
            aliases = {name: whole(text) for name, text in _texts(folder / "aliases").items()}
            kept = sorted((one for one in versions if one.number > 0), key=lambda one: one.number)
            found.append(RegisteredModel(word(meta["name"]), word(meta.get("description")), _texts(folder / "tags"), aliases, kept))
        return found

    def _run_meta(self, folder: Path) -> Json:
        if folder.name in ("models", "tags", "datasets", "traces", "evaluation_datasets"):
            return {}
        meta = self._meta(folder)
        return meta if meta.get("run_id") or meta.get("run_uuid") else {}

    def _run(self, folder: Path, meta: Json, experiment: StoredExperiment, models: list[StoredModel]) -> StoredRun:
        run_id = word(meta.get("run_id") or meta.get("run_uuid"))
        tags = _texts(folder / "tags")
        status = meta.get("status")
        deleted = meta.get("lifecycle_stage") == "deleted" and experiment.lifecycle == "active"
        record: Json = {
            "id": run_id,
            "name": (word(meta.get("run_name")) or word(meta.get("name")) or tags.get(RUN_NAME) or run_id)[:250],
            "user": word(meta.get("user_id"))[:256],
            "status": STATUSES.get(whole(status)) or (word(status) if word(status) in STATUSES.values() else "FINISHED"),
            "start_ms": whole(meta.get("start_time")),
            "end_ms": whole(meta["end_time"]) if meta.get("end_time") is not None else None,
            "lifecycle": "deleted" if deleted else "active",
            "params": _texts(folder / "params"),
            "tags": tags,
            "inputs": self._inputs(folder),
            "models": [*self._links(folder / "inputs", "input"), *self._links(folder / "outputs", "output")],
        }
        files = sorted(_walk(folder / "metrics"))
        sizes = [(key, file.stat().st_size, file.stat().st_mtime_ns) for key, file in files]
        # A line has about 26 bytes.
        about = sum(size for _, size, _ in sizes) // 26
        return StoredRun(record, f"{folder}/artifacts", sizes, about, lambda: self._points(files), models)

    def _points(self, files: list[tuple[str, Path]]) -> Iterator[Columns]:
        for key, file in files:
            steps: list[int] = []
            times: list[int] = []
            values: list[float] = []
            broken = 0
            with file.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    parts = line.split()
                    try:
                        point = (int(parts[2]) if len(parts) > 2 else 0, int(parts[0]), float(parts[1]))
                    except (ValueError, IndexError):
                        broken += bool(parts)
                        continue
                    steps.append(point[0])
                    times.append(point[1])
                    values.append(point[2])
                    if len(steps) >= _PAGE:
                        yield key, steps, times, values
                        steps, times, values = [], [], []
            if steps:
                yield key, steps, times, values
            if broken:
                self.warnings.append(f"{broken} lines of {file} hold no point and were left out")

    def _inputs(self, folder: Path) -> list[Json]:
        found: list[Json] = []
        for one in _folders(folder / "inputs"):
            meta = self._meta(one)
            data = folder.parent / "datasets" / word(meta.get("source_id"))
            if meta.get("source_type") != "DATASET" or data.parent != folder.parent / "datasets" or not data.is_dir():
                continue
            about = self._meta(data)
            tags = {str(key): word(value) for key, value in (meta.get("tags") or {}).items()}
            entry: Json = {key: word(about.get(key)) for key in ("name", "digest", "source_type", "source")}
            found.append({**entry, "schema": about.get("schema"), "profile": about.get("profile"), "tags": tags})
        return found

    def _links(self, folder: Path, role: str) -> list[Json]:
        found = []
        for one in _folders(folder):
            meta = self._meta(one)
            kind = word(meta.get("destination_type" if role == "output" else "source_type"))
            if kind.startswith("MODEL"):
                model = word(meta.get("destination_id" if role == "output" else "source_id"))
                found.append({"id": model, "role": role, "step": whole(meta.get("step"))})
        return found

    def _models(self, experiment: Path) -> Iterator[StoredModel]:
        for folder in _folders(experiment / "models"):
            meta = self._meta(folder)
            if not word(meta.get("model_id")) or meta.get("lifecycle_stage") == "deleted":
                continue
            record: Json = {
                "id": word(meta["model_id"]),
                "name": word(meta.get("name")),
                "status": MODEL_STATUSES.get(whole(meta.get("status")), "READY"),
                "status_message": word(meta.get("status_message")),
                "model_type": word(meta.get("model_type")),
                "source_run_id": word(meta.get("source_run_id")) or None,
                "created_ms": whole(meta.get("creation_timestamp")),
                "updated_ms": whole(meta.get("last_updated_timestamp")),
                "params": _texts(folder / "params"),
                "tags": _texts(folder / "tags"),
                "metrics": _model_metrics(folder / "metrics"),
            }
            yield StoredModel(record, f"{folder}/artifacts")

    def _version(self, folder: Path) -> StoredVersion:
        meta = self._meta(folder)
        stage = word(meta.get("current_stage")) or "None"
        return StoredVersion(
            number=whole(meta.get("version")),
            source=word(meta.get("source")),
            run_id=word(meta.get("run_id")),
            stage=stage,
            description=word(meta.get("description")),
            tags=_texts(folder / "tags"),
            deleted=stage == "Deleted_Internal",
        )

    def _meta(self, folder: Path) -> Json:
        file = folder / "meta.yaml"
        try:
            if file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_META:
                return {}
            found = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            self.warnings.append(f"{file} cannot be read and was left out")
            return {}
        return found if isinstance(found, dict) else {}


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(Path(one.path) for one in os.scandir(path) if one.is_dir(follow_symlinks=False))


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """(key, file): a '/' in a key makes a folder."""
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(where) / name
            if not file.is_symlink() and file.is_file():
                yield file.relative_to(folder).as_posix(), file


def _texts(folder: Path) -> dict[str, str]:
    return {key: file.read_bytes()[:MAX_TEXT].decode("utf-8", "replace") for key, file in _walk(folder)}


def _model_metrics(folder: Path) -> list[Json]:
    """The latest point of each metric, run and dataset."""
    latest: dict[tuple[str, ...], tuple[int, int, float]] = {}
    for key, file in _walk(folder):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            parts = line.split(" ")
            try:
                point = (int(parts[2]), int(parts[0]), float(parts[1]))
            except (ValueError, IndexError):
                continue
            about: tuple[Any, ...] = (key, parts[3] if len(parts) > 3 else "", " ".join(parts[4:-1]), parts[-1] if len(parts) > 5 else "")
            if about not in latest or point[:2] >= latest[about][:2]:
                latest[about] = point
    return [
        {
            "key": about[0],
            "run_id": about[1],
            "dataset_name": about[2],
            "dataset_digest": about[3],
            "step": point[0],
            "timestamp_ms": point[1],
            "value": spelled(point[2]),
        }
        for about, point in sorted(latest.items())
    ]
