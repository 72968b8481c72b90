"""Experiments and runs."""

from __future__ import annotations

from typing import Any

import msgspec

from drivetrain.dialects.mlflow import answers
from drivetrain.dialects.mlflow import messages as m
from drivetrain.dialects.mlflow.routing import Json, Route, Written
from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tags import MODEL_HISTORY
from drivetrain.tracking import checks
from drivetrain.tracking.metrics.service import MAX_HISTORY
from drivetrain.tracking.model import Dataset, Input, Metric, ModelLink, Owner, View

_VIEWS = {"": View.active, "ACTIVE_ONLY": View.active, "DELETED_ONLY": View.deleted, "ALL": View.all}
_VIEW_NUMBERS = {1: "ACTIVE_ONLY", 2: "DELETED_ONLY", 3: "ALL"}
_STATUS_NUMBERS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}

MODEL_FIELDS = ("run_id", "artifact_path", "utc_time_created", "model_uuid", "flavors")
MAX_RUNS_AT_ONCE = 100
MAX_SAMPLED = 2500


def _view(given: str | int) -> View:
    name = m.named(given, _VIEW_NUMBERS)
    if name not in _VIEWS:
        raise Invalid(f"{name!r} is no view type: use ACTIVE_ONLY, DELETED_ONLY or ALL.", param="view_type")
    return _VIEWS[name]


# --- experiments


def create_experiment(s: Platform, ctx: Context, body: m.CreateExperiment) -> Json:
    made = s.tracking.experiments.create(ctx, body.name, artifact_location=body.artifact_location, tags=m.tags(body.tags))
    return {"experiment_id": made.id}


def get_experiment(s: Platform, ctx: Context, body: m.ExperimentId) -> Json:
    return {"experiment": answers.experiment(s.tracking.experiments.get(ctx, body.experiment_id))}


def get_experiment_by_name(s: Platform, ctx: Context, body: m.ExperimentName) -> Json:
    return {"experiment": answers.experiment(s.tracking.experiments.find(ctx, body.experiment_name))}


def search_experiments(s: Platform, ctx: Context, body: m.SearchExperiments) -> Json:
    found = s.tracking.experiments.search(
        ctx,
        filter=body.filter,
        view=_view(body.view_type),
        order_by=body.order_by,
        limit=body.max_results,
        token=body.page_token,
    )
    return answers.page("experiments", found, [answers.experiment(one) for one in found.items])


def update_experiment(s: Platform, ctx: Context, body: m.UpdateExperiment) -> Json:
    s.tracking.experiments.rename(ctx, body.experiment_id, body.new_name)
    return {}


def delete_experiment(s: Platform, ctx: Context, body: m.ExperimentId) -> Json:
    s.tracking.experiments.delete(ctx, body.experiment_id)
    return {}


def restore_experiment(s: Platform, ctx: Context, body: m.ExperimentId) -> Json:
    s.tracking.experiments.restore(ctx, body.experiment_id)
    return {}


def set_experiment_tag(s: Platform, ctx: Context, body: m.ExperimentTag) -> Json:
    s.tracking.experiments.set_tag(ctx, body.experiment_id, body.key, body.value)
    return {}


def delete_experiment_tag(s: Platform, ctx: Context, body: m.ExperimentTag) -> Json:
    s.tracking.experiments.delete_tag(ctx, body.experiment_id, body.key)
    return {}


def search_datasets(s: Platform, ctx: Context, body: m.SearchDatasets) -> Json:
    if not body.experiment_ids:
        raise Invalid("Say which experiments are meant: experiment_ids is empty.", param="experiment_ids")
    found = s.tracking.inputs.datasets(ctx, body.experiment_ids)
    summaries = [
        answers.lean({"experiment_id": where, "name": one.dataset.name, "digest": one.dataset.digest, "context": one.context})
        for where, one in found
    ]
    return answers.lean({"dataset_summaries": summaries})


# --- runs


def create_run(s: Platform, ctx: Context, body: m.CreateRun) -> Json:
    made = s.tracking.runs.create(
        ctx,
        body.experiment_id or "0",
        name=body.run_name or None,
        user=body.user_id or None,
        start_ms=body.start_time or None,
        tags=m.run_tags(body.tags),
    )
    return {"run": answers.run(made)}


def update_run(s: Platform, ctx: Context, body: m.UpdateRun) -> Json:
    status = m.named(body.status, _STATUS_NUMBERS)
    run = s.tracking.runs.update(ctx, body.run, status=status or None, end_ms=body.end_time or None, name=body.run_name or None)
    return {"run_info": answers.run_info(run)}


def get_run(s: Platform, ctx: Context, body: m.OfRun) -> Json:
    return {"run": answers.run(s.tracking.runs.get(ctx, body.run))}


def delete_run(s: Platform, ctx: Context, body: m.OfRun) -> Json:
    s.tracking.runs.delete(ctx, body.run)
    return {}


def restore_run(s: Platform, ctx: Context, body: m.OfRun) -> Json:
    s.tracking.runs.restore(ctx, body.run)
    return {}


def search_runs(s: Platform, ctx: Context, body: m.SearchRuns) -> Json:
    found = s.tracking.runs.search(
        ctx,
        body.experiment_ids,
        filter=body.filter,
        view=_view(body.run_view_type),
        order_by=body.order_by,
        limit=body.max_results,
        token=body.page_token,
    )
    return answers.page("runs", found, [answers.run(one) for one in found.items])


# --- what a run logs


def _metric(point: m.MetricPoint | m.LogMetric) -> Metric:
    if point.timestamp < 0:
        raise Invalid(f"The timestamp {point.timestamp} of metric {checks.shown(point.key)} is before 1970: send milliseconds since then.")
    dataset = (point.dataset_name, point.dataset_digest) if point.dataset_name else None
    return Metric(point.key, point.value, point.timestamp, point.step, point.model_id or None, dataset)


def log_metric(s: Platform, ctx: Context, body: m.LogMetric) -> Written:
    return s.tracking.metrics.begin(ctx, body.run, metrics=[_metric(body)])


def log_param(s: Platform, ctx: Context, body: m.LogParam) -> Written:
    return s.tracking.metrics.begin(ctx, body.run, params=m.params([m.Tag(body.key, body.value)]))


def set_tag(s: Platform, ctx: Context, body: m.RunTag) -> Written:
    return s.tracking.metrics.begin(ctx, body.run, tags=m.run_tags([m.Tag(body.key, body.value)]))


def delete_tag(s: Platform, ctx: Context, body: m.RunTag) -> Json:
    s.tracking.runs.delete_tag(ctx, body.run, body.key)
    return {}


def log_batch(s: Platform, ctx: Context, body: m.LogBatch) -> Written:
    for what, given, most in (
        ("metrics", len(body.metrics), checks.MAX_BATCH),
        ("params", len(body.params), checks.MAX_BATCH_PARAMS),
        ("tags", len(body.tags), checks.MAX_BATCH_TAGS),
        ("entries", len(body.metrics) + len(body.params) + len(body.tags), checks.MAX_BATCH),
    ):
        if given > most:
            raise Invalid(f"A batch holds at most {most} {what}; this one has {given}: split it.", param=what)
    metrics = [_metric(point) for point in body.metrics]
    return s.tracking.metrics.begin(ctx, body.run, metrics=metrics, params=m.params(body.params), tags=m.run_tags(body.tags))


def log_model(s: Platform, ctx: Context, body: m.LogModel) -> Json:
    """What clients before 3.0 say of a model among the run's artifacts; it is kept as a tag, where they look for it."""
    try:
        model = msgspec.json.decode(body.model_json, type=dict[str, Any])
    except msgspec.DecodeError:
        raise Invalid(f"The model is not a JSON object: {checks.shown(body.model_json)}", param="model_json") from None
    if missing := [field for field in ("artifact_path", "flavors", "run_id", "utc_time_created") if field not in model]:
        raise Invalid(f"The model's JSON lacks {', '.join(missing)}.", param="model_json")
    run = s.tracking.runs.get(ctx, body.run)
    history = msgspec.json.decode(run.tags.get(MODEL_HISTORY, "[]"))
    history.append({field: model[field] for field in MODEL_FIELDS if field in model})
    # A tag holds so much: the oldest go, rather than that the text ends in the middle.
    while len(text := msgspec.json.encode(history).decode()) > checks.MAX_TAG and len(history) > 1:
        history.pop(0)
    s.tracking.metrics.log(ctx, body.run, tags={MODEL_HISTORY: text})
    return {}


def log_inputs(s: Platform, ctx: Context, body: m.LogInputs) -> Json:
    inputs = []
    for one in body.datasets:
        d = one.dataset
        inputs.append(Input(Dataset(d.name, d.digest, d.source_type, d.source, d.schema, d.profile), m.tags(one.tags)))
    s.tracking.inputs.log(ctx, body.run, inputs, [ModelLink(link.model_id, "input") for link in body.models])
    return {}


def log_outputs(s: Platform, ctx: Context, body: m.LogOutputs) -> Json:
    s.tracking.inputs.log(ctx, body.run, (), [ModelLink(link.model_id, "output", link.step) for link in body.models])
    return {}


def _most(given: int | None, most: int) -> int:
    if given is None:
        return most
    if given <= 0:
        raise Invalid(f"A page holds 1 to {most} points, not {given}.", param="max_results")
    return min(given, most)


def _runs(ids: list[str], param: str) -> list[str]:
    if not 0 < len(ids) <= MAX_RUNS_AT_ONCE:
        raise Invalid(f"Name 1 to {MAX_RUNS_AT_ONCE} runs in {param}, not {len(ids)}.", param=param)
    return ids


def get_history(s: Platform, ctx: Context, body: m.GetHistory) -> Json:
    found = s.tracking.metrics.history(ctx, body.run, body.metric_key, limit=_most(body.max_results, MAX_HISTORY), token=body.page_token)
    return answers.page("metrics", found, answers.points(body.metric_key, found.items))


def get_history_bulk(s: Platform, ctx: Context, body: m.GetHistoryBulk) -> Json:
    """Whole histories, run by run, until `max_results` points are found. Runs that are not there have none."""
    left = _most(body.max_results, MAX_HISTORY)
    points: list[Json] = []
    for run in s.tracking.runs.get_many(ctx, sorted(set(_runs(body.run_id, "run_id")))):
        if left > 0 and body.metric_key in run.metrics:
            found = s.tracking.metrics.history(ctx, run.id, body.metric_key, limit=left).items
            points += answers.points(body.metric_key, found, run.id)
            left -= len(found)
    return {"metrics": points}


def get_history_interval(s: Platform, ctx: Context, body: m.GetHistoryInterval) -> Json:
    """For charts: of each run's series, between two steps, a few points that show its course."""
    first, last = body.start_step, body.end_step
    if (first is None) != (last is None) or (first is not None and last is not None and last < first):
        raise Invalid(f"start_step and end_step are given together and in order, not as {first} and {last}.", param="start_step")
    if body.max_results is not None and not 0 < body.max_results <= MAX_SAMPLED:
        raise Invalid(f"max_results is 1 to {MAX_SAMPLED} for each run, not {body.max_results}.", param="max_results")
    each = body.max_results or MAX_SAMPLED
    found = s.tracking.metrics.chart(
        ctx, _runs(body.run_ids, "run_ids"), body.metric_key, points_each=each, start_step=first, end_step=last
    )
    return answers.lean({"metrics": [point for run, points in found.items() for point in answers.points(body.metric_key, points, run)]})


def list_artifacts(s: Platform, ctx: Context, body: m.ListArtifacts) -> Json:
    run = s.tracking.runs.get(ctx, body.run)
    found = s.tracking.artifacts.listing(ctx, Owner.run, run.id, body.path)
    # Unlike the listing of the artifact service, this one has nothing to say of a file.
    if body.path and len(found) == 1 and found[0].path == body.path.rstrip("/"):
        found = []
    return answers.lean({"root_uri": run.artifact_uri, "files": answers.files(found)})


ROUTES = (
    Route("POST", "experiments/create", m.CreateExperiment, create_experiment),
    Route("GET", "experiments/get", m.ExperimentId, get_experiment),
    Route("GET", "experiments/get-by-name", m.ExperimentName, get_experiment_by_name),
    Route("POST", "experiments/search", m.SearchExperiments, search_experiments),
    Route("GET", "experiments/search", m.SearchExperiments, search_experiments),
    Route("POST", "experiments/update", m.UpdateExperiment, update_experiment),
    Route("POST", "experiments/delete", m.ExperimentId, delete_experiment),
    Route("POST", "experiments/restore", m.ExperimentId, restore_experiment),
    Route("POST", "experiments/set-experiment-tag", m.ExperimentTag, set_experiment_tag),
    Route("POST", "experiments/delete-experiment-tag", m.ExperimentTag, delete_experiment_tag),
    Route("POST", "experiments/search-datasets", m.SearchDatasets, search_datasets),
    Route("POST", "runs/create", m.CreateRun, create_run),
    Route("POST", "runs/update", m.UpdateRun, update_run),
    Route("GET", "runs/get", m.OfRun, get_run),
    Route("POST", "runs/delete", m.OfRun, delete_run),
    Route("POST", "runs/restore", m.OfRun, restore_run),
    Route("POST", "runs/search", m.SearchRuns, search_runs),
    Route("POST", "runs/log-metric", m.LogMetric, log_metric),
    Route("POST", "runs/log-parameter", m.LogParam, log_param),
    Route("POST", "runs/set-tag", m.RunTag, set_tag),
    Route("POST", "runs/delete-tag", m.RunTag, delete_tag),
    Route("POST", "runs/log-batch", m.LogBatch, log_batch),
    Route("POST", "runs/log-model", m.LogModel, log_model),
    Route("POST", "runs/log-inputs", m.LogInputs, log_inputs),
    Route("POST", "runs/outputs", m.LogOutputs, log_outputs),
    Route("GET", "metrics/get-history", m.GetHistory, get_history),
    Route("GET", "metrics/get-history-bulk", m.GetHistoryBulk, get_history_bulk),
    Route("GET", "metrics/get-history-bulk-interval", m.GetHistoryInterval, get_history_interval),
    Route("GET", "artifacts/list", m.ListArtifacts, list_artifacts),
)
