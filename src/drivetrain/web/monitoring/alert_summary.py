"""An alert in one row, as every list of alerts shows it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from drivetrain.monitoring.model import Alert, AlertState, Severity
from drivetrain.web import naming
from drivetrain.web.monitoring.views import AlertRow
from drivetrain.web.views import State

_TONES: dict[Severity, tuple[str, Any]] = {
    Severity.info: ("Note", "idle"),
    Severity.warn: ("Warning", "warn"),
    Severity.bad: ("Bad", "bad"),
}


def address(alert_id: str) -> str:
    return f"/alerts/{quote(alert_id, safe='')}"


def row(alert: Alert) -> AlertRow:
    word, tone = _TONES[alert.severity]
    if alert.state is AlertState.resolved:
        state = State("Resolved", "good", f"by {alert.by}" if alert.by else "")
    elif alert.state is AlertState.acknowledged:
        state = State(word, tone, f"{alert.by} looks after it")
    else:
        state = State(word, tone)
    return AlertRow(
        id=alert.id,
        url=address(alert.id),
        deployment=alert.deployment,
        deployment_url=naming.address(alert.deployment) if alert.deployment else "",
        source=alert.source,
        state=state,
        title=alert.title,
        text=alert.text,
        count=alert.count,
        first_ms=alert.first_ms,
        last_ms=alert.last_ms,
        by=alert.by,
        lasting=alert.state is not AlertState.resolved,
        acknowledged=alert.state is AlertState.acknowledged,
    )
