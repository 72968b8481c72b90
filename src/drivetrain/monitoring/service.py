"""Monitors: standing questions asked of every deployment, from its first request on, without anybody setting them up."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.monitoring import cohorts
from drivetrain.monitoring import tables as t
from drivetrain.monitoring.accuracy import Memory
from drivetrain.monitoring.checks import quality
from drivetrain.monitoring.drift.model import Report
from drivetrain.monitoring.kinds import KINDS, Finding, Quality, config_of, stored_config
from drivetrain.monitoring.model import Cohort, Monitor, Window
from drivetrain.monitoring.reference import References
from drivetrain.profiles.model import Profile
from drivetrain.serving.model import Deployment, Variant
from drivetrain.serving.service import Serving
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert

MOST_WINDOWS = 500


class Monitors:
    """The monitors of one database."""

    def __init__(self, db: Database, serving: Serving, references: References) -> None:
        self._db = db
        self._serving = serving
        self.references = references

    def list(self, ctx: Context, deployment: str | None = None) -> builtins.list[Monitor]:
        """The monitors of the workspace, or of one deployment."""
        ctx.require(Scope.read)
        query = sa.select(t.monitors).where(t.monitors.c.workspace_id == ctx.workspace_id)
        if deployment is not None:
            found = self._serving.get(ctx, deployment)
            self.ensure(found)
            query = query.where(t.monitors.c.deployment_id == found.id)
        with self._db.read() as c:
            return [_monitor(row) for row in c.execute(query.order_by(t.monitors.c.deployment, t.monitors.c.kind))]

    def set(
        self, ctx: Context, deployment: str, kind: str, *, config: Mapping[str, Any] | None = None, paused: bool | None = None
    ) -> Monitor:
        """Change settings of a monitor (those that are given), pause it or let it go on. Raises `Invalid` with what can be set."""
        ctx.require(Scope.write)
        found = self._serving.get(ctx, deployment)
        self.ensure(found)
        config_of(kind, config or {})
        with self._db.write() as c:
            mine = (t.monitors.c.deployment_id == found.id) & (t.monitors.c.kind == kind)
            row = c.execute(sa.select(t.monitors).where(mine)).one()
            stored = msgspec.to_builtins(stored_config(kind, row.config))
            whole = msgspec.to_builtins(config_of(kind, {**stored, **(config or {})}))
            values: dict[str, Any] = {"config": whole}
            if paused is not None:
                values["paused"] = paused
            c.execute(sa.update(t.monitors).where(mine).values(**values))
            return _monitor(c.execute(sa.select(t.monitors).where(mine)).one())

    def windows(self, ctx: Context, deployment: str, *, limit: int = 50) -> builtins.list[Window]:
        """The windows of drift, the newest first."""
        found = self._serving.get(ctx, deployment)
        with self._db.read() as c:
            return self._windows(c, found.id, limit)

    def report(self, ctx: Context, deployment: str, window: str | None = None) -> tuple[Window, Report]:
        """The report of a window; of the newest, unless one is named. Raises `NotFound` before there is one, and says what is missing."""
        found = self._serving.get(ctx, deployment)
        mine = t.windows.c.deployment_id == found.id
        query = sa.select(t.windows).where(mine if window is None else mine & (t.windows.c.id == window))
        with self._db.read() as c:
            row = c.execute(query.order_by(t.windows.c.id.desc()).limit(1)).one_or_none()
        if row is None:
            words = next((one.words for one in self.list(ctx, deployment) if one.kind == "drift"), "")
            raise NotFound(f"There is no drift report of {deployment!r} yet. {words}".rstrip())
        return _window(row), msgspec.json.decode(row.report, type=Report)

    def performance(self, ctx: Context, deployment: str, *, since_ms: int, until_ms: int, step_ms: int) -> builtins.list[Cohort]:
        """How right the answers were, by the time of the answers."""
        found = self._serving.get(ctx, deployment)
        return cohorts.cohorts(self._db, found.id, since_ms=since_ms, until_ms=until_ms, step_ms=max(60_000, step_ms))

    # For the loop, which acts for everybody.

    def ensure(self, deployment: Deployment) -> None:
        """Let a deployment have a monitor of each kind."""
        rows = [
            {
                "id": uuid7(),
                "workspace_id": deployment.workspace_id,
                "deployment_id": deployment.id,
                "deployment": deployment.name,
                "kind": kind,
                "config": msgspec.to_builtins(made()),
                "paused": False,
                "state": "waiting",
                "words": "It has not looked yet.",
                "cursor": "",
            }
            for kind, made in KINDS.items()
        ]
        with self._db.read() as c:
            known = set(c.scalars(sa.select(t.monitors.c.kind).where(t.monitors.c.deployment_id == deployment.id)))
        if missing := [row for row in rows if row["kind"] not in known]:
            with self._db.write() as c:
                upsert(c, t.monitors, missing, key=["deployment_id", "kind"])

    def of(self, deployment_id: str) -> dict[str, tuple[Monitor, str]]:
        """A deployment's monitors by their kind, with what they remember."""
        with self._db.read() as c:
            rows = c.execute(sa.select(t.monitors).where(t.monitors.c.deployment_id == deployment_id))
            return {row.kind: (_monitor(row), row.memory or "") for row in rows}

    def answered(self, monitor: Monitor, state: str, words: str, *, memory: str | None = None) -> None:
        """Write down what a monitor found, and what it remembers from now on."""
        with self._db.write() as c:
            values: dict[str, Any] = {"state": state, "words": words, "checked_ms": now_ms()}
            if memory is not None:
                values["memory"] = memory
            c.execute(sa.update(t.monitors).where(t.monitors.c.id == monitor.id).values(**values))

    def took(
        self, monitor: Monitor, variant: Variant, report: Report, profile: Profile, *, cursor: str, from_ms: int, to_ms: int
    ) -> builtins.list[Window]:
        """Keep a window and its report; the windows of the variant, the newest first. A window that another server took in the meantime is
        not taken again: then what it made of it is the answer."""
        row = {
            "id": uuid7(),
            "deployment_id": monitor.deployment_id,
            "variant_id": variant.id,
            "from_ms": from_ms,
            "to_ms": to_ms,
            "rows": report.rows_live,
            "features": len(report.features),
            "drifted": len(report.drifted),
            "report": msgspec.json.encode(report).decode(),
            "profile": msgspec.json.encode(profile).decode(),
        }
        with self._db.write() as c:
            mine = (t.monitors.c.id == monitor.id) & (t.monitors.c.cursor == monitor.cursor)
            if c.execute(sa.update(t.monitors).where(mine).values(cursor=cursor)).rowcount == 1:
                c.execute(sa.insert(t.windows).values(**row))
                old = sa.select(t.windows.c.id).where(t.windows.c.deployment_id == monitor.deployment_id)
                beyond = c.scalar(old.order_by(t.windows.c.id.desc()).offset(MOST_WINDOWS).limit(1))
                if beyond is not None:
                    gone = (t.windows.c.deployment_id == monitor.deployment_id) & (t.windows.c.id <= beyond)
                    c.execute(sa.delete(t.windows).where(gone))
            return [one for one in self._windows(c, monitor.deployment_id, 50) if one.variant_id == variant.id]

    def skip(self, monitor: Monitor, cursor: str) -> None:
        """Go on after this event, without a window."""
        with self._db.write() as c:
            mine = (t.monitors.c.id == monitor.id) & (t.monitors.c.cursor == monitor.cursor)
            c.execute(sa.update(t.monitors).where(mine).values(cursor=cursor))

    def quality(self, deployment_id: str, variant: str, config: Quality, memory: Memory, *, until_ms: int) -> Finding:
        """Whether the answers of a version have become worse, by the labels that came before `until_ms`. See `checks.quality`."""
        return quality(self._db, deployment_id, variant, config, memory, until_ms=until_ms)

    def _windows(self, c: sa.Connection, deployment_id: str, limit: int) -> builtins.list[Window]:
        columns = [t.windows.c[name] for name in Window.__struct_fields__]
        query = sa.select(*columns).where(t.windows.c.deployment_id == deployment_id).order_by(t.windows.c.id.desc()).limit(limit)
        return [_window(row) for row in c.execute(query)]


def _monitor(row: sa.Row[Any]) -> Monitor:
    return Monitor(**{name: getattr(row, name) for name in Monitor.__struct_fields__})


def _window(row: sa.Row[Any]) -> Window:
    return Window(**{name: getattr(row, name) for name in Window.__struct_fields__})
