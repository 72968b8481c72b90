"""One run: what happened in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.identity.model import Context
from drivetrain.lineage.model import Thing
from drivetrain.platform import Platform
from drivetrain.tags import GIT_BRANCH, GIT_COMMIT, GIT_REPO, IMAGE, LABEL, MLFLOW, MODEL_HISTORY, NOTE, SOURCE, SOURCE_KIND, USER
from drivetrain.tracking.model import Owner, Run
from drivetrain.web.registry import models
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.runs import columns as runtable
from drivetrain.web.runs import panels
from drivetrain.web.runs.columns import duration, state
from drivetrain.web.runs.views import MetricRow, RunPage
from drivetrain.web.svg import Drawing, Node, lineage
from drivetrain.web.views import FileRow, Pair

Viewer = Annotated[Context, Depends(viewer)]
MOST_POINTS = 1000
SYSTEM = "system/"
_ENVIRONMENT = {
    GIT_COMMIT: "Git commit",
    GIT_BRANCH: "Git branch",
    GIT_REPO: "Repository",
    SOURCE: "Source",
    SOURCE_KIND: "Source kind",
    USER: "User",
    IMAGE: "Image",
}


def view(platform: Platform, ctx: Context, run_id: str) -> RunPage:
    run = platform.tracking.runs.get(ctx, run_id)
    experiment = platform.tracking.experiments.get(ctx, run.experiment_id)
    neighbours = platform.tracking.runs.search(ctx, [run.experiment_id], limit=20).items
    differs = runtable.differing(run, neighbours)
    files = platform.tracking.artifacts.manifest(ctx, Owner.run, run.id)
    details = platform.tracking.reports.get(ctx, run.id)
    metrics = [MetricRow(key, metric.value, metric.step) for key, metric in sorted(run.metrics.items()) if not key.startswith(SYSTEM)]
    return RunPage(
        id=run.id,
        name=run.name,
        experiment=experiment.name,
        experiment_id=experiment.id,
        state=state(run),
        user=run.user,
        started_ms=run.start_ms,
        duration_ms=duration(run),
        metrics=metrics,
        curves=[metric.key for metric in metrics][:36],
        params=[
            Pair(key, value, key in differs) for key, value in sorted(run.params.items(), key=lambda one: (one[0] not in differs, one[0]))
        ],
        tags=[Pair(key, value) for key, value in sorted(run.tags.items()) if not key.startswith((MLFLOW, LABEL))],
        labels=[key.removeprefix(LABEL) for key in sorted(run.tags) if key.startswith(LABEL)],
        environment=_environment(run),
        files=[
            FileRow(path, size, f"/api/v1/runs/{run.id}/artifacts/{quote(path)}", sha256) for path, (sha256, size) in sorted(files.items())
        ],
        drawing=draw(platform, ctx, run),
        neighbours=max(0, len(neighbours) - 1),
        note=run.tags.get(NOTE, ""),
        system=sorted(key for key in run.metrics if key.startswith(SYSTEM))[:48],
        summary=_summary(details.summary),
        is_deleted=run.lifecycle != "active",
        # wandb's client asks whether it is to stop; others do not.
        stop="asked" if details.stop_requested else "" if run.status != "RUNNING" or details.client_id == run.id else "can",
        panels=panels.panels(platform, ctx, run.id, files),
        console=panels.lines(platform, ctx, run.id),
    )


def _summary(summary: Mapping[str, Any]) -> list[Pair]:
    """What was said of a run beside numbers and media."""
    found = []
    for key, value in sorted(summary.items()):
        if (
            key.startswith("_")
            or (isinstance(value, int | float) and not isinstance(value, bool))
            or (isinstance(value, dict) and "_type" in value)
        ):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        found.append(Pair(key, text if len(text) <= 500 else text[:499] + "…"))
    return found[:200]


def _environment(run: Run) -> list[Pair]:
    pairs = [Pair(label, run.tags[key], mono="commit" in key) for key, label in _ENVIRONMENT.items() if run.tags.get(key)]
    history = run.tags.get(MODEL_HISTORY, "")
    if history:
        try:
            flavours = json.loads(history)[-1].get("flavors", {}).get("python_function", {})
            if version := flavours.get("python_version"):
                pairs.append(Pair("Python", str(version)))
        except (ValueError, IndexError, AttributeError, TypeError):
            pass
    return pairs


def draw(platform: Platform, ctx: Context, run: Run) -> Drawing | None:
    """Data → this run → the versions that it made → where they serve."""
    nodes = models.run_nodes(run, models.data_of(platform, ctx, run), here=True)
    serving = models.used_by(platform.serving.list(ctx))
    made = platform.lineage.objects(ctx, Thing("run", run.id), "made", "version")
    versions = platform.registry.get_versions(ctx, made[::-1][:20])
    for version in versions:
        key = f"v:{version.repo}:{version.number}"
        aliases = " ".join(f"@{alias}" for alias in version.aliases)
        models.address(version.repo, version.number)
        nodes.append(
            Node(
                key,
                2,
                "Version",
                f"{version.name} v{version.number}",
                aliases,
                models.address(version.repo, version.number),
                parents=("run",),
            )
        )
        for name in serving.get((version.repo, version.number), []):
            nodes.append(Node(f"d:{name}", 3, "Deployment", name, "", f"/deployments/{quote(name, safe='')}", parents=(key,)))
    return lineage(nodes) if len(nodes) > 1 else None


def curves(platform: Platform, ctx: Context, run_ids: list[str], keys: list[str], **part: int | None) -> dict[str, Any]:
    """The series of some metrics of some runs, or their part between two steps or times, thinned to what a chart can show."""
    found = []
    runs = platform.tracking.runs.get_many(ctx, run_ids)
    # Many lines share one chart: then each needs fewer points.
    each = max(200, min(MOST_POINTS, 4 * MOST_POINTS // max(1, len(runs))))
    wanted = keys or sorted({key for run in runs for key in run.metrics})[:60]
    charts = {key: platform.tracking.metrics.chart(ctx, run_ids, key, points_each=each, **part) for key in wanted}
    for run in runs:
        series = {}
        for key in wanted:
            if key in run.metrics:
                points = charts[key].get(run.id, [])
                series[key] = [[point.step, point.value if math.isfinite(point.value) else None, point.timestamp_ms] for point in points]
        found.append({"id": run.id, "name": run.name, "status": run.status, "series": series, "start_ms": run.start_ms})
    return {"runs": found}


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/runs/{run_id}")
    def run(request: Request, ctx: Viewer, run_id: str) -> Response:
        shown = view(platform, ctx, run_id)
        path = [("Runs", "/runs"), (shown.experiment, f"/runs?experiment={shown.experiment_id}"), (shown.name, f"/runs/{run_id}")]
        return pages.page(request, "runs/run.html", path=path, view=shown)

    @router.post("/runs/{run_id}/{act}")
    def change(ctx: Viewer, run_id: str, act: Literal["stop", "delete", "restore"]) -> Response:
        verbs = {
            "stop": platform.tracking.reports.request_stop,
            "delete": platform.tracking.runs.delete,
            "restore": platform.tracking.runs.restore,
        }
        verbs[act](ctx, run_id)
        return RedirectResponse(f"/runs/{quote(run_id, safe='')}", status_code=303, headers=HEADERS)

    @router.get("/data/runs")
    def data(
        ctx: Viewer,
        run: Annotated[tuple[str, ...], Query()] = (),
        key: Annotated[tuple[str, ...], Query()] = (),
        start: Annotated[int | None, Query(alias="from")] = None,
        end: Annotated[int | None, Query(alias="to")] = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> Response:
        part = {"start_step": start, "end_step": end, "start_ms": from_ms, "end_ms": to_ms}
        body = json.dumps(curves(platform, ctx, list(run[:20]), list(key[:60]), **part), allow_nan=False)
        return Response(body, media_type="application/json", headers=HEADERS)

    return router
