"""Quality: how right were the answers, by the labels that came for them, with how much of them is labelled and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from drivetrain.identity.model import Context
from drivetrain.monitoring.kinds import Quality, stored_config
from drivetrain.monitoring.model import Cohort, Monitor
from drivetrain.monitoring.quality import wilson
from drivetrain.platform import Platform
from drivetrain.serving.model import Variant
from drivetrain.store.ids import now_ms
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.monitoring.views import QualityPage, QualityRow
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.serving.deployments import HOUR, MINUTE, WINDOWS, fitting_window, window_of
from drivetrain.web.views import Figure, Pair, State

Viewer = Annotated[Context, Depends(viewer)]
_STEPS = {"15m": MINUTE, "1h": 5 * MINUTE, "6h": 15 * MINUTE, "24h": HOUR, "7d": 6 * HOUR, "30d": 24 * HOUR}
"""A cohort is longer than a step of the traffic's charts: of few labels nothing could be said."""

_STATES = {"ok": State("Well", "good"), "alarm": State("Alarm", "bad"), "waiting": State("Waiting", "idle")}


def view(platform: Platform, ctx: Context, name: str, window: str, server: str) -> QualityPage:
    now = now_ms()
    deployment = platform.serving.get(ctx, name)
    window = window or fitting_window(deployment, now)
    length, step = WINDOWS[window][0], _STEPS[window]
    monitor = next(one for one in platform.monitors.list(ctx, name) if one.kind == "quality")
    cohorts = platform.monitors.performance(ctx, name, since_ms=now - length, until_ms=now, step_ms=step)
    variants = {one.id: one for one in platform.serving.history(ctx, name)}
    total = platform.events.total([deployment.id], since_ms=now - length, until_ms=now)
    answers = total.requests - total.errors - total.cancelled
    labelled, right = sum(one.labelled for one in cohorts), sum(one.right for one in cohorts)
    return QualityPage(
        deployment=name,
        url=naming.address(name),
        state=State("Paused", "idle") if monitor.paused else _STATES.get(monitor.state, State(monitor.state.capitalize(), "idle")),
        headline=_headline(monitor, labelled, right),
        why=monitor.words,
        figures=_figures(cohorts, answers, labelled, right, window) if labelled else [],
        variants=_variants(platform, deployment.id, cohorts, variants, now - length, now),
        facts=_facts(stored_config("quality", monitor.config)),
        window=window,
        windows=list(WINDOWS),
        empty=not labelled,
        paused=monitor.paused,
        server=server,
    )


def _headline(monitor: Monitor, labelled: int, right: int) -> str:
    if not labelled:
        return "No labels have come in this time"
    if monitor.state == "alarm":
        return "The answers have become worse"
    return f"{fmt.percent(right / labelled)} of the labelled answers were right"


def _figures(cohorts: Sequence[Cohort], answers: int, labelled: int, right: int, window: str) -> list[Figure]:
    low, high = wilson(right, labelled)
    delay = math.fsum(one.delay_ms * one.labelled for one in cohorts) / labelled
    return [
        Figure("Right", fmt.percent_figure(right / labelled), f"95 % interval: {fmt.percent(low)} to {fmt.percent(high)}"),
        Figure("Labelled", fmt.compact(labelled), f"of {fmt.plural(answers, 'answer')} in {window}"),
        Figure("Share labelled", fmt.percent_figure(min(1.0, labelled / answers) if answers else None), "the rest says nothing here"),
        Figure("Delay", fmt.duration_figure(delay), "from the answer to its label, on average"),
    ]


def _variants(
    platform: Platform, deployment: str, cohorts: Sequence[Cohort], variants: dict[str, Variant], since: int, until: int
) -> list[QualityRow]:
    found = []
    for variant, mine in fmt.grouped(cohorts, "variant"):
        labelled, right = sum(one.labelled for one in mine), sum(one.right for one in mine)
        low, high = wilson(right, labelled)
        total = platform.events.total([deployment], since_ms=since, until_ms=until, variant=variant)
        answers = max(labelled, total.requests - total.errors - total.cancelled)
        known = variants.get(variant)
        found.append(
            QualityRow(
                name=naming.serves(known) if known else fmt.short(variant),
                url=naming.model_address(known.repo, known.version) if known else "",
                answers=answers,
                labelled=labelled,
                share=labelled / answers,
                accuracy=right / labelled,
                low=low,
                high=high,
            )
        )
    return sorted(found, key=lambda one: one.name, reverse=True)


def _facts(config: Quality) -> list[Pair]:
    found = [
        Pair("Compared", "the labelled answers of the version that serves with what is usual for it, label by label"),
        Pair("Alert", f"when they are surely worse, by {fmt.percent(config.drop)} or more"),
        Pair("False alarms", f"one in {fmt.plural(round(config.false_alarm_days), 'day')} at most, at the rate at which labels come"),
        Pair("Needs", f"{fmt.number(config.least)} labelled answers to know what is usual"),
    ]
    if config.least_accuracy is not None:
        found.append(Pair("Line", f"never surely below {fmt.percent(config.least_accuracy)}"))
    return found


def series(platform: Platform, ctx: Context, name: str, window: str) -> dict[str, Any]:
    """What the charts draw: quality with its interval, and the number of labels, by the time of the answers."""
    now = now_ms()
    deployment = platform.serving.get(ctx, name)
    window = window or fitting_window(deployment, now)
    length, step = WINDOWS[window][0], _STEPS[window]
    first = now - length
    variants = {one.id: one for one in platform.serving.history(ctx, name)}
    lines = []
    for variant, cohorts in fmt.grouped(platform.monitors.performance(ctx, name, since_ms=first, until_ms=now, step_ms=step), "variant"):
        known = variants.get(variant)
        lines.append(
            {
                "name": naming.serves(known) if known else fmt.short(variant),
                "points": [[one.from_ms, one.accuracy, one.low, one.high, one.labelled] for one in cohorts],
            }
        )
    drawn = {line["name"] for line in lines}
    named = [(one.created_ms, naming.serves(one)) for one in variants.values()]
    flags = [{"at": at, "text": name} for at, name in named if at >= first and name in drawn]
    return {"since_ms": first, "until_ms": now, "step_ms": step, "variants": lines, "flags": flags}


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/deployments/{name:path}/quality")
    def quality(request: Request, ctx: Viewer, name: str, window: str = "") -> Response:
        shown = view(platform, ctx, name, window_of(window), str(request.base_url).rstrip("/"))
        url = naming.address(name)
        path = [("Deployments", "/deployments"), (name, url), ("Quality", f"{url}/quality")]
        return pages.page(request, "monitoring/quality.html", path=path, view=shown, data=f"/data{url}/quality")

    @router.get("/data/deployments/{name:path}/quality")
    def data(ctx: Viewer, name: str, window: str = "") -> Response:
        return JSONResponse(series(platform, ctx, name, window_of(window)), headers=HEADERS)

    return router
