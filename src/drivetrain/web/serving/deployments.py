"""Deployments: is it serving well? Traffic, latency and errors by variant on one time axis, replicas, and the newest requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from drivetrain.errors import DrivetrainError, Invalid
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.serving.model import Deployment, Variant
from drivetrain.store.events.model import Event, Point
from drivetrain.store.ids import now_ms
from drivetrain.web import format as fmt
from drivetrain.web.monitoring import alert_summary
from drivetrain.web.naming import address, model_address, serves
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.rollout import summary as rollout_summary
from drivetrain.web.serving.views import DeploymentPage, DeploymentRow, ReplicaRow, RequestRow, VariantRow
from drivetrain.web.snippets import infer_example, snippets
from drivetrain.web.svg import spark
from drivetrain.web.views import Figure, State

Viewer = Annotated[Context, Depends(viewer)]
MINUTE, HOUR = 60_000, 3_600_000
WINDOWS: dict[str, tuple[int, int]] = {
    "15m": (15 * MINUTE, MINUTE),
    "1h": (HOUR, MINUTE),
    "6h": (6 * HOUR, 5 * MINUTE),
    "24h": (24 * HOUR, 15 * MINUTE),
    "7d": (168 * HOUR, 2 * HOUR),
    "30d": (720 * HOUR, 6 * HOUR),
}
"""What the time axis can show: its length and its step."""

_WORDS = {"15m": "15 minutes", "1h": "hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}
_STATES: dict[str, tuple[str, Any]] = {
    "ready": ("Ready", "good"),
    "starting": ("Starting", "busy"),
    "draining": ("Draining", "busy"),
    "idle": ("Idle", "idle"),
    "failing": ("Failing", "bad"),
    "failed": ("Failed", "bad"),
    "stopped": ("Stopped", "idle"),
}


def state(deployment: Deployment, now: Point | None = None) -> State:
    """How a deployment is. One that answers, but mostly with errors, is not well."""
    word, tone = _STATES.get(deployment.state, (deployment.state.capitalize(), "idle"))
    if deployment.state == "ready" and now is not None and now.requests >= 10 and now.errors / now.requests > 0.05:
        return State("Erring", "warn", f"{fmt.percent(now.errors / now.requests)} of the answers of the last hour were errors")
    why = deployment.problem
    if deployment.state == "idle":
        why = "It starts with the next request, and stops when nobody asks."
    return State(word, tone, why)


def fitting_window(deployment: Deployment, now: int) -> str:
    """A time axis that a young deployment does not leave empty."""
    first = min((variant.created_ms for variant in deployment.variants), default=deployment.created_ms)
    return "15m" if now - min(first, deployment.created_ms) < 15 * MINUTE else "1h"


def window_of(text: str) -> str:
    """A time axis by its name; "" lets the page choose."""
    if text and text not in WINDOWS:
        raise Invalid(f"A window is one of {', '.join(WINDOWS)}.", param="window")
    return text


def live(deployment: Deployment) -> list[Variant]:
    """The variants that get traffic or are about to, and those on their way out, the newest first."""
    return sorted(deployment.variants, key=lambda variant: variant.created_ms, reverse=True)


def row(platform: Platform, deployment: Deployment, now: int) -> DeploymentRow:
    last = platform.events.total([deployment.id], since_ms=now - HOUR, until_ms=now)
    points = platform.events.series([deployment.id], since_ms=now - HOUR, until_ms=now, step_ms=2 * MINUTE)
    variants = live(deployment)
    ready = sum(replica.state == "ready" for replica in deployment.replicas)
    wanted = sum(max(variant.min_replicas, 0) for variant in variants if variant.retired_ms is None)
    first = max(variants, key=lambda one: (one.retired_ms is None, one.weight), default=None)
    return DeploymentRow(
        name=deployment.name,
        url=address(deployment.name),
        state=state(deployment, last),
        serves=serves(first) if first else fmt.DASH,
        serves_url=model_address(first.repo, first.version) if first else "",
        engine=first.engine if first else fmt.DASH,
        replicas=f"{ready} of {wanted}" if ready < wanted else str(ready),
        requests=last.requests,
        errors=last.errors,
        p95_ms=last.latency_p95_ms,
        spark=spark([point.requests for point in points], f"Requests of {deployment.name} in the last hour"),
        on_demand=deployment.implicit,
    )


def request_row(ctx: Context, event: Event) -> RequestRow:
    tokens = f"{fmt.number(event.tokens_in)} → {fmt.number(event.tokens_out)}" if event.tokens_in or event.tokens_out else ""
    return RequestRow(
        id=event.id,
        at_ms=event.t // 1_000_000,
        state=event_state(event),
        task=event.task,
        dialect=event.dialect,
        variant=event.variant_name,
        deployment=event.deployment_name,
        latency_ms=event.latency_ms,
        ttft_ms=event.ttft_ms,
        tokens=tokens,
        user=event.unit or user_name(ctx, event.user),
    )


def user_name(ctx: Context, user_id: str) -> str:
    """Who asked, by name where it is known without asking."""
    if user_id == ctx.user_id:
        return ctx.user_name
    return f"user {fmt.short(user_id)}" if len(user_id) == 32 else user_id


def event_state(event: Event) -> State:
    if not event.error:
        return State(str(event.status), "good")
    if event.error == "cancelled":
        return State("Cancelled", "idle", "The client went away before the end.")
    return State(f"{event.status} {event.error}", "warn" if event.error in ("invalid", "overloaded") else "bad", event.message)


def view(platform: Platform, ctx: Context, name: str, window: str, errors_only: bool, server: str, *, problem: str = "") -> DeploymentPage:
    now = now_ms()
    deployment = platform.serving.get(ctx, name)
    window = window or fitting_window(deployment, now)
    length = WINDOWS[window][0]
    total = platform.events.total([deployment.id], since_ms=now - length, until_ms=now)
    tasks = {task for variant in live(deployment) for task in variant.tasks}
    names = {variant.id: variant for variant in deployment.variants}
    text = bool(tasks & {"chat", "completion"})
    figures = [
        Figure("Requests", fmt.compact(total.requests), f"in the last {_WORDS[window]}"),
        Figure("Errors", fmt.percent_figure(total.errors / total.requests if total.requests else None), fmt.plural(total.errors, "error")),
        Figure("Latency p95", fmt.duration_figure(total.latency_p95_ms), f"median {fmt.duration(total.latency_p50_ms)}"),
    ]
    if text:
        figures.append(Figure("First token p95", fmt.duration_figure(total.ttft_p95_ms), f"{fmt.number(total.tokens_out)} tokens out"))
    else:
        figures.append(Figure("Latency p99", fmt.duration_figure(total.latency_p99_ms), f"{fmt.number(total.cancelled)} cancelled"))
    serving = {serves(variant) for variant in live(deployment)}
    past = {serves(one): one for one in reversed(platform.serving.history(ctx, name)) if serves(one) not in serving}.values()
    recent = platform.events.recent(ctx.workspace_id, deployment=deployment.id, limit=20, errors_only=errors_only)
    return DeploymentPage(
        row=row(platform, deployment, now),
        figures=figures,
        variants=[_variant(platform, deployment, variant, now - length, now) for variant in [*live(deployment), *past]],
        replicas=[
            ReplicaRow(
                id=replica.id,
                variant=serves(names[replica.variant_id]) if replica.variant_id in names else fmt.DASH,
                state=State(*_STATES.get(replica.state, (replica.state.capitalize(), "idle")), replica.message),
                pid=replica.pid,
                memory=replica.memory_bytes or None,
                restarts=replica.restarts,
                started_ms=replica.started_ms or None,
            )
            for replica in sorted(deployment.replicas, key=lambda one: one.started_ms, reverse=True)
        ],
        requests=[request_row(ctx, event) for event in recent],
        errors_only=errors_only,
        window=window,
        windows=list(WINDOWS),
        text=text,
        most_replicas=max((variant.max_replicas for variant in live(deployment)), default=1),
        problem=problem,
        try_it=snippets(server, deployment.name, tasks, infer_example(recent)),
        rollouts=rollout_summary.recent(platform, ctx, deployment.name),
        start=rollout_summary.start_form(platform, ctx, deployment.name),
        alerts=[alert_summary.row(one) for one in platform.alerts.list(ctx, state="lasting", deployment=deployment.name, limit=5)],
    )


def _variant(platform: Platform, deployment: Deployment, variant: Variant, since: int, now: int) -> VariantRow:
    total = platform.events.total([deployment.id], since_ms=since, until_ms=now, variant=variant.id)
    mine = [replica for replica in deployment.replicas if replica.variant_id == variant.id]
    best = min((replica.state for replica in mine), key=["ready", "starting", "draining", "failed"].index, default="idle")
    word, tone = _STATES.get(best, (best.capitalize(), "idle"))
    ready = {replica.variant_id for replica in deployment.replicas if replica.state == "ready"}
    succeeded = any(one.id in ready for one in deployment.variants if one.retired_ms is None)
    serving = succeeded == (variant.retired_ms is None)  # a retired one serves until its successor is ready
    if variant.retired_ms is not None:
        word = "Going"
    return VariantRow(
        name=variant.name,
        serves=serves(variant),
        serves_url=model_address(variant.repo, variant.version),
        engine=variant.engine,
        share=variant.weight / 10_000 if serving else 0.0,
        state=State(word, tone, variant.why),
        requests=total.requests,
        errors=total.errors,
        p50_ms=total.latency_p50_ms,
        p95_ms=total.latency_p95_ms,
        created_ms=variant.created_ms,
        source=_source(variant),
        past=variant.id not in {one.id for one in live(deployment)},
    )


def _source(variant: Variant) -> str:
    """The name that deploys the same version again."""
    return f"{variant.repo.rpartition('/')[2]}@{variant.version if variant.version is not None else variant.commit}"


def series(platform: Platform, ctx: Context, name: str, window: str) -> dict[str, Any]:
    """What the charts of the page draw: one time axis, rates and latencies by variant."""
    now = now_ms()
    deployment = platform.serving.get(ctx, name)
    length, step = WINDOWS[window or fitting_window(deployment, now)]
    lines = []
    first = now - length
    history = platform.serving.history(ctx, name)
    for variant in reversed(history):
        points = platform.events.series([deployment.id], since_ms=first, until_ms=now, step_ms=step, variant=variant.id)
        if not any(point.requests for point in points):
            continue
        lines.append(
            {
                "name": serves(variant),
                "requests": [point.requests / (step / 1000) for point in points],
                "errors": [point.errors / point.requests if point.requests else None for point in points],
                "p50": [point.latency_p50_ms for point in points],
                "p95": [point.latency_p95_ms for point in points],
                "ttft": [point.ttft_p50_ms for point in points],
                "tokens": [point.tokens_out / (step / 1000) for point in points],
                "at": [point.t_ms for point in points],
            }
        )
    flags = [{"at": variant.created_ms, "text": serves(variant)} for variant in history if variant.created_ms >= first]
    return {"step_ms": step, "since_ms": first, "until_ms": now, "variants": lines, "flags": flags}


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/deployments")
    def deployments(request: Request, ctx: Viewer) -> Response:
        now = now_ms()
        rows = [row(platform, deployment, now) for deployment in platform.serving.list(ctx)]
        return pages.page(request, "serving/deployments.html", path=[("Deployments", "/deployments")], rows=rows)

    @router.get("/deployments/{name:path}")
    def deployment(request: Request, ctx: Viewer, name: str, window: str = "", errors: Annotated[bool, Query()] = False) -> Response:
        shown = view(platform, ctx, name, window_of(window), errors, str(request.base_url).rstrip("/"))
        return pages.page(
            request,
            "serving/deployment.html",
            path=[("Deployments", "/deployments"), (name, address(name))],
            view=shown,
            data=f"/data{address(name)}",
        )

    def act(request: Request, ctx: Context, name: str, do: Callable[[], object], after: str = "") -> Response:
        """Do it and show the deployment again; what does not go is said on the page."""
        try:
            do()
        except DrivetrainError as error:
            shown = view(platform, ctx, name, "", False, str(request.base_url).rstrip("/"), problem=error.message)
            path = [("Deployments", "/deployments"), (name, address(name))]
            return pages.page(request, "serving/deployment.html", path=path, status=error.status, view=shown, data=f"/data{address(name)}")
        return RedirectResponse(after or address(name), status_code=303, headers=HEADERS)

    @router.post("/deployments/{name:path}/restart")
    def restart(request: Request, ctx: Viewer, name: str) -> Response:
        return act(request, ctx, name, lambda: platform.serving.restart(ctx, name))

    @router.post("/deployments/{name:path}/scale")
    def scale(request: Request, ctx: Viewer, name: str, replicas: Annotated[int, Form()]) -> Response:
        return act(request, ctx, name, lambda: platform.serving.scale(ctx, name, min_replicas=replicas))

    @router.post("/deployments/{name:path}/delete")
    def delete(request: Request, ctx: Viewer, name: str) -> Response:
        return act(request, ctx, name, lambda: platform.serving.delete(ctx, name), "/deployments")

    @router.post("/deployments/{name:path}/serve")
    def serve(request: Request, ctx: Viewer, name: str, source: Annotated[str, Form()]) -> Response:
        """Put a version (again) behind the name, as the present one runs."""

        def again() -> None:
            deployment = platform.serving.get(ctx, name)
            like = next((one for one in platform.serving.history(ctx, name) if _source(one) == source), live(deployment)[0])
            platform.serving.deploy(
                ctx,
                name,
                source,
                engine=like.engine,
                options=like.options,
                min_replicas=like.min_replicas,
                max_replicas=like.max_replicas,
                capture=deployment.capture,
                capture_rate=deployment.capture_rate,
            )

        return act(request, ctx, name, again)

    @router.get("/data/deployments/{name:path}")
    def data(ctx: Viewer, name: str, window: str = "") -> Response:
        return JSONResponse(series(platform, ctx, name, window_of(window)), headers=HEADERS)

    return router
