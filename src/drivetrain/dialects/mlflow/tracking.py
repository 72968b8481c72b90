"""Experiments and runs."""

from __future__ import annotations

from drivetrain.dialects.mlflow import answers
from drivetrain.dialects.mlflow import messages as m
from drivetrain.dialects.mlflow.routing import Json, Route, Services
from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.tracking import checks
from drivetrain.tracking.metrics import MAX_HISTORY
from drivetrain.tracking.model import Dataset, Input, Metric, ModelLink, Owner, View

_VIEWS = {"": View.active, "ACTIVE_ONLY": View.active, "DELETED_ONLY": View.deleted, "ALL": View.all}


def _view(text: str) -> View:
    if text not in _VIEWS:
        raise Invalid(f"{text!r} is no view type: use ACTIVE_ONLY, DELETED_ONLY or ALL.", param="view_type")
    return _VIEWS[text]


# --- experiments


def create_experiment(s: Services, ctx: Context, body: m.CreateExperiment) -> Json:
    made = s.tracking.create_experiment(ctx, body.name, artifact_location=body.artifact_location, tags=m.tags(body.tags))
    return {"experiment_id": made.id}


def get_experiment(s: Services, ctx: Context, body: m.ExperimentId) -> Json:
    return {"experiment": answers.experiment(s.tracking.get_experiment(ctx, body.experiment_id))}


def get_experiment_by_name(s: Services, ctx: Context, body: m.ExperimentName) -> Json:
    return {"experiment": answers.experiment(s.tracking.find_experiment(ctx, body.experiment_name))}


def search_experiments(s: Services, ctx: Context, body: m.SearchExperiments) -> Json:
    found = s.tracking.search_experiments(
        ctx,
        filter=body.filter,
        view=_view(body.view_type),
        order_by=body.order_by,
        limit=body.max_results,
        token=body.page_token,
    )
    return answers.page("experiments", found, [answers.experiment(one) for one in found.items])


def update_experiment(s: Services, ctx: Context, body: m.UpdateExperiment) -> Json:
    s.tracking.rename_experiment(ctx, body.experiment_id, body.new_name)
    return {}


def delete_experiment(s: Services, ctx: Context, body: m.ExperimentId) -> Json:
    s.tracking.delete_experiment(ctx, body.experiment_id)
    return {}


def restore_experiment(s: Services, ctx: Context, body: m.ExperimentId) -> Json:
    s.tracking.restore_experiment(ctx, body.experiment_id)
    return {}


def set_experiment_tag(s: Services, ctx: Context, body: m.ExperimentTag) -> Json:
    s.tracking.set_experiment_tag(ctx, body.experiment_id, body.key, body.value)
    return {}


def delete_experiment_tag(s: Services, ctx: Context, body: m.ExperimentTag) -> Json:
    s.tracking.delete_experiment_tag(ctx, body.experiment_id, body.key)
    return {}


def search_datasets(s: Services, ctx: Context, body: m.SearchDatasets) -> Json:
    found = s.tracking.datasets(ctx, body.experiment_ids)
    return {
        "dataset_summaries": [
            answers.lean({"experiment_id": where, "name": one.dataset.name, "digest": one.dataset.digest, "context": one.context})
            for where, one in found
        ]
    }


# --- runs


def create_run(s: Services, ctx: Context, body: m.CreateRun) -> Json:
    made = s.tracking.create_run(
        ctx,
        body.experiment_id or "0",
        name=body.run_name or None,
        user=body.user_id or None,
        start_ms=body.start_time or None,
        tags=m.tags(body.tags),
    )
    return {"run": answers.run(made)}


def update_run(s: Services, ctx: Context, body: m.UpdateRun) -> Json:
    run = s.tracking.update_run(ctx, body.run, status=body.status or None, end_ms=body.end_time or None, name=body.run_name or None)
    return {"run_info": answers.run_info(run)}


def get_run(s: Services, ctx: Context, body: m.OfRun) -> Json:
    return {"run": answers.run(s.tracking.get_run(ctx, body.run))}


def delete_run(s: Services, ctx: Context, body: m.OfRun) -> Json:
    s.tracking.delete_run(ctx, body.run)
    return {}


def restore_run(s: Services, ctx: Context, body: m.OfRun) -> Json:
    s.tracking.restore_run(ctx, body.run)
    return {}


def search_runs(s: Services, ctx: Context, body: m.SearchRuns) -> Json:
    found = s.tracking.search_runs(
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
    dataset = (point.dataset_name, point.dataset_digest) if point.dataset_name else None
    return Metric(point.key, point.value, point.timestamp, point.step, point.model_id or None, dataset)


def log_metric(s: Services, ctx: Context, body: m.LogMetric) -> Json:
    s.tracking.log_batch(ctx, body.run, metrics=[_metric(body)])
    return {}


def log_param(s: Services, ctx: Context, body: m.LogParam) -> Json:
    s.tracking.log_batch(ctx, body.run, params={body.key: body.value})
    return {}


def set_tag(s: Services, ctx: Context, body: m.RunTag) -> Json:
    s.tracking.log_batch(ctx, body.run, tags={body.key: body.value})
    return {}


def delete_tag(s: Services, ctx: Context, body: m.RunTag) -> Json:
    s.tracking.delete_run_tag(ctx, body.run, body.key)
    return {}


def log_batch(s: Services, ctx: Context, body: m.LogBatch) -> Json:
    for what, given, most in (
        ("metrics", len(body.metrics), checks.MAX_BATCH),
        ("params", len(body.params), checks.MAX_BATCH_PARAMS),
        ("tags", len(body.tags), checks.MAX_BATCH_TAGS),
        ("entries", len(body.metrics) + len(body.params) + len(body.tags), checks.MAX_BATCH),
    ):
        if given > most:
            raise Invalid(f"A batch holds at most {most} {what}; this one has {given}: split it.", param=what)
    params: dict[str, str] = {}
    for param in body.params:
        if params.setdefault(param.key, param.value) != param.value:
            raise Invalid(f"The batch gives the param {checks.shown(param.key)} two values: {param.value!r} is the second.", param="params")
    s.tracking.log_batch(ctx, body.run, metrics=[_metric(point) for point in body.metrics], params=params, tags=m.tags(body.tags))
    return {}


def log_inputs(s: Services, ctx: Context, body: m.LogInputs) -> Json:
    inputs = []
    for one in body.datasets:
        d = one.dataset
        inputs.append(Input(Dataset(d.name, d.digest, d.source_type, d.source, d.schema, d.profile), m.tags(one.tags)))
    s.tracking.log_inputs(ctx, body.run, inputs, [ModelLink(link.model_id, "input") for link in body.models])
    return {}


def log_outputs(s: Services, ctx: Context, body: m.LogOutputs) -> Json:
    s.tracking.log_inputs(ctx, body.run, (), [ModelLink(link.model_id, "output", link.step) for link in body.models])
    return {}


def get_history(s: Services, ctx: Context, body: m.GetHistory) -> Json:
    limit = min(body.max_results, MAX_HISTORY) if body.max_results > 0 else MAX_HISTORY
    found = s.tracking.history(ctx, body.run, body.metric_key, limit=limit, token=body.page_token)
    return answers.page("metrics", found, answers.points(body.metric_key, found.items))


def get_histories(s: Services, ctx: Context, body: m.GetHistories) -> Json:
    runs = (body.run_ids or body.run_id)[:100]
    each = min(body.max_results, MAX_HISTORY) if body.max_results > 0 else 2500
    found = s.tracking.chart(ctx, runs, body.metric_key, points_each=each, start_step=body.start_step, end_step=body.end_step)
    return {"metrics": [point for run, points in found.items() for point in answers.points(body.metric_key, points, run)]}


def list_artifacts(s: Services, ctx: Context, body: m.ListArtifacts) -> Json:
    run = s.tracking.get_run(ctx, body.run)
    found = s.tracking.list_artifacts(ctx, Owner.run, run.id, body.path)
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
    Route("POST", "runs/log-inputs", m.LogInputs, log_inputs),
    Route("POST", "runs/outputs", m.LogOutputs, log_outputs),
    Route("GET", "metrics/get-history", m.GetHistory, get_history),
    Route("GET", "metrics/get-history-bulk", m.GetHistories, get_histories),
    Route("GET", "metrics/get-history-bulk-interval", m.GetHistories, get_histories),
    Route("GET", "artifacts/list", m.ListArtifacts, list_artifacts),
)
