"""Logged models."""

from __future__ import annotations

from drivetrain.dialects.mlflow import answers
from drivetrain.dialects.mlflow import messages as m
from drivetrain.dialects.mlflow.routing import Json, Route
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tracking.model import LoggedModel, Owner
from drivetrain.tracking.models.service import MAX_MODELS

_STATUS = {"LOGGED_MODEL_UPLOAD_FAILED": "FAILED", "UPLOAD_FAILED": "FAILED"}
_STATUS_NUMBERS = {1: "PENDING", 2: "READY", 3: "FAILED"}


def _answer(model: LoggedModel) -> Json:
    return {"model": answers.logged_model(model)}


def create(s: Platform, ctx: Context, body: m.CreateLoggedModel) -> Json:
    made = s.tracking.models.create(
        ctx,
        body.experiment_id or "0",
        name=body.name or None,
        model_type=body.model_type,
        source_run_id=body.source_run_id or None,
        params=m.params(body.params),
        tags=m.run_tags(body.tags),
    )
    return _answer(made)


def get(s: Platform, ctx: Context, body: m.GetLoggedModel, model_id: str) -> Json:
    return _answer(s.tracking.models.get(ctx, model_id, deleted=body.allow_deleted))


def finalize(s: Platform, ctx: Context, body: m.FinalizeLoggedModel, model_id: str) -> Json:
    given = m.named(body.status, _STATUS_NUMBERS)
    status = _STATUS.get(given, given.removeprefix("LOGGED_MODEL_"))
    return _answer(s.tracking.models.finalize(ctx, model_id, status))


def delete(s: Platform, ctx: Context, _: m.Nothing, model_id: str) -> Json:
    s.tracking.models.delete(ctx, model_id)
    return {}


def set_tags(s: Platform, ctx: Context, body: m.LoggedModelTags, model_id: str) -> Json:
    return _answer(s.tracking.models.set_tags(ctx, model_id, m.run_tags(body.tags)))


def delete_tag(s: Platform, ctx: Context, _: m.Nothing, model_id: str, key: str) -> Json:
    s.tracking.models.delete_tag(ctx, model_id, key)
    return {}


def log_params(s: Platform, ctx: Context, body: m.LoggedModelParams, model_id: str) -> Json:
    s.tracking.models.log_params(ctx, model_id, m.params(body.params))
    return {}


def list_files(s: Platform, ctx: Context, body: m.LoggedModelFolder, model_id: str) -> Json:
    model = s.tracking.models.get(ctx, model_id)
    found = s.tracking.artifacts.listing(ctx, Owner.model, model_id, body.artifact_directory_path)
    return answers.lean({"root_uri": model.artifact_uri, "files": answers.files(found)})


def search(s: Platform, ctx: Context, body: m.SearchLoggedModels) -> Json:
    found = s.tracking.models.search(
        ctx,
        body.experiment_ids,
        filter=body.filter,
        datasets=[(one.dataset_name, one.dataset_digest) for one in body.datasets],
        order_by=[(one.field_name, one.ascending) for one in body.order_by],
        limit=min(body.max_results, MAX_MODELS),  # who asks for more follows the page tokens
        token=body.page_token,
    )
    return answers.page("models", found, [answers.logged_model(one) for one in found.items])


ROUTES = (
    Route("POST", "logged-models", m.CreateLoggedModel, create),
    Route("POST", "logged-models/search", m.SearchLoggedModels, search),
    Route("GET", "logged-models/{id}", m.GetLoggedModel, get),
    Route("PATCH", "logged-models/{id}", m.FinalizeLoggedModel, finalize),
    Route("DELETE", "logged-models/{id}", m.Nothing, delete),
    Route("PATCH", "logged-models/{id}/tags", m.LoggedModelTags, set_tags),
    Route("DELETE", "logged-models/{id}/tags/{key}", m.Nothing, delete_tag),
    Route("POST", "logged-models/{id}/params", m.LoggedModelParams, log_params),
    Route("GET", "logged-models/{id}/artifacts/directories", m.LoggedModelFolder, list_files),
)
