"""Alerts: raised once for each thing that is wrong, told to every channel, acknowledged, silenced and resolved by people.

An alert and the messages about it are one transaction: what was raised is told, also when the server is killed in between.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.monitoring.alerts import tables as t
from drivetrain.monitoring.model import SEVERITIES, Alert, AlertState, Severity, Silence
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database

LONGEST_SILENCE_MS = 90 * 86_400_000


class Alerts:
    """The alerts of one database. `nudge` tells the loop that sends messages."""

    def __init__(self, db: Database, nudge: Callable[[str], None]) -> None:
        self._db = db
        self._nudge = nudge

    # What the loops say.

    def raise_alert(
        self,
        *,
        workspace_id: str,
        deployment: str,
        source: str,
        key: str,
        severity: str,
        title: str,
        text: str,
        evidence: Mapping[str, Any] | None = None,
        undo: str = "",
    ) -> Alert:
        """Say that something is wrong (or was done). While an alert of this key lasts, it grows, and nobody is told again unless it has
        become worse."""
        now = now_ms()
        level = Severity(severity)
        news = {"title": title[:300], "text": text, "evidence": dict(evidence or {}), "undo": undo, "last_ms": now}
        with self._db.write() as c:
            lasting = (t.alerts.c.workspace_id == workspace_id) & (t.alerts.c.key == key) & t.alerts.c.resolved_ms.is_(None)
            row = c.execute(sa.select(t.alerts).where(lasting).with_for_update()).one_or_none()
            if row is None:
                values = {"id": uuid7(), "workspace_id": workspace_id, "deployment": deployment, "source": source, "key": key[:300]}
                first = {"severity": level, "state": AlertState.open, "count": 1, "first_ms": now, "by": ""}
                c.execute(sa.insert(t.alerts).values(**values, **first, **news))
                alert_id, tell = str(values["id"]), True
            else:
                alert_id = row.id
                tell = SEVERITIES.index(level) > SEVERITIES.index(Severity(row.severity))
                c.execute(sa.update(t.alerts).where(t.alerts.c.id == alert_id).values(severity=level, count=t.alerts.c.count + 1, **news))
            alert = alert_of(c.execute(sa.select(t.alerts).where(t.alerts.c.id == alert_id)).one())
            if tell:
                self._tell(c, alert, "raised")
        if tell:
            self._nudge("alerts")
        return alert

    def resolve_key(self, workspace_id: str, key: str, *, by: str = "drivetrain") -> bool:
        """Say that what this key is about is well again; whether it had been raised."""
        with self._db.write() as c:
            lasting = (t.alerts.c.workspace_id == workspace_id) & (t.alerts.c.key == key) & t.alerts.c.resolved_ms.is_(None)
            row = c.execute(sa.select(t.alerts).where(lasting)).one_or_none()
            if row is not None:
                self._resolve(c, alert_of(row), by)
        if row is not None:
            self._nudge("alerts")
        return row is not None

    def lasting(self, workspace_id: str, deployment: str) -> builtins.list[Alert]:
        """The alerts of a deployment that are not over. For the loops."""
        mine = (t.alerts.c.workspace_id == workspace_id) & (t.alerts.c.deployment == deployment) & t.alerts.c.resolved_ms.is_(None)
        with self._db.read() as c:
            return [alert_of(row) for row in c.execute(sa.select(t.alerts).where(mine).order_by(t.alerts.c.first_ms))]

    # What people do.

    def list(self, ctx: Context, *, state: str | None = None, deployment: str | None = None, limit: int = 100) -> builtins.list[Alert]:
        """The alerts of the workspace, the newest first; `state`: open, acknowledged, resolved, or lasting (the first two)."""
        ctx.require(Scope.read)
        query = sa.select(t.alerts).where(t.alerts.c.workspace_id == ctx.workspace_id)
        if state == "lasting":
            query = query.where(t.alerts.c.resolved_ms.is_(None))
        elif state is not None:
            if state not in tuple(AlertState):
                raise Invalid(f"{state!r} is no state: use {', '.join(AlertState)} or lasting.", param="state")
            query = query.where(t.alerts.c.state == state)
        if deployment is not None:
            query = query.where(t.alerts.c.deployment == deployment)
        with self._db.read() as c:
            return [alert_of(row) for row in c.execute(query.order_by(t.alerts.c.last_ms.desc(), t.alerts.c.id.desc()).limit(limit))]

    def get(self, ctx: Context, alert_id: str) -> Alert:
        """An alert by its id, or by an end of it that is its alone."""
        ctx.require(Scope.read)
        with self._db.read() as c:
            return self._get(c, ctx, alert_id)

    def acknowledge(self, ctx: Context, alert_id: str) -> Alert:
        """Say that one looks after it. It lasts on until it is resolved."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            alert = self._get(c, ctx, alert_id)
            if alert.state == AlertState.open:
                values = {"state": AlertState.acknowledged, "by": ctx.user_name}
                c.execute(sa.update(t.alerts).where(t.alerts.c.id == alert.id).values(**values))
            return self._get(c, ctx, alert.id)

    def resolve(self, ctx: Context, alert_id: str) -> Alert:
        """Say that it is over. Seen again, it is raised anew."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            alert = self._get(c, ctx, alert_id)
            if alert.resolved_ms is None:
                self._resolve(c, alert, ctx.user_name)
            found = self._get(c, ctx, alert.id)
        self._nudge("alerts")
        return found

    def silence(self, ctx: Context, *, deployment: str = "", source: str = "", seconds: float, why: str = "") -> Silence:
        """Tell nobody of alerts of this deployment and source ("": all) for so long."""
        ctx.require(Scope.write)
        length = int(seconds * 1000)
        if not 0 < length <= LONGEST_SILENCE_MS:
            raise Invalid("A silence lasts up to 90 days: an alert that nobody ever wants is better switched off.", param="seconds")
        now = now_ms()
        row = {
            "id": uuid7(),
            "workspace_id": ctx.workspace_id,
            "deployment": deployment,
            "source": source,
            "until_ms": now + length,
            "why": why,
            "created_by": ctx.user_name,
            "created_ms": now,
        }
        with self._db.write() as c:
            c.execute(sa.insert(t.silences).values(**row))
        return msgspec.convert(row, Silence)

    def silences(self, ctx: Context) -> builtins.list[Silence]:
        """The silences that have not ended."""
        ctx.require(Scope.read)
        mine = t.silences.c.workspace_id == ctx.workspace_id, t.silences.c.until_ms > now_ms()
        with self._db.read() as c:
            return [Silence(**row._asdict()) for row in c.execute(sa.select(t.silences).where(*mine).order_by(t.silences.c.until_ms))]

    def end_silence(self, ctx: Context, silence_id: str) -> None:
        ctx.require(Scope.write)
        with self._db.write() as c:
            mine = t.silences.c.workspace_id == ctx.workspace_id, t.silences.c.id == silence_id
            if c.execute(sa.delete(t.silences).where(*mine)).rowcount == 0:
                raise NotFound(f"There is no silence {silence_id[:40]!r}. List them with: drivetrain alerts silences")

    # Within a transaction.

    def _get(self, c: sa.Connection, ctx: Context, alert_id: str) -> Alert:
        mine = t.alerts.c.workspace_id == ctx.workspace_id, t.alerts.c.id.endswith(alert_id, autoescape=True)
        rows = c.execute(sa.select(t.alerts).where(*mine).limit(2)).all() if alert_id else []
        if len(rows) != 1:
            raise NotFound(
                f"There is no alert {alert_id[:40]!r} in the workspace {ctx.workspace!r}. List them with: drivetrain alerts list"
            )
        return alert_of(rows[0])

    def _resolve(self, c: sa.Connection, alert: Alert, by: str) -> None:
        values = {"state": AlertState.resolved, "resolved_ms": now_ms(), "by": by}
        c.execute(sa.update(t.alerts).where(t.alerts.c.id == alert.id).values(**values))
        self._tell(c, alert, "resolved")

    def _tell(self, c: sa.Connection, alert: Alert, what: str) -> None:
        """Queue a message to each channel, unless this is silenced."""
        now = now_ms()
        quiet = sa.select(t.silences.c.id).where(
            t.silences.c.workspace_id == alert.workspace_id,
            t.silences.c.until_ms > now,
            t.silences.c.deployment.in_(["", alert.deployment]),
            t.silences.c.source.in_(["", alert.source]),
        )
        if c.execute(quiet.limit(1)).one_or_none() is not None:
            return
        for channel in c.execute(sa.select(t.channels).where(t.channels.c.workspace_id == alert.workspace_id)).all():
            if SEVERITIES.index(alert.severity) >= SEVERITIES.index(Severity(channel.least)):
                queue(c, alert.workspace_id, channel.id, alert.id, what)


def queue(c: sa.Connection, workspace_id: str, channel_id: str, alert_id: str, what: str) -> str:
    """Put a message into the queue of a channel; its id."""
    row = {"id": uuid7(), "workspace_id": workspace_id, "channel_id": channel_id, "alert_id": alert_id, "what": what}
    c.execute(sa.insert(t.deliveries).values(**row, state="queued", attempts=0, error="", created_ms=now_ms()))
    return row["id"]


def alert_of(row: sa.Row[Any]) -> Alert:
    values = row._asdict()
    return Alert(**{**values, "severity": Severity(values["severity"]), "state": AlertState(values["state"])})
