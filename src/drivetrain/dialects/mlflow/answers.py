"""Our nouns in MLflow's JSON. What is unset is left out; NaN and infinities are strings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from drivetrain.registry.model import Repo, Version
from drivetrain.tracking.model import Artifact, Experiment, Input, LoggedModel, Metric, Page, Point, Run
from drivetrain.words import spelled

Json = dict[str, Any]


def entries(given: Mapping[str, str]) -> list[Json]:
    return [{"key": key, "value": value} for key, value in given.items()]


def lean(given: Json) -> Json:
    """Without what is unset."""
    return {key: value for key, value in given.items() if value not in (None, "", [], {})}


def page(name: str, found: Page[Any], items: list[Json]) -> Json:
    return lean({name: items, "next_page_token": found.token})


def experiment(given: Experiment) -> Json:
    return lean(
        {
            "experiment_id": given.id,
            "name": given.name,
            "artifact_location": given.artifact_location,
            "lifecycle_stage": given.lifecycle,
            "last_update_time": given.updated_ms,
            "creation_time": given.created_ms,
            "tags": entries(given.tags),
        }
    )


def run_info(given: Run) -> Json:
    info = {
        "run_uuid": given.id,
        "run_id": given.id,
        "run_name": given.name,
        "experiment_id": given.experiment_id,
        "user_id": given.user,
        "status": given.status,
        "start_time": given.start_ms,
        "artifact_uri": given.artifact_uri,
        "lifecycle_stage": given.lifecycle,
    }
    return info | {"end_time": given.end_ms} if given.end_ms is not None else info


def run(given: Run) -> Json:
    data: Json = {}
    if given.metrics:
        data["metrics"] = [
            {"key": m.key, "value": spelled(m.value), "timestamp": m.timestamp_ms, "step": m.step} for m in given.metrics.values()
        ]
    if given.params:
        data["params"] = entries(given.params)
    if given.tags:
        data["tags"] = entries(given.tags)
    # Clients take absent outputs for None, and scripts read `run.outputs.model_outputs`.
    out: Json = {"info": run_info(given), "data": data, "inputs": {}, "outputs": {}}
    if given.inputs:
        out["inputs"]["dataset_inputs"] = [dataset_input(one) for one in given.inputs]
    if given.models:
        read = [{"model_id": link.model_id} for link in given.models if link.role == "input"]
        made = [{"model_id": link.model_id, "step": link.step} for link in given.models if link.role == "output"]
        if read:
            out["inputs"]["model_inputs"] = read
        if made:
            out["outputs"]["model_outputs"] = made
    return out


def dataset_input(given: Input) -> Json:
    data = given.dataset
    about = lean(
        {
            "name": data.name,
            "digest": data.digest,
            "source_type": data.source_type,
            "source": data.source,
            "schema": data.schema,
            "profile": data.profile,
        }
    )
    return lean({"tags": entries(given.tags), "dataset": about})


def points(key: str, given: Iterable[Point], run_id: str | None = None) -> list[Json]:
    if run_id:
        return [{"key": key, "value": spelled(p.value), "timestamp": p.timestamp_ms, "step": p.step, "run_id": run_id} for p in given]
    finite = math.isfinite
    return [
        {"key": key, "value": value if finite(value := p.value) else spelled(value), "timestamp": p.timestamp_ms, "step": p.step}
        for p in given
    ]


def files(given: Iterable[Artifact], *, below: str = "") -> list[Json]:
    """`below`: paths are told relative to this folder, as one of the two listings wants them."""
    out: list[Json] = []
    for one in given:
        path = one.path.removeprefix(f"{below}/") if below and one.path != below else one.path
        if one.path == below:  # the listing of a file is its own name
            path = below.rpartition("/")[2]
        out.append({"path": path, "is_dir": True} if one.is_dir else {"path": path, "is_dir": False, "file_size": one.size})
    return out


def logged_model(given: LoggedModel) -> Json:
    info = lean(
        {
            "model_id": given.id,
            "experiment_id": given.experiment_id,
            "name": given.name,
            "creation_timestamp_ms": given.created_ms,
            "last_updated_timestamp_ms": given.updated_ms,
            "artifact_uri": given.artifact_uri,
            "status": f"LOGGED_MODEL_{given.status}" if given.status != "FAILED" else "LOGGED_MODEL_UPLOAD_FAILED",
            "model_type": given.model_type,
            "source_run_id": given.source_run_id,
            "status_message": given.status_message,
            "tags": entries(given.tags),
        }
    )
    return {"info": info, "data": lean({"params": entries(given.params), "metrics": [_model_metric(m) for m in given.metrics]})}


def _model_metric(given: Metric) -> Json:
    name, digest = given.dataset or (None, None)
    out = {"key": given.key, "value": spelled(given.value), "timestamp": given.timestamp_ms, "step": given.step}
    return out | lean({"model_id": given.model_id, "run_id": given.run_id, "dataset_name": name, "dataset_digest": digest})


def version(given: Version) -> Json:
    return lean(
        {
            "name": given.name,
            "version": str(given.number),
            "creation_timestamp": given.created_ms,
            "last_updated_timestamp": given.updated_ms,
            "user_id": given.user,
            "current_stage": given.stage,
            "source": given.source,
            "run_id": given.run_id,
            "status": given.status,
            "status_message": given.status_message,
            "tags": entries(given.tags),
            "aliases": list(given.aliases),
        }
    ) | {"description": given.description}


def registered_model(given: Repo, latest: Iterable[Version]) -> Json:
    return lean(
        {
            "name": given.name,
            "creation_timestamp": given.created_ms,
            "last_updated_timestamp": given.updated_ms,
            "description": given.description,
            "latest_versions": [version(one) for one in latest],
            "tags": entries(given.tags),
            "aliases": [{"alias": alias, "version": str(n)} for alias, n in given.aliases.items()],
        }
    )
