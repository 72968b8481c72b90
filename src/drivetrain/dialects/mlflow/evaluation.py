"""Evaluation datasets and scorers. Records and tags travel as JSON texts within the JSON."""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from drivetrain.dialects.mlflow import answers
from drivetrain.dialects.mlflow import messages as m
from drivetrain.dialects.mlflow.routing import Json, Route
from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tracking.evaluation.cases import Case
from drivetrain.tracking.evaluation.datasets import EvaluationDataset
from drivetrain.tracking.evaluation.scorers import Scorer


class CreateDataset(Struct):
    name: str
    experiment_ids: list[str] = []
    tags: str = ""


class SearchDatasets(Struct):
    experiment_ids: list[str] = []
    filter_string: str = ""
    max_results: int = 1000
    order_by: list[str] = []
    page_token: str = ""


class DatasetTags(Struct):
    tags: str


class Records(Struct):
    records: str


class GetRecords(Struct):
    max_results: int = 0
    page_token: str = ""


class RecordIds(Struct):
    dataset_record_ids: list[str] = []


class ExperimentIds(Struct):
    experiment_ids: list[str] = []


class RegisterScorer(Struct):
    experiment_id: str
    name: str
    serialized_scorer: str


class ListScorers(Struct):
    experiment_id: str = ""
    experiment_ids: list[str] = []


class ScorerName(Struct):
    experiment_id: str
    name: str


class ScorerVersion(Struct):
    experiment_id: str
    name: str
    version: int | None = None


# --- evaluation datasets


def create_dataset(s: Platform, ctx: Context, body: CreateDataset) -> Json:
    tags = _object(body.tags) if body.tags else {}
    made = s.tracking.evaluation.create(ctx, body.name, tags=tags, experiment_ids=body.experiment_ids)
    answer = _dataset(made)
    if body.experiment_ids:
        answer["dataset"]["experiment_ids"] = body.experiment_ids
    return answer


def get_dataset(s: Platform, ctx: Context, _: m.Nothing, dataset_id: str) -> Json:
    return _dataset(s.tracking.evaluation.get(ctx, dataset_id))


def delete_dataset(s: Platform, ctx: Context, _: m.Nothing, dataset_id: str) -> Json:
    s.tracking.evaluation.delete(ctx, dataset_id)
    return {}


def search_datasets(s: Platform, ctx: Context, body: SearchDatasets) -> Json:
    found = s.tracking.evaluation.search(
        ctx,
        experiment_ids=body.experiment_ids,
        filter=body.filter_string,
        order_by=body.order_by,
        limit=body.max_results,
        token=body.page_token,
    )
    return answers.page("datasets", found, [_dataset(one)["dataset"] for one in found.items])


def set_tags(s: Platform, ctx: Context, body: DatasetTags, dataset_id: str) -> Json:
    s.tracking.evaluation.set_tags(ctx, dataset_id, _object(body.tags))
    return {}


def delete_tag(s: Platform, ctx: Context, _: m.Nothing, dataset_id: str, key: str) -> Json:
    s.tracking.evaluation.delete_tag(ctx, dataset_id, key)
    return {}


def experiment_ids(s: Platform, ctx: Context, _: m.Nothing, dataset_id: str) -> Json:
    try:
        return answers.lean({"experiment_ids": s.tracking.evaluation.experiments(ctx, dataset_id)})
    except NotFound:
        return {}  # clients ask this of datasets that they hold, also of deleted ones


def add_experiments(s: Platform, ctx: Context, body: ExperimentIds, dataset_id: str) -> Json:
    return _dataset(s.tracking.evaluation.join(ctx, dataset_id, body.experiment_ids))


def remove_experiments(s: Platform, ctx: Context, body: ExperimentIds, dataset_id: str) -> Json:
    return _dataset(s.tracking.evaluation.leave(ctx, dataset_id, body.experiment_ids))


def get_records(s: Platform, ctx: Context, body: GetRecords, dataset_id: str) -> Json:
    found = s.tracking.evaluation.records(ctx, dataset_id, limit=body.max_results or 1000, token=body.page_token)
    answer = {"records": json.dumps([_record(one) for one in found.items])}
    return answer | {"next_page_token": found.token} if found.token else answer


def upsert_records(s: Platform, ctx: Context, body: Records, dataset_id: str) -> Json:
    records = _parsed(body.records, "records")
    if not isinstance(records, list):
        raise Invalid("records must be a JSON list of objects.", param="records")
    added, merged = s.tracking.evaluation.merge_records(ctx, dataset_id, records)
    return {"inserted_count": added, "updated_count": merged}


def delete_records(s: Platform, ctx: Context, body: RecordIds, dataset_id: str) -> Json:
    return {"deleted_count": s.tracking.evaluation.delete_records(ctx, dataset_id, body.dataset_record_ids)}


def _dataset(given: EvaluationDataset) -> Json:
    about: Json = {
        "dataset_id": given.id,
        "name": given.name,
        "tags": json.dumps(given.tags),
        "schema": given.schema,
        "profile": given.profile,
        "digest": given.digest,
        "created_time": given.created_ms,
        "last_update_time": given.updated_ms,
        "created_by": given.created_by,
        "last_updated_by": given.updated_by,
    }
    return {"dataset": answers.lean(about)}


def _record(given: Case) -> Json:
    about: Json = {
        "dataset_record_id": given.id,
        "dataset_id": given.dataset_id,
        "inputs": given.inputs,
        "created_time": given.created_ms,
        "last_update_time": given.updated_ms,
        "outputs": given.outputs,
        "expectations": given.expectations,
        "tags": given.tags,
        "source": given.source,
        "source_id": given.source_id,
        "source_type": given.source["source_type"] if given.source else None,
        "created_by": given.created_by,
        "last_updated_by": given.updated_by,
    }
    return {key: value for key, value in about.items() if value is not None}


def _object(text: str) -> dict[str, Any]:
    found = _parsed(text, "tags")
    if not isinstance(found, dict):
        raise Invalid("tags must be a JSON object.", param="tags")
    return found


def _parsed(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what} is not valid JSON: {error}.", param=what) from None


# --- scorers


def register_scorer(s: Platform, ctx: Context, body: RegisterScorer) -> Json:
    made = s.tracking.scorers.register(ctx, body.experiment_id, body.name, body.serialized_scorer)
    return {
        "version": made.version,
        "scorer_id": made.id,
        "experiment_id": made.experiment_id,
        "name": made.name,
        "serialized_scorer": made.text,
        "creation_time": made.created_ms,
    }


def list_scorers(s: Platform, ctx: Context, body: ListScorers) -> Json:
    if body.experiment_id and body.experiment_ids:
        raise Invalid("Cannot specify both 'experiment_id' and 'experiment_ids'.", param="experiment_ids")
    if body.experiment_id:
        return _scorers(s.tracking.scorers.of_experiment(ctx, body.experiment_id))
    return _scorers(s.tracking.scorers.all(ctx, body.experiment_ids or None))


def scorer_versions(s: Platform, ctx: Context, body: ScorerName) -> Json:
    return _scorers(s.tracking.scorers.versions(ctx, body.experiment_id, body.name))


def get_scorer(s: Platform, ctx: Context, body: ScorerVersion) -> Json:
    return {"scorer": _scorer(s.tracking.scorers.get(ctx, body.experiment_id, body.name, body.version))}


def delete_scorer(s: Platform, ctx: Context, body: ScorerVersion) -> Json:
    s.tracking.scorers.delete(ctx, body.experiment_id, body.name, body.version)
    return {}


def online_configs(_s: Platform, _ctx: Context, _: m.Nothing) -> Json:
    # Clients ask with every scorer that they load. Nothing is scored by this server, so no scorer has a schedule.
    return {"configs": []}


def _scorers(found: list[Scorer]) -> Json:
    return answers.lean({"scorers": [_scorer(one) for one in found]})


def _scorer(given: Scorer) -> Json:
    return {
        "experiment_id": int(given.experiment_id),
        "scorer_name": given.name,
        "scorer_version": given.version,
        "serialized_scorer": given.text,
        "creation_time": given.created_ms,
        "scorer_id": given.id,
    }


ROUTES = (
    Route("POST", "datasets/create", CreateDataset, create_dataset),
    Route("POST", "datasets/search", SearchDatasets, search_datasets),
    Route("GET", "datasets/search", SearchDatasets, search_datasets),
    Route("GET", "datasets/{id}", m.Nothing, get_dataset),
    Route("DELETE", "datasets/{id}", m.Nothing, delete_dataset),
    Route("PATCH", "datasets/{id}/tags", DatasetTags, set_tags),
    Route("DELETE", "datasets/{id}/tags/{key}", m.Nothing, delete_tag),
    Route("GET", "datasets/{id}/records", GetRecords, get_records),
    Route("POST", "datasets/{id}/records", Records, upsert_records),
    Route("DELETE", "datasets/{id}/records", RecordIds, delete_records),
    Route("GET", "datasets/{id}/experiment-ids", m.Nothing, experiment_ids),
    Route("POST", "datasets/{id}/add-experiments", ExperimentIds, add_experiments),
    Route("POST", "datasets/{id}/remove-experiments", ExperimentIds, remove_experiments),
    Route("POST", "scorers/register", RegisterScorer, register_scorer),
    Route("GET", "scorers/list", ListScorers, list_scorers),
    Route("GET", "scorers/versions", ScorerName, scorer_versions),
    Route("GET", "scorers/get", ScorerVersion, get_scorer),
    Route("DELETE", "scorers/delete", ScorerVersion, delete_scorer),
    Route("GET", "scorers/online-configs", m.Nothing, online_configs),
)
