"""Alerts: what is wrong now, on what evidence, how to undo it, and who was told; and the channels that tell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import RedirectResponse

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.monitoring.alerts.channels import KINDS
from drivetrain.monitoring.model import SEVERITIES, Alert, Channel, Delivery
from drivetrain.platform import Platform
from drivetrain.web import format as fmt
from drivetrain.web import naming
from drivetrain.web.monitoring import alert_summary
from drivetrain.web.monitoring.views import AlertPage, AlertRow, AlertsPage, ChannelRow, ChannelsPage, DeliveryRow, SilenceRow
from drivetrain.web.render import HEADERS, Pages, viewer
from drivetrain.web.views import Pair, State

Viewer = Annotated[Context, Depends(viewer)]
_LENGTHS = {"1h": 3600.0, "8h": 8 * 3600.0, "1d": 86_400.0, "7d": 7 * 86_400.0, "30d": 30 * 86_400.0}
_PAST = 50
_LONGEST = 400


def view(platform: Platform, ctx: Context, which: str = "", *, problem: str = "") -> AlertsPage:
    lasting = [alert_summary.row(one) for one in platform.alerts.list(ctx, state="lasting")]
    groups = [
        (name, naming.address(name) if name else "", rows)
        for name, rows in fmt.grouped(sorted(lasting, key=lambda one: (_worst(one), -one.last_ms)), "deployment")
    ]
    past = platform.alerts.list(ctx, state="resolved", limit=_PAST)
    return AlertsPage(
        groups=groups,
        past=[alert_summary.row(one) for one in past],
        silences=[
            SilenceRow(one.id, _silenced(one.deployment, one.source), one.why, one.created_by, one.until_ms)
            for one in platform.alerts.silences(ctx)
        ],
        sources=sorted({one.source for one in lasting} | {one.source for one in past}),
        deployments=sorted({one.name for one in platform.serving.list(ctx)}),
        channels=len(platform.channels.list(ctx)),
        problem=problem,
    )


def _worst(one: AlertRow) -> int:
    return {"bad": 0, "warn": 1}.get(one.state.tone, 2)


def _silenced(deployment: str, source: str) -> str:
    """`drift of digits`, `everything of digits`, `drift of every deployment`, `everything`."""
    what = source or "everything"
    return f"{what} of {deployment}" if deployment else what if not source else f"{what} of every deployment"


def alert_view(platform: Platform, ctx: Context, alert_id: str, *, problem: str = "") -> AlertPage:
    alert = platform.alerts.get(ctx, alert_id)
    names = {one.id: one.name for one in platform.channels.list(ctx)}
    plain, deep = _evidence(alert.evidence)
    return AlertPage(
        row=alert_summary.row(alert),
        evidence=plain,
        more=json.dumps(deep, indent=2, ensure_ascii=False, default=str) if deep else "",
        undo=alert.undo,
        links=_links(alert),
        deliveries=[_delivery(one, names) for one in platform.channels.deliveries(ctx, alert=alert.id)],
        problem=problem,
    )


def _evidence(evidence: Mapping[str, Any]) -> tuple[list[Pair], dict[str, Any]]:
    """What can be said in a line, and the rest."""
    plain, deep = [], {}
    for key, value in evidence.items():
        name = key.replace("_", " ")
        if value is None or isinstance(value, bool):
            plain.append(Pair(name, fmt.DASH if value is None else "yes" if value else "no"))
        elif isinstance(value, int | float):
            if key.endswith("_ms"):
                plain.append(Pair(name.removesuffix(" ms"), fmt.duration(value) if value < 1e10 else fmt.moment(int(value))))
            else:
                plain.append(Pair(name, fmt.number(value)))
        elif isinstance(value, str) and len(value) <= _LONGEST:
            plain.append(Pair(name, value, mono=bool(len(value) == 32 and key.endswith(("id", "rollout", "run", "window")))))
        elif isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            plain.append(Pair(name, ", ".join(value)[: 2 * _LONGEST]))
        else:
            deep[key] = value
    return plain, deep


def _links(alert: Alert) -> list[tuple[str, str]]:
    """The pages that show where the numbers are from."""
    found = []
    evidence = alert.evidence
    if isinstance(rollout := evidence.get("rollout"), str):
        found.append(("The rollout", naming.rollout_address(rollout)))
    if alert.deployment:
        place = naming.address(alert.deployment)
        if "drift" in alert.source:
            window = evidence.get("window")
            found.append(("The drift report", f"{place}/drift" + (f"?window={quote(window)}" if isinstance(window, str) else "")))
        if "quality" in alert.source or "concept" in alert.source:
            found.append(("Quality over time", f"{place}/quality"))
        if "retrain" in alert.source:
            found.append(("Retraining", f"{place}/retraining"))
        found.append(("The deployment", place))
    return found


def _delivery(one: Delivery, names: Mapping[str, str]) -> DeliveryRow:
    states = {"queued": State("Queued", "busy"), "sent": State("Arrived", "good"), "failed": State("Failed", "bad", one.error)}
    waiting = State("Trying again", "warn", one.error) if one.state == "queued" and one.error else None
    return DeliveryRow(
        channel=names.get(one.channel_id, "deleted"),
        what=one.what,
        state=waiting or states.get(one.state, State(one.state.capitalize(), "idle")),
        attempts=one.attempts,
        error=one.error,
        at_ms=one.ended_ms or one.created_ms,
    )


def channels_view(platform: Platform, ctx: Context, *, key: str = "", key_of: str = "", problem: str = "") -> ChannelsPage:
    channels = platform.channels.list(ctx)
    names = {one.id: one.name for one in channels}
    return ChannelsPage(
        rows=[
            ChannelRow(one.name, one.kind, one.target, one.least.value, _channel_state(one), one.worked_ms, one.created_by)
            for one in channels
        ],
        deliveries=[_delivery(one, names) for one in platform.channels.deliveries(ctx, limit=20)],
        kinds=KINDS,
        severities=[one.value for one in SEVERITIES],
        key=key,
        key_of=key_of,
        problem=problem,
    )


def _channel_state(one: Channel) -> State:
    if one.problem:
        return State("Failing", "bad", one.problem)
    return State("Works", "good") if one.worked_ms else State("Not tried", "idle", "Nothing was sent there yet: test it.")


def routes(platform: Platform, pages: Pages) -> APIRouter:
    router = APIRouter(route_class=pages.route_class(), include_in_schema=False)
    top = ("Alerts", "/alerts")

    def show_all(request: Request, shown: AlertsPage, status: int = 200) -> Response:
        return pages.page(request, "monitoring/alerts.html", path=[top], status=status, view=shown)

    def show_channels(request: Request, shown: ChannelsPage, status: int = 200) -> Response:
        return pages.page(request, "monitoring/channels.html", path=[top, ("Channels", "/alerts/channels")], status=status, view=shown)

    @router.get("/alerts")
    def alerts(request: Request, ctx: Viewer, which: str = "") -> Response:
        return show_all(request, view(platform, ctx, which))

    @router.get("/alerts/channels")
    def channels(request: Request, ctx: Viewer) -> Response:
        return show_channels(request, channels_view(platform, ctx))

    @router.post("/alerts/channels")
    def add_channel(
        request: Request,
        ctx: Viewer,
        name: Annotated[str, Form()],
        kind: Annotated[str, Form()],
        url: Annotated[str, Form()] = "",
        least: Annotated[str, Form()] = "warn",
    ) -> Response:
        try:
            made, key = platform.channels.add(ctx, name.strip(), kind, url.strip(), least=least)
        except DrivetrainError as error:
            return show_channels(request, channels_view(platform, ctx, problem=error.message), error.status)
        return show_channels(request, channels_view(platform, ctx, key=key, key_of=made.name))

    @router.post("/alerts/channels/{name}/{act}")
    def act_on_channel(request: Request, ctx: Viewer, name: str, act: str) -> Response:
        verbs: dict[str, Callable[..., Any]] = {"test": platform.channels.test, "delete": platform.channels.delete}
        try:
            _verb(verbs, act)(ctx, name)
        except NotFound:
            raise
        except DrivetrainError as error:
            return show_channels(request, channels_view(platform, ctx, problem=error.message), error.status)
        return RedirectResponse("/alerts/channels", status_code=303, headers=HEADERS)

    @router.post("/alerts/silences")
    def silence(
        request: Request,
        ctx: Viewer,
        deployment: Annotated[str, Form()] = "",
        source: Annotated[str, Form()] = "",
        length: Annotated[str, Form()] = "1h",
        why: Annotated[str, Form()] = "",
    ) -> Response:
        try:
            if length not in _LENGTHS:
                raise Invalid(f"A silence lasts {', '.join(_LENGTHS)}.", param="length")
            platform.alerts.silence(ctx, deployment=deployment, source=source, seconds=_LENGTHS[length], why=why.strip())
        except DrivetrainError as error:
            return show_all(request, view(platform, ctx, problem=error.message), error.status)
        return RedirectResponse("/alerts#silences", status_code=303, headers=HEADERS)

    @router.post("/alerts/silences/{silence_id}/end")
    def end_silence(ctx: Viewer, silence_id: str) -> Response:
        platform.alerts.end_silence(ctx, silence_id)
        return RedirectResponse("/alerts#silences", status_code=303, headers=HEADERS)

    @router.get("/alerts/{alert_id}")
    def alert(request: Request, ctx: Viewer, alert_id: str) -> Response:
        shown = alert_view(platform, ctx, alert_id)
        return pages.page(request, "monitoring/alert.html", path=[top, (shown.row.title, shown.row.url)], view=shown)

    @router.post("/alerts/{alert_id}/{act}")
    def act_on_alert(request: Request, ctx: Viewer, alert_id: str, act: str) -> Response:
        verbs: dict[str, Callable[..., Any]] = {"acknowledge": platform.alerts.acknowledge, "resolve": platform.alerts.resolve}
        try:
            _verb(verbs, act)(ctx, alert_id)
        except NotFound:
            raise
        except DrivetrainError as error:
            shown = alert_view(platform, ctx, alert_id, problem=error.message)
            return pages.page(
                request, "monitoring/alert.html", path=[top, (shown.row.title, shown.row.url)], status=error.status, view=shown
            )
        return RedirectResponse(alert_summary.address(alert_id), status_code=303, headers=HEADERS)

    return router


def _verb(verbs: Mapping[str, Callable[..., Any]], act: str) -> Callable[..., Any]:
    if act not in verbs:
        raise Invalid(f"What can be done here: {', '.join(verbs)}; not {act[:40]!r}.")
    return verbs[act]
