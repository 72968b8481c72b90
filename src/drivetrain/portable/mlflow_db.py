"""mlflow's SQLite database, read without mlflow and without a lock. Columns that an older release lacks are read as empty."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from drivetrain.errors import Invalid, NotFound
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

_PAGE = 100_000
DEFAULT_WORKSPACE = "default"


class DatabaseStore:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path.parent
        self.warnings: list[str] = []
        try:
            self._tables = {word(one["name"]) for one in self._all("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.DatabaseError as error:
            raise Invalid(f"{path} is no SQLite database that can be read: {error}.") from None
        if not {"experiments", "runs", "metrics", "params", "tags"} <= self._tables:
            raise NotFound(f"{path} is no database of mlflow: it has no tables experiments, runs, metrics, params and tags.")
        traces = self._all("SELECT COUNT(*) AS n FROM trace_info")[0]["n"] if "trace_info" in self._tables else 0
        if traces:
            self.warnings.append(f"{traces} traces were not imported: only runs and models are")

    def experiments(self) -> list[StoredExperiment]:
        found = []
        for one in self._all("SELECT * FROM experiments ORDER BY experiment_id"):
            tags = self._map("experiment_tags", "experiment_id", one["experiment_id"])
            workspace = one.get("workspace") or DEFAULT_WORKSPACE
            name = one["name"] if workspace == DEFAULT_WORKSPACE else f"{workspace}/{one['name']}"
            found.append(StoredExperiment(word(one["experiment_id"]), name, one.get("lifecycle_stage") or "active", tags))
        return found

    def runs(self, experiment: StoredExperiment) -> Iterator[StoredRun]:
        made: dict[str, list[StoredModel]] = {}
        for model in self._models(experiment):
            made.setdefault(model.record["source_run_id"] or "", []).append(model)
        for one in self._all("SELECT * FROM runs WHERE experiment_id = ? ORDER BY start_time, run_uuid", int(experiment.id)):
            yield self._run(one, experiment, made.get(one["run_uuid"], []))

    def orphans(self, experiment: StoredExperiment) -> Iterator[StoredModel]:
        runs = {one["run_uuid"] for one in self._all("SELECT run_uuid FROM runs WHERE experiment_id = ?", int(experiment.id))}
        yield from (one for one in self._models(experiment) if one.record["source_run_id"] not in runs)

    def registered(self) -> list[RegisteredModel]:
        found = []
        for one in self._all("SELECT * FROM registered_models ORDER BY name") if "registered_models" in self._tables else ():
            if (workspace := one.get("workspace") or DEFAULT_WORKSPACE) != DEFAULT_WORKSPACE:
                self.warnings.append(f"the registered model {one['name']!r} of workspace {workspace!r} was left out")
                continue
            name = one["name"]
            versions = self._all("SELECT * FROM model_versions WHERE name = ? ORDER BY version", name)
            aliases = {}
            if "registered_model_aliases" in self._tables:
                rows = self._all("SELECT alias, version FROM registered_model_aliases WHERE name = ?", name)
                aliases = {row["alias"]: whole(row["version"]) for row in rows}
            tags = self._map("registered_model_tags", "name", name)
            found.append(RegisteredModel(name, one.get("description") or "", tags, aliases, [self._version(row) for row in versions]))
        return found

    def _version(self, row: Json) -> StoredVersion:
        tags: dict[str, str] = {}
        if "model_version_tags" in self._tables:
            query = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
            tags = {one["key"]: one["value"] or "" for one in self._all(query, row["name"], row["version"])}
        stage = row.get("current_stage") or "None"
        return StoredVersion(
            number=whole(row["version"]),
            source=row.get("source") or "",
            run_id=row.get("run_id") or "",
            stage=stage,
            description=row.get("description") or "",
            tags=tags,
            deleted=stage == "Deleted_Internal",
        )

    def _run(self, row: Json, experiment: StoredExperiment, models: list[StoredModel]) -> StoredRun:
        run_id = row["run_uuid"]
        tags = self._map("tags", "run_uuid", run_id)
        status = row.get("status")
        deleted = row.get("lifecycle_stage") == "deleted" and experiment.lifecycle == "active"
        record: Json = {
            "id": run_id,
            "name": (row.get("name") or tags.get(RUN_NAME) or run_id)[:250],
            "user": (row.get("user_id") or "")[:256],
            "status": status if status in STATUSES.values() else STATUSES.get(whole(status), "FINISHED"),
            "start_ms": whole(row.get("start_time")),
            "end_ms": row.get("end_time"),
            "lifecycle": "deleted" if deleted else "active",
            "params": self._map("params", "run_uuid", run_id),
            "tags": tags,
            "inputs": self._inputs(run_id),
            "models": self._links(run_id),
        }
        (about,) = self._all("SELECT COUNT(*) AS n, MAX(timestamp) AS last FROM metrics WHERE run_uuid = ?", run_id)
        return StoredRun(
            record, row.get("artifact_uri") or "", [about["n"], about["last"]], about["n"], lambda: self._points(run_id), models
        )

    def _points(self, run_id: str) -> Iterator[Columns]:
        nan = "is_nan" if "is_nan" in self._columns("metrics") else "0"
        step = "step" if "step" in self._columns("metrics") else "0"
        keys = [one["key"] for one in self._all("SELECT DISTINCT key FROM metrics WHERE run_uuid = ? ORDER BY key", run_id)]
        query = f"SELECT {step}, timestamp, value, {nan} FROM metrics WHERE run_uuid = ? AND key = ?"  # noqa: S608  names of ours
        with closing(self._open()) as c:
            for key in keys:
                rows = c.execute(query, (run_id, key))
                while page := rows.fetchmany(_PAGE):
                    values = [float("nan") if is_nan or value is None else float(value) for _, _, value, is_nan in page]
                    yield key, [whole(one[0]) for one in page], [whole(one[1]) for one in page], values

    def _inputs(self, run_id: str) -> list[Json]:
        if not {"inputs", "datasets", "input_tags"} <= self._tables:
            return []
        query = """SELECT i.input_uuid, d.* FROM inputs i JOIN datasets d ON d.dataset_uuid = i.source_id
                   WHERE i.destination_id = ? AND i.destination_type = 'RUN' AND i.source_type = 'DATASET' ORDER BY i.rowid"""
        found = []
        for one in self._all(query, run_id):
            tags = self._all("SELECT name, value FROM input_tags WHERE input_uuid = ?", one["input_uuid"])
            entry: Json = {
                "name": one["name"],
                "digest": one["digest"],
                "source_type": one.get("dataset_source_type") or "",
                "source": one.get("dataset_source") or "",
                "schema": one.get("dataset_schema"),
                "profile": one.get("dataset_profile"),
                "tags": {tag["name"]: tag["value"] for tag in tags},
            }
            found.append(entry)
        return found

    def _links(self, run_id: str) -> list[Json]:
        if "inputs" not in self._tables or "step" not in self._columns("inputs"):
            return []
        made = "SELECT destination_id AS id, step FROM inputs WHERE source_id = ? AND destination_type = 'MODEL_OUTPUT'"
        used = """SELECT CASE WHEN source_id = ?1 THEN destination_id ELSE source_id END AS id, step FROM inputs
                  WHERE (source_id = ?1 AND destination_type = 'MODEL_INPUT') OR (destination_id = ?1 AND source_type = 'MODEL_INPUT')"""
        found = [{"id": one["id"], "role": "output", "step": whole(one["step"])} for one in self._all(made, run_id)]
        return found + [{"id": one["id"], "role": "input", "step": whole(one["step"])} for one in self._all(used, run_id)]

    def _models(self, experiment: StoredExperiment) -> Iterator[StoredModel]:
        if "logged_models" not in self._tables:
            return
        query = "SELECT * FROM logged_models WHERE experiment_id = ? AND lifecycle_stage = 'active' ORDER BY creation_timestamp_ms"
        for one in self._all(query, int(experiment.id)):
            model = one["model_id"]
            metrics = self._all("SELECT * FROM logged_model_metrics WHERE model_id = ? ORDER BY metric_step, metric_timestamp_ms", model)
            latest = {(m["metric_name"], m["run_id"], m.get("dataset_name"), m.get("dataset_digest")): m for m in metrics}
            record: Json = {
                "id": model,
                "name": one["name"],
                "status": MODEL_STATUSES.get(whole(one["status"]), "READY"),
                "status_message": one.get("status_message") or "",
                "model_type": one.get("model_type") or "",
                "source_run_id": one.get("source_run_id") or None,
                "created_ms": whole(one["creation_timestamp_ms"]),
                "updated_ms": whole(one["last_updated_timestamp_ms"]),
                "params": self._map("logged_model_params", "model_id", model, "param_key", "param_value"),
                "tags": self._map("logged_model_tags", "model_id", model, "tag_key", "tag_value"),
                "metrics": [
                    {
                        "key": m["metric_name"],
                        "value": spelled(float("nan") if m["metric_value"] is None else float(m["metric_value"])),
                        "step": whole(m["metric_step"]),
                        "timestamp_ms": whole(m["metric_timestamp_ms"]),
                        "run_id": m["run_id"] or "",
                        "dataset_name": m.get("dataset_name") or "",
                        "dataset_digest": m.get("dataset_digest") or "",
                    }
                    for m in latest.values()
                ],
            }
            yield StoredModel(record, one.get("artifact_location") or "")

    def _map(self, table: str, owner: str, value: object, key: str = "key", text: str = "value") -> dict[str, str]:
        if table not in self._tables:
            return {}
        query = f"SELECT {key} AS k, {text} AS v FROM {table} WHERE {owner} = ?"  # noqa: S608  names of ours
        return {one["k"]: word(one["v"]) for one in self._all(query, value)}

    def _columns(self, table: str) -> set[str]:
        return {one["name"] for one in self._all(f"PRAGMA table_info({table})")}

    def _all(self, query: str, *values: object) -> Sequence[Json]:
        with closing(self._open()) as c:
            rows = c.execute(query, values)
            names = [column[0] for column in rows.description]
            return [dict(zip(names, row, strict=True)) for row in rows]

    def _open(self) -> sqlite3.Connection:
        c = sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True)
        c.text_factory = _text
        return c


def _text(data: bytes) -> Any:
    return data.decode("utf-8", "replace")
