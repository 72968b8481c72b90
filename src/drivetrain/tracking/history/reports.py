"""Runs as wandb knows them: a client's own id, nested config that may change, a summary, a history of rows, console, heartbeats.

One run, one truth: numbers of rows are ordinary points, config is shown as params, and what another client logs appears in all of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store import maps
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, chunked, tuples
from drivetrain.tags import LABEL, RUN_NAME
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import ensure_default, experiment_row, run_row
from drivetrain.tracking.history import entries
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.history.reporting import (
    STATES,
    by_client_id,
    ensure_report,
    new_report,
    read_reports,
    set_config,
    set_state,
    set_summary,
    split_config,
)
from drivetrain.tracking.model import Line, Run, RunReport
from drivetrain.tracking.runs import loading
from drivetrain.tracking.runs.names import random_name
from drivetrain.tracking.values import parse_object

_d = d.run_details.c


@dataclass(frozen=True, slots=True)
class Reports:
    db: Database

    # --- runs by their client's id

    def find(self, ctx: Context, experiment_id: str, client_id: str) -> Run:
        """An active run of the experiment by what its client calls it, or by its id here. Raises `NotFound`."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            experiment = experiment_row(c, ctx, experiment_id)
            run_id = by_client_id(c, experiment.uid, client_id)
            row = c.execute(
                sa.select(t.runs).where(t.runs.c.id == (run_id or client_id), t.runs.c.workspace_id == ctx.workspace_id)
            ).first()
            if row is None or row.experiment_uid != experiment.uid or row.lifecycle != "active":
                raise NotFound(f"There is no run {checks.shown(client_id)} in {experiment.name!r}.", param="run")
            return loading.runs(c, [row])[0]

    def begin(
        self,
        ctx: Context,
        experiment_id: str,
        client_id: str,
        *,
        name: str | None = None,
        user: str | None = None,
        state: str = "running",
        sweep: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> tuple[Run, bool]:
        """The experiment's run of that client's id, and whether it was made now. A deleted run gives its client's id away."""
        ctx.require(Scope.write)
        if not 0 < len(client_id) <= 128 or any(letter in client_id for letter in "/\\#?%:\x00") or client_id in (".", ".."):
            raise Invalid(f"{checks.shown(client_id)} cannot be the id of a run: use 1 to 128 letters, digits, '-' and '_'.", param="name")
        ensure_default(self.db, ctx, experiment_id)
        with self.db.write() as c:
            experiment = experiment_row(c, ctx, experiment_id, writable=True)
            known = by_client_id(c, experiment.uid, client_id)
            if known is not None:
                row = run_row(c, ctx, known)
                if row.lifecycle == "active":
                    return loading.runs(c, [row])[0], False
                c.execute(d.run_details.update().where(_d.run_id == known).values(client_id=f"{client_id[:90]}~{known}"))
            else:
                own = c.execute(sa.select(t.runs).where(t.runs.c.id == client_id, t.runs.c.experiment_uid == experiment.uid)).first()
                if own is not None and own.lifecycle == "active":
                    ensure_report(c, own)
                    return loading.runs(c, [own])[0], False
            now = now_ms()
            run_id, shown = uuid7(), (name or random_name())[:250]
            row_values = {
                "id": run_id,
                "workspace_id": ctx.workspace_id,
                "experiment_uid": experiment.uid,
                "name": shown,
                "user_name": (user or ctx.user_name)[:256],
                "status": STATES[state],
                "lifecycle": "active",
                "start_ms": now,
                "created_ms": now,
            }
            c.execute(t.runs.insert().values(**row_values))
            maps.put(c, t.run_tags, run_id, {RUN_NAME: shown})
            c.execute(d.run_details.insert().values(**new_report(run_id, experiment.uid, client_id, state, sweep)))
            if config:
                set_config(c, run_id, config, None)
            return loading.runs(c, [run_row(c, ctx, run_id)])[0], True

    def get(self, ctx: Context, run_id: str) -> RunReport:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return read_reports(c, [run_row(c, ctx, run_id)])[run_id]

    def get_many(self, ctx: Context, run_ids: Sequence[str]) -> dict[str, RunReport]:
        """Of those of the runs that are there."""
        ctx.require(Scope.read)
        found: dict[str, RunReport] = {}
        with self.db.read() as c:
            for some in chunked(run_ids):
                r = t.runs.c
                found |= read_reports(c, c.execute(sa.select(t.runs).where(r.workspace_id == ctx.workspace_id, r.id.in_(some))).all())
        return found

    def runs_of_sweep(self, ctx: Context, sweep: str) -> list[str]:
        """The ids of the active runs that explore the sweep, the oldest first."""
        ctx.require(Scope.read)
        r = t.runs.c
        query = sa.select(r.id).join(d.run_details, _d.run_id == r.id).where(_d.sweep == sweep, r.workspace_id == ctx.workspace_id)
        with self.db.read() as c:
            return list(c.scalars(query.where(r.lifecycle == "active").order_by(r.start_ms, r.id)))

    # --- what its client says of a run

    def update(
        self,
        ctx: Context,
        run_id: str,
        *,
        name: str | None = None,
        config: str | None = None,
        summary: str | None = None,
        state: str | None = None,
        sweep: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """Change what is given. `config` and `summary` are JSON texts that replace what was there; a tag of None goes; `labels` are
        tags without a value, and replace those that the run had."""
        ctx.require(Scope.write)
        parsed = split_config(parse_object(config, "config")) if config is not None else None
        summed = parse_object(summary, "summary") if summary is not None else None
        if state is not None and state not in STATES:
            raise Invalid(f"{state!r} is no state of a run: use one of {', '.join(STATES)}.", param="state")
        tags = dict(tags or {})
        kept = {key: value for key, value in tags.items() if value is not None}
        if labels is not None:
            kept |= {f"{LABEL}{label}": "" for label in labels}
        checks.tags(kept)
        with self.db.write() as c:
            row = run_row(c, ctx, run_id, writable=True)
            report = ensure_report(c, row)
            g = t.run_tags.c
            if name:
                name = checks.name(name, "a run", 250)
                c.execute(t.runs.update().where(t.runs.c.id == run_id).values(name=name))
                kept[RUN_NAME] = name
            if labels is not None:
                c.execute(t.run_tags.delete().where(g.run_id == run_id, g.key.startswith(LABEL, autoescape=True)))
            if gone := [key for key, value in tags.items() if value is None]:
                maps.drop(c, t.run_tags, run_id, *gone)
            maps.put(c, t.run_tags, run_id, kept)
            if parsed is not None:
                set_config(c, run_id, *parsed)
            if summed is not None:
                set_summary(c, row, summed)
            if sweep:
                c.execute(d.run_details.update().where(_d.run_id == run_id).values(sweep=sweep[:64]))
            if state is not None:
                set_state(c, row, report, state)

    # --- what a run sends while it runs

    def append(
        self,
        ctx: Context,
        run_id: str,
        *,
        rows: Sequence[str] = (),
        events: Sequence[str] = (),
        events_from: int = 0,
        summary: str | None = None,
        lines: Sequence[Line] = (),
        state: str | None = None,
        exit_code: int | None = None,
    ) -> bool:
        """Everything that one message of a running client brings, in one transaction; whether the run is asked to stop.

        Rows are keyed by their `_step`, events (system metrics) and lines by their number: the same again changes nothing.
        """
        ctx.require(Scope.write)
        parsed = [parse_object(text, "history") for text in rows]
        measured = [parse_object(text, "events") for text in events]
        summed = parse_object(summary, "summary") if summary is not None else None

        def work(c: sa.Connection) -> bool | NotFound:
            row = c.execute(sa.select(t.runs).where(t.runs.c.id == run_id, t.runs.c.workspace_id == ctx.workspace_id)).first()
            if row is None or row.lifecycle != "active":
                return NotFound(f"The run {run_id} is gone.", param="run")
            report = ensure_report(c, row)
            if parsed:
                entries.write_rows(c, row, parsed)
            if measured:
                entries.write_events(c, row, measured, events_from)
            if summed is not None:
                set_summary(c, row, summed)
            if lines:
                entries.write_lines(c, run_id, lines)
            values: dict[str, Any] = {"heartbeat_ms": now_ms()}
            if measured:
                values["events"] = max(report.events, events_from + len(measured))
            if exit_code is not None:
                values["exit_code"] = exit_code
            c.execute(d.run_details.update().where(_d.run_id == run_id).values(**values))
            if state is not None or report.state in ("pending", "crashed"):
                set_state(c, row, report, state or "running")
            return bool(report.stop_requested)

        found = self.db.group_write(work)
        if isinstance(found, NotFound):
            raise found
        return found

    def request_stop(self, ctx: Context, run_id: str) -> None:
        """Ask the run's client to stop; it hears of it with its next message."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            ensure_report(c, run_row(c, ctx, run_id, writable=True))
            c.execute(d.run_details.update().where(_d.run_id == run_id).values(stop_requested=True))

    def beating(self, *, limit: int = 10_000) -> dict[str, int]:
        """Open runs that have a heartbeat, of all workspaces: id → when it last beat. For the loop that finds those that have crashed."""
        r = t.runs.c
        query = sa.select(_d.run_id, _d.heartbeat_ms).join(t.runs, r.id == _d.run_id)
        with self.db.read() as c:
            rows = tuples(c, query.where(_d.state.in_(("running", "preempting")), r.status == "RUNNING").limit(limit))
            return {run_id: int(beat) for run_id, beat in rows}

    def crashed(self, run_id: str, heartbeat_ms: int) -> bool:
        """End a run whose client has gone without a word, unless it has spoken since."""
        with self.db.write() as c:
            mine = sa.and_(_d.run_id == run_id, _d.heartbeat_ms == heartbeat_ms, _d.state.in_(("running", "preempting")))
            if c.execute(d.run_details.update().where(mine).values(state="crashed")).rowcount == 0:
                return False
            ended = t.runs.update().where(t.runs.c.id == run_id, t.runs.c.status == "RUNNING")
            c.execute(ended.values(status="FAILED", end_ms=heartbeat_ms))
            return True
