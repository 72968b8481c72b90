"""Bring in a whole mlflow store: experiments, runs under their own ids, logged models, and the registry with its version numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from drivetrain.client.http import Connection, Json
from drivetrain.client.push import Progress
from drivetrain.errors import DrivetrainError, Invalid, NotFound, Unavailable
from drivetrain.portable.bring import Brought, bring, bring_model
from drivetrain.portable.mlflow_db import DatabaseStore
from drivetrain.portable.mlflow_files import FileStore
from drivetrain.portable.mlflow_store import (
    Artifacts,
    MlflowRun,
    RegisteredModel,
    Store,
    StoredExperiment,
    StoredVersion,
    logged,
)
from drivetrain.tags import PROMPT

API = "/mlflow/api/2.0/mlflow"
WAS_VERSION = "drivetrain.imported.version"
_RUN = re.compile(r"(?:^|.*/)([0-9a-f]{32})/artifacts(?:/(.*))?")
_MODEL = re.compile(r"(?:^|.*/)models/(m-[0-9a-f]{32})/artifacts(?:/(.*))?")


@dataclass(slots=True)
class Imported:
    """`versions` are those of the registry that are here now, as `name/number`."""

    runs: list[Brought] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def bring_store(connection: Connection, path: Path, *, artifacts: Path | None = None, progress: Progress | None = None) -> Imported:
    """Raises `NotFound` or `Invalid` for what is no store. What a part of it lacks is a warning, and the rest is brought in."""
    store: Store = FileStore(path) if path.is_dir() else DatabaseStore(_database(path))
    places = Artifacts(store.root if path.is_file() else path.parent, artifacts)
    found = Imported()
    ids: dict[str, str] = {}
    for experiment in store.experiments():
        try:
            _experiment(connection, store, experiment, places, found, ids, progress)
        except (Unavailable, OSError):
            raise
        except DrivetrainError as error:
            found.warnings.append(f"the experiment {experiment.name!r} was left out: {error.message}")
    for model in store.registered():
        _register(connection, model, found, ids)
    found.warnings += [*store.warnings, *places.warnings]
    return found


def _database(path: Path) -> Path:
    if not path.is_file():
        raise NotFound(f"There is no mlruns folder and no database at {path}.")
    return path


def _experiment(
    c: Connection,
    store: Store,
    experiment: StoredExperiment,
    places: Artifacts,
    found: Imported,
    ids: dict[str, str],
    progress: Progress | None,
) -> None:
    here = _here(c, experiment.name)
    deleted_here = here is not None and here["lifecycle_stage"] == "deleted"
    if here is not None and deleted_here:
        if experiment.lifecycle != "deleted":
            raise Invalid("an experiment of that name is deleted here: restore or rename that first.")
        c.json("POST", f"{API}/experiments/restore", {"experiment_id": here["experiment_id"]})
    try:
        for run in store.runs(experiment):
            try:
                done = bring(c, MlflowRun(run, experiment, places), progress=progress)
            except Unavailable:
                raise
            except DrivetrainError as error:
                found.warnings.append(f"the run {run.record['id']} was left out: {error.message}")
            else:
                ids[done.source_id] = done.run_id
                ids |= {one.record["id"]: one.record["id"] for one in run.models}
                found.runs.append(done)
        for model in store.orphans(experiment):
            ids[model.record["id"]] = bring_model(c, logged(model, experiment, places))
    finally:
        if experiment.lifecycle == "deleted" and (here := _here(c, experiment.name)) is not None:
            c.json("POST", f"{API}/experiments/delete", {"experiment_id": here["experiment_id"]})


def _here(c: Connection, name: str) -> Json | None:
    try:
        found: Json = c.json("GET", f"{API}/experiments/get-by-name", params={"experiment_name": name})["experiment"]
    except NotFound:
        return None
    return found


# --- the registry


def _register(c: Connection, model: RegisteredModel, found: Imported, ids: dict[str, str]) -> None:
    try:
        c.json("GET", f"{API}/registered-models/get", params={"name": model.name})
    except NotFound:
        tags = [{"key": key, "value": value} for key, value in model.tags.items()]
        try:
            c.json("POST", f"{API}/registered-models/create", {"name": model.name, "description": model.description, "tags": tags})
        except Invalid as error:
            found.warnings.append(f"the registered model {model.name!r} was left out: {error.message}")
            return
    numbers: dict[int, int] = {}
    filler = next((_source(one, ids) for one in model.versions if not one.deleted), "")
    for version in model.versions:
        try:
            number = _version(c, model, version, ids, filler)
        except Unavailable:
            raise
        except DrivetrainError as error:
            found.warnings.append(f"version {version.number} of {model.name!r} was left out: {error.message}")
        else:
            if number is not None:
                numbers[version.number] = number
                found.versions.append(f"{model.name}/{number}")
    for alias, number in model.aliases.items():
        if number in numbers:
            c.json("POST", f"{API}/registered-models/alias", {"name": model.name, "alias": alias, "version": str(numbers[number])})


def _version(c: Connection, model: RegisteredModel, version: StoredVersion, ids: dict[str, str], filler: str) -> int | None:
    """Its number here: the same, unless that was taken. A deleted version leaves its gap."""
    name = model.name
    # Prompts are listed to those only who ask for them.
    asked = f"name = '{_quoted(name)}'" + (f" AND tags.`{PROMPT}` = 'true'" if PROMPT in model.tags else "")
    known = c.json("GET", f"{API}/model-versions/search", params={"filter": asked, "max_results": 10_000})
    listed: list[Json] = known.get("model_versions") or []
    run_id = ids.get(version.run_id, "")
    source = _source(version, ids)
    for one in listed:
        tags = {tag["key"]: tag["value"] for tag in one.get("tags") or []}
        same = int(one["version"]) == version.number and one.get("source") == source and (one.get("run_id") or "") == run_id
        if same or tags.get(WAS_VERSION) == str(version.number):
            return None if version.deleted else int(one["version"])
    if version.deleted:
        _gap(c, name, version.number, listed, filler)
        return None
    body: Json = {"name": name, "source": source, "description": version.description}
    if run_id:
        body["run_id"] = run_id
    tags_ = [{"key": key, "value": value} for key, value in version.tags.items()]
    made = int(c.json("POST", f"{API}/model-versions/create", {**body, "tags": tags_})["model_version"]["version"])
    at: Json = {"name": name, "version": str(made)}
    if made != version.number:
        c.json("POST", f"{API}/model-versions/set-tag", {**at, "key": WAS_VERSION, "value": str(version.number)})
    if version.stage not in ("None", ""):
        c.json("POST", f"{API}/model-versions/transition-stage", {**at, "stage": version.stage, "archive_existing_versions": False})
    return made


def _gap(c: Connection, name: str, number: int, listed: list[Json], filler: str) -> None:
    """Use up the number of a version that was deleted, so that those after it keep theirs."""
    if not filler or any(int(one["version"]) >= number for one in listed):
        return
    made = c.json("POST", f"{API}/model-versions/create", {"name": name, "source": filler, "tags": []})["model_version"]
    c.json("DELETE", f"{API}/model-versions/delete", {"name": name, "version": made["version"]})


def _source(version: StoredVersion, ids: dict[str, Any]) -> str:
    """The version's source in terms of what was brought in: paths and addresses of the old store mean nothing here."""
    text = unquote(version.source)
    if found := _MODEL.fullmatch(text):
        return f"models:/{ids.get(found[1], found[1])}" + (f"/{found[2]}" if found[2] else "")
    if (found := _RUN.fullmatch(text)) and found[1] in ids:
        return f"runs:/{ids[found[1]]}" + (f"/{found[2]}" if found[2] else "")
    if found := re.fullmatch(r"(runs|models):/+(?:runs/)?((?:m-)?[0-9a-f]{32})(/.*)?", text):
        return f"{found[1]}:/{ids.get(found[2], found[2])}{found[3] or ''}"
    return version.source


def _quoted(name: str) -> str:
    return name.replace("'", "''")
