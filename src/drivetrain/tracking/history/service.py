"""Runs as wandb knows them: a client's own id, nested config that may change, a summary, a history of rows, console, heartbeats.

One run, one truth: numbers of rows are ordinary points, config is shown as params, and what another client logs appears in all of these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import upsert
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import chunked, tuples
from drivetrain.tracking.history import entries as history
from drivetrain.tracking.history import steps
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.metrics import points
from drivetrain.tracking.model import Line, Metric, Run, RunDetails
from drivetrain.tracking.models.service import LoggedModels
from drivetrain.tracking.runs import loading as reading
from drivetrain.tracking.runs.loading import RUN_NAME
from drivetrain.tracking.runs.names import random_name
from drivetrain.tracking.values import Json, flat, params, parse_object, plain, split_row, unparam

STATES = {
    "pending": "SCHEDULED",
    "running": "RUNNING",
    "preempting": "RUNNING",
    "preempted": "FAILED",
    "finished": "FINISHED",
    "failed": "FAILED",
    "crashed": "FAILED",
    "killed": "KILLED",
}
"""A run's state → the status that it has for everybody else."""
OF_STATUS = {"RUNNING": "running", "SCHEDULED": "pending", "FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
OPEN = frozenset({"pending", "running", "preempting"})
SUMMARY_STEP = -1
"""The step of a point that was set in the summary and never in a row: any row outranks it."""
MAX_ROWS = 10_000

_d = d.run_details.c


class Details(LoggedModels):
    # --- runs by their client's id

    def find_by_client_id(self, ctx: Context, experiment_id: str, client_id: str) -> Run:
        """An active run of the experiment by what its client calls it, or by its id here. Raises `NotFound`."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            experiment = self._experiment(c, ctx, experiment_id)
            run_id = _by_client_id(c, experiment.uid, client_id)
            row = c.execute(
                sa.select(t.runs).where(t.runs.c.id == (run_id or client_id), t.runs.c.workspace_id == ctx.workspace_id)
            ).first()
            if row is None or row.experiment_uid != experiment.uid or row.lifecycle != "active":
                raise NotFound(f"There is no run {checks.shown(client_id)} in {experiment.name!r}.", param="run")
            return reading.runs(c, [row])[0]

    def prepare_run(
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
        if experiment_id == "0":
            self._ready(ctx)
        with self.db.write() as c:
            experiment = self._experiment(c, ctx, experiment_id, writable=True)
            known = _by_client_id(c, experiment.uid, client_id)
            if known is not None:
                row = self._run(c, ctx, known)
                if row.lifecycle == "active":
                    return reading.runs(c, [row])[0], False
                c.execute(d.run_details.update().where(_d.run_id == known).values(client_id=f"{client_id[:90]}~{known}"))
            else:
                own = c.execute(sa.select(t.runs).where(t.runs.c.id == client_id, t.runs.c.experiment_uid == experiment.uid)).first()
                if own is not None and own.lifecycle == "active":
                    self._details(c, own)
                    return reading.runs(c, [own])[0], False
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
            c.execute(t.run_tags.insert(), [{"run_id": run_id, "key": RUN_NAME, "value": shown}])
            c.execute(d.run_details.insert().values(**_fresh(run_id, experiment.uid, client_id, state, sweep)))
            if config:
                self._set_config(c, run_id, config, None)
            return reading.runs(c, [self._run(c, ctx, run_id)])[0], True

    def details(self, ctx: Context, run_id: str) -> RunDetails:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return _read_details(c, [self._run(c, ctx, run_id)])[run_id]

    def details_of(self, ctx: Context, run_ids: Sequence[str]) -> dict[str, RunDetails]:
        """Of those of the runs that are there."""
        ctx.require(Scope.read)
        found: dict[str, RunDetails] = {}
        with self.db.read() as c:
            for some in chunked(run_ids):
                r = t.runs.c
                found |= _read_details(c, c.execute(sa.select(t.runs).where(r.workspace_id == ctx.workspace_id, r.id.in_(some))).all())
        return found

    def runs_of_sweep(self, ctx: Context, sweep: str) -> list[str]:
        """The ids of the active runs that explore the sweep, the oldest first."""
        ctx.require(Scope.read)
        r = t.runs.c
        query = sa.select(r.id).join(d.run_details, _d.run_id == r.id).where(_d.sweep == sweep, r.workspace_id == ctx.workspace_id)
        with self.db.read() as c:
            return list(c.scalars(query.where(r.lifecycle == "active").order_by(r.start_ms, r.id)))

    # --- what its client says of a run

    def describe(
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
        parsed = _split_config(parse_object(config, "config")) if config is not None else None
        summed = parse_object(summary, "summary") if summary is not None else None
        if state is not None and state not in STATES:
            raise Invalid(f"{state!r} is no state of a run: use one of {', '.join(STATES)}.", param="state")
        tags = dict(tags or {})
        kept = {key: value for key, value in tags.items() if value is not None}
        if labels is not None:
            kept |= {f"{LABEL}{label}": "" for label in labels}
        checks.tags(kept)
        with self.db.write() as c:
            row = self._run(c, ctx, run_id, writable=True)
            details = self._details(c, row)
            g = t.run_tags.c
            if name:
                name = checks.name(name, "a run", 250)
                c.execute(t.runs.update().where(t.runs.c.id == run_id).values(name=name))
                kept[RUN_NAME] = name
            if labels is not None:
                c.execute(t.run_tags.delete().where(g.run_id == run_id, g.key.startswith(LABEL, autoescape=True)))
            if gone := [key for key, value in tags.items() if value is None]:
                c.execute(t.run_tags.delete().where(g.run_id == run_id, g.key.in_(gone)))
            rows = [{"run_id": run_id, "key": key, "value": value} for key, value in sorted(kept.items())]
            upsert(c, t.run_tags, rows, key=["run_id", "key"], update=["value"])
            if parsed is not None:
                self._set_config(c, run_id, *parsed)
            if summed is not None:
                _set_summary(c, row, summed)
            if sweep:
                c.execute(d.run_details.update().where(_d.run_id == run_id).values(sweep=sweep[:64]))
            if state is not None:
                _set_state(c, row, details, state)

    def _set_config(self, c: sa.Connection, run_id: str, config: Mapping[str, Any], private: Mapping[str, Any] | None) -> None:
        """The params that the old config made and the new one does not have are gone; what other clients logged stays."""
        before = c.scalar(sa.select(_d.config).where(_d.run_id == run_id)) or "{}"
        now = params(config)
        p = t.params.c
        for some in chunked(sorted(params(json.loads(before)).keys() - now.keys())):
            c.execute(t.params.delete().where(p.run_id == run_id, p.key.in_(some)))
        upsert(
            c, t.params, [{"run_id": run_id, "key": k, "value": v} for k, v in sorted(now.items())], key=["run_id", "key"], update=["value"]
        )
        values = {"config": json.dumps(config)}
        if private is not None:
            values["private"] = json.dumps(private)
        c.execute(d.run_details.update().where(_d.run_id == run_id).values(**values))

    # --- what a run sends while it runs

    def stream(
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
            details = self._details(c, row)
            if parsed:
                history.write_rows(c, row, parsed)
            if measured:
                history.write_events(c, row, measured, events_from)
            if summed is not None:
                _set_summary(c, row, summed)
            if lines:
                history.write_lines(c, run_id, lines)
            values: dict[str, Any] = {"heartbeat_ms": now_ms()}
            if measured:
                values["events"] = max(details.events, events_from + len(measured))
            if exit_code is not None:
                values["exit_code"] = exit_code
            c.execute(d.run_details.update().where(_d.run_id == run_id).values(**values))
            if state is not None or details.state in ("pending", "crashed"):
                _set_state(c, row, details, state or "running")
            return bool(details.stop_requested)

        found = self.db.group_write(work)
        if isinstance(found, NotFound):
            raise found
        return found

    def request_stop(self, ctx: Context, run_id: str) -> None:
        """Ask the run's client to stop; it hears of it with its next message."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            self._details(c, self._run(c, ctx, run_id, writable=True))
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

    # --- reading

    def history_rows(
        self,
        ctx: Context,
        run_id: str,
        *,
        min_step: int = 0,
        max_step: int | None = None,
        limit: int = 1000,
        keys: Sequence[str] | None = None,
        sample: bool = False,
        system: bool = False,
    ) -> list[Json]:
        """Rows of the steps in [min_step, max_step), numbers and the rest merged. `keys`: rows that have all of them, and only these.

        With more than `limit` rows the first ones, or with `sample` ones at even distances. `system`: the system metrics instead.
        """
        ctx.require(Scope.read)
        limit = min(max(limit, 1), MAX_ROWS)
        with self.db.read() as c:
            row = self._run(c, ctx, run_id)
            series = history.series(c, run_id, system=system)
            some, common = history.sources(run_id, series, keys, system=system)
            if sample:
                at = steps.sample(c, some, min_step, max_step, limit, common=common)
            else:
                at = steps.everything(c, some, min_step, max_step, common=common)
            found = history.merged(c, row, series, at if sample or keys is not None else at[:limit], keys, system=system)
        if keys is not None:
            found = [{key: one[key] for key in keys} for one in found if all(key in one for key in keys)][:limit]
        return found

    def row_count(self, ctx: Context, run_id: str) -> tuple[int, int]:
        """(rows, last step) of a run's history; (0, -1) for none."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            self._run(c, ctx, run_id)
            return history.counted(c, run_id)

    def console(self, ctx: Context, run_id: str, *, after: int = -1, limit: int = 1000, last: bool = False) -> list[Line]:
        """Console lines with a greater number than `after`; `last`: the last ones."""
        ctx.require(Scope.read)
        n = d.run_lines.c
        query = sa.select(n.number, n.level, n.time, n.text).where(n.run_id == run_id, n.number > after)
        with self.db.read() as c:
            self._run(c, ctx, run_id)
            found = [Line(*one) for one in tuples(c, query.order_by(n.number.desc() if last else n.number).limit(limit))]
        return found[::-1] if last else found

    def console_count(self, ctx: Context, run_id: str) -> int:
        ctx.require(Scope.read)
        with self.db.read() as c:
            self._run(c, ctx, run_id)
            return history.line_count(c, run_id)

    # --- within a transaction

    def _details(self, c: sa.Connection, run: sa.Row[Any]) -> sa.Row[Any]:
        """The run's details, made now for a run of another client."""
        query = sa.select(d.run_details).where(_d.run_id == run.id)
        found = c.execute(query).one_or_none()
        if found is None:
            state = OF_STATUS.get(run.status, "running")
            upsert(c, d.run_details, [_fresh(run.id, run.experiment_uid, run.id, state, None)], key=["run_id"])
            found = c.execute(query).one()
        return found


LABEL = "wandb.tag."
"""wandb's tags have no value: they are run tags with this before them, and an empty one."""


def _fresh(run_id: str, experiment_uid: int, client_id: str, state: str, sweep: str | None) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "experiment_uid": experiment_uid,
        "client_id": client_id,
        "sweep": sweep,
        "state": state,
        "config": "{}",
        "private": "{}",
        "summary": "{}",
        "stop_requested": False,
        "events": 0,
        "heartbeat_ms": now_ms(),
    }


def _by_client_id(c: sa.Connection, experiment_uid: int, client_id: str) -> str | None:
    found: str | None = c.scalar(sa.select(_d.run_id).where(_d.experiment_uid == experiment_uid, _d.client_id == client_id))
    return found


def _split_config(given: Json) -> tuple[Json, Json]:
    """wandb's `{"lr": {"value": 0.1}, "_wandb": {"value": {…}}}` → ({"lr": 0.1}, {…}); a plain config is understood too."""
    plain_ = {key: one["value"] if isinstance(one, dict) and "value" in one else one for key, one in given.items()}
    private = plain_.pop("_wandb", {})
    return plain_, private if isinstance(private, dict) else {}


def _set_state(c: sa.Connection, row: sa.Row[Any], details: sa.Row[Any], state: str) -> None:
    values: dict[str, Any] = {"state": state}
    if state in OPEN:
        values["stop_requested"] = False if details.state not in OPEN else details.stop_requested
        values["exit_code"] = None
    c.execute(d.run_details.update().where(_d.run_id == row.id).values(**values))
    status = STATES[state]
    if status != row.status:
        end = None if state in OPEN else now_ms()
        c.execute(t.runs.update().where(t.runs.c.id == row.id).values(status=status, end_ms=end))


def _set_summary(c: sa.Connection, row: sa.Row[Any], summary: Json) -> None:
    c.execute(d.run_details.update().where(_d.run_id == row.id).values(summary=json.dumps(summary)))
    numbers, _ = split_row(summary)
    m = t.latest_metrics.c
    old: dict[str, tuple[int, int, float]] = {}
    for some in chunked(sorted(numbers)):
        query = sa.select(m.key, m.step, m.nan, m.value).where(m.run_id == row.id, m.key.in_(some))
        old.update((key, (step, nan, value)) for key, step, nan, value in tuples(c, query))
    now = now_ms()
    changed = [
        Metric(key, value, now, SUMMARY_STEP)
        for key, value in numbers.items()
        if key not in old or (old[key][0] == SUMMARY_STEP and _differs(value, old[key][1], old[key][2]))
    ]
    if changed:
        points.write(c, row.id, row.experiment_uid, points.grouped(changed))


def _differs(value: float, nan: int, old: float) -> bool:
    return not nan if value != value else bool(nan) or value != old


def _read_details(c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> dict[str, RunDetails]:
    """What every client sees of the runs: what was said here, and what others logged."""
    ids = [row.id for row in rows]
    kept: dict[str, sa.Row[Any]] = {}
    for some in chunked(ids):
        kept.update((one.run_id, one) for one in c.execute(sa.select(d.run_details).where(_d.run_id.in_(some))))
    found: dict[str, RunDetails] = {}
    for row, run in zip(rows, reading.runs(c, rows), strict=True):
        one = kept.get(row.id)
        config: Json = json.loads(one.config) if one else {}
        mine = params(config)
        config |= {key: unparam(value) for key, value in run.params.items() if key not in mine}
        summary: Json = json.loads(one.summary) if one else {}
        said = {key for key, _ in flat(summary)}
        for key, point in run.metrics.items():
            if key not in said and not key.startswith(history.SYSTEM):
                summary[key] = plain(point.value)
        state = one.state if one and STATES[one.state] == row.status else OF_STATUS.get(row.status, "running")
        found[row.id] = RunDetails(
            run=run,
            client_id=one.client_id if one else row.id,
            state=state,
            sweep=one.sweep if one else None,
            config=config,
            private=json.loads(one.private) if one else {},
            summary=summary,
            labels=tuple(sorted(key.removeprefix(LABEL) for key in run.tags if key.startswith(LABEL))),
            events=one.events if one else 0,
            exit_code=one.exit_code if one else None,
            stop_requested=bool(one.stop_requested) if one else False,
            heartbeat_ms=one.heartbeat_ms if one else row.end_ms or row.start_ms,
        )
    return found
