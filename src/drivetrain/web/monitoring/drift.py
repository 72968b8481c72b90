"""Drift: has the world changed? One row for each feature, reference and live over each other, by effect."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.monitoring.drift.model import Report
from drivetrain.monitoring.kinds import Drift, stored_config
from drivetrain.monitoring.model import Monitor, Window
from drivetrain.platform import Platform
from drivetrain.serving.model import Variant
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.monitoring import features
from drivetrain.web.monitoring.views import DriftPage, WindowMark
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.views import Figure, Pair, State

Viewer = Annotated[Context, Depends(viewer)]
_STRIP = 60
_FIRST = 20
SHOWS = ("first", "all", "drifted")


def view(platform: Platform, ctx: Context, name: str, window: str = "", show: str = "first") -> DriftPage:
    monitor = next(one for one in platform.monitors.list(ctx, name) if one.kind == "drift")
    config: Drift = stored_config("drift", monitor.config)
    windows = platform.monitors.windows(ctx, name, limit=_STRIP)
    url = naming.address(name)
    if not windows:
        headline = "The monitor of drift is paused" if monitor.paused else "No window has been compared yet"
        return DriftPage(
            deployment=name,
            url=url,
            state=State("Paused", "idle") if monitor.paused else State("Waiting", "idle"),
            headline=headline,
            why=monitor.words,
            figures=[],
            windows=[],
            features=[],
            shown=show,
            more=0,
            drifted=0,
            notes=[],
            facts=_facts(config),
            paused=monitor.paused,
            empty="The first report comes by itself",
        )
    chosen, report = platform.monitors.report(ctx, name, window or None)
    variants = {one.id: one for one in platform.serving.history(ctx, name)}
    rows = features.rows(report, least_effect=config.least_effect)
    drifted = [row for row, feature in zip(rows, report.features, strict=True) if feature.drifted]
    shown = {"all": rows, "drifted": drifted}.get(show, rows[: max(_FIRST, len(drifted))])
    latest = chosen.id == windows[0].id
    return DriftPage(
        deployment=name,
        url=url,
        state=_state(monitor, report, latest=latest),
        headline=_headline(report),
        why=monitor.words if latest else "An earlier window; the newest is the last of the strip.",
        figures=_figures(platform, chosen, report, windows, variants, config),
        windows=[_mark(one, variants, url, show, here=one.id == chosen.id) for one in reversed(windows)],
        features=shown,
        shown=show,
        more=len(rows) - len(shown) if show == "first" else 0,
        drifted=len(drifted),
        notes=report.notes,
        facts=_facts(config),
        paused=monitor.paused,
        empty="",
    )


def _headline(report: Report) -> str:
    count, all_ = len(report.drifted), fmt.plural(len(report.features), "feature")
    if not report.enough:
        return "Too few rows for a verdict"
    return f"{count} of {all_} {'has' if count == 1 else 'have'} drifted" if count else f"No drift in {all_}"


def _state(monitor: Monitor, report: Report, *, latest: bool) -> State:
    if monitor.paused:
        return State("Paused", "idle", "No new window is compared until it goes on")
    if latest and monitor.state == "alarm":
        return State("Alarm", "bad", monitor.words)
    if not report.enough:
        return State("Waiting", "idle")
    return State("Drifted", "warn", "In this window; it takes several to raise an alert") if report.drifted else State("Calm", "good")


def _figures(
    platform: Platform, window: Window, report: Report, windows: list[Window], variants: dict[str, Variant], config: Drift
) -> list[Figure]:
    same = [one for one in windows if one.variant_id == window.variant_id and one.id <= window.id][: config.of]
    persistent = sum(one.drifted > 0 for one in same)
    variant = variants.get(window.variant_id)
    kept = platform.monitors.references.source(window.variant_id)
    learned = kept is not None and kept[1]
    source = "learned from its first requests" if learned else report.source or (kept[0] if kept else "the training data")
    version = f" of {naming.serves(variant)}" if variant else ""
    return [
        Figure("Drifted", str(len(report.drifted)), f"of {fmt.plural(len(report.features), 'feature')}"),
        Figure("Window", fmt.number(window.rows), f"rows{version} in {fmt.duration(window.to_ms - window.from_ms)}"),
        Figure("Reference", fmt.compact(report.rows_reference), f"rows: {_shortened(source)}"),
        Figure("Persistence", str(persistent), f"of the last {len(same)} windows; {config.persistence} of {config.of} raise an alert"),
    ]


def _shortened(text: str) -> str:
    """With the telling end of each id instead of all of it."""
    return re.sub(r"\b[0-9a-f]{32}\b", lambda found: fmt.short(found[0]), text)


def _mark(one: Window, variants: dict[str, Variant], url: str, show: str, *, here: bool) -> WindowMark:
    version = f"{naming.serves(variants[one.variant_id])}, " if one.variant_id in variants else ""
    told = f"{one.drifted} of {one.features} features drifted" if one.features else "nothing could be compared"
    more = "" if show == "first" else f"&show={show}"
    return WindowMark(
        id=one.id,
        url=f"{url}/drift?window={quote(one.id)}{more}",
        tone="idle" if not one.features else "warn" if one.drifted else "good",
        says=f"{fmt.moment(one.from_ms)} to {fmt.moment(one.to_ms)}: {version}{fmt.number(one.rows)} rows, {told}",
        here=here,
    )


def _facts(config: Drift) -> list[Pair]:
    return [
        Pair("A window", f"{fmt.number(config.rows)} requests, at most one every {fmt.span(config.seconds)}"),
        Pair("Effect", f"at least {fmt.number(config.least_effect)}: less is of no matter, however sure"),
        Pair("Chance", f"at most {fmt.percent(config.false_discoveries)} of the features found are so by chance (Benjamini–Hochberg)"),
        Pair("Its unit", "the column's own robust deviation (quartiles), so that no scale and no heavy tail hides or makes a drift"),
        Pair("By chance", "how far apart random splits of all rows, of reference and window together, are at these sizes"),
        Pair("Not compared", "the values of identifiers, and times that grow with the clock: see the notes"),
        Pair("Alert", f"when {config.persistence} of the last {config.of} windows have drifted"),
    ]


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)

    @router.get("/deployments/{name:path}/drift")
    def drift(request: Request, ctx: Viewer, name: str, window: str = "", show: str = "first") -> Response:
        if show not in SHOWS:
            raise Invalid(f"What can be shown: {', '.join(SHOWS)}.", param="show")
        shown = view(platform, ctx, name, window, show)
        path = [("Deployments", "/deployments"), (name, naming.address(name)), ("Drift", f"{naming.address(name)}/drift")]
        return pages.page(request, "monitoring/drift.html", path=path, view=shown)

    @router.post("/deployments/{name:path}/monitors/{kind}/{act}")
    def act(ctx: Viewer, name: str, kind: str, act: str) -> Response:
        if act not in ("pause", "resume"):
            raise Invalid(f"A monitor can be paused and resumed, not {act[:40]!r}.")
        try:
            platform.monitors.set(ctx, name, kind, paused=act == "pause")
        except msgspec.ValidationError as error:
            raise NotFound(f"There is no monitor {kind[:40]!r}.") from error
        side = kind if kind in ("drift", "quality") else ""
        return RedirectResponse(f"{naming.address(name)}/{side}".rstrip("/"), status_code=303, headers=HEADERS)

    return router
