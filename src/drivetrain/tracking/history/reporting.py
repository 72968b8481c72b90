"""The report of a run, in the transaction of the caller: how it is made, changed and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.store import maps
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import chunked, tuples, upsert
from drivetrain.tags import LABEL
from drivetrain.tracking import tables as t
from drivetrain.tracking.history import entries
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.metrics import points
from drivetrain.tracking.model import Metric, RunReport
from drivetrain.tracking.runs import loading
from drivetrain.tracking.values import Json, flat, loaded, params, plain, split_row, stored, unparam

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


def new_report(run_id: str, experiment_uid: int, client_id: str, state: str, sweep: str | None) -> dict[str, Any]:
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


def set_config(c: sa.Connection, run_id: str, config: Mapping[str, Any], private: Mapping[str, Any] | None) -> None:
    """The params that the old config made and the new one does not have are gone; what other clients logged stays."""
    before = c.scalar(sa.select(_d.config).where(_d.run_id == run_id)) or "{}"
    now = params(config)
    p = t.params.c
    for some in chunked(sorted(params(loaded(before)).keys() - now.keys())):
        c.execute(t.params.delete().where(p.run_id == run_id, p.key.in_(some)))
    maps.put(c, t.params, run_id, now)
    values = {"config": stored(config)}
    if private is not None:
        values["private"] = stored(private)
    c.execute(d.run_details.update().where(_d.run_id == run_id).values(**values))


def by_client_id(c: sa.Connection, experiment_uid: int, client_id: str) -> str | None:
    found: str | None = c.scalar(sa.select(_d.run_id).where(_d.experiment_uid == experiment_uid, _d.client_id == client_id))
    return found


def ensure_report(c: sa.Connection, run: sa.Row[Any]) -> sa.Row[Any]:
    """The run's report, made now for a run of another client."""
    query = sa.select(d.run_details).where(_d.run_id == run.id)
    found = c.execute(query).one_or_none()
    if found is None:
        state = OF_STATUS.get(run.status, "running")
        upsert(c, d.run_details, [new_report(run.id, run.experiment_uid, run.id, state, None)], key=["run_id"])
        found = c.execute(query).one()
    return found


def split_config(given: Json) -> tuple[Json, Json]:
    """wandb's `{"lr": {"value": 0.1}, "_wandb": {"value": {…}}}` → ({"lr": 0.1}, {…}); a plain config is understood too."""
    plain_ = {key: one["value"] if isinstance(one, dict) and "value" in one else one for key, one in given.items()}
    private = plain_.pop("_wandb", {})
    return plain_, private if isinstance(private, dict) else {}


def set_state(c: sa.Connection, row: sa.Row[Any], report: sa.Row[Any], state: str) -> None:
    values: dict[str, Any] = {"state": state}
    if state in OPEN:
        values["stop_requested"] = False if report.state not in OPEN else report.stop_requested
        values["exit_code"] = None
    c.execute(d.run_details.update().where(_d.run_id == row.id).values(**values))
    status = STATES[state]
    if status != row.status:
        end = None if state in OPEN else now_ms()
        c.execute(t.runs.update().where(t.runs.c.id == row.id).values(status=status, end_ms=end))


def set_summary(c: sa.Connection, row: sa.Row[Any], summary: Json) -> None:
    c.execute(d.run_details.update().where(_d.run_id == row.id).values(summary=stored(summary)))
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


def read_reports(c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> dict[str, RunReport]:
    """What every client sees of the runs: what was said here, and what others logged."""
    ids = [row.id for row in rows]
    kept: dict[str, sa.Row[Any]] = {}
    for some in chunked(ids):
        kept.update((one.run_id, one) for one in c.execute(sa.select(d.run_details).where(_d.run_id.in_(some))))
    found: dict[str, RunReport] = {}
    for row, run in zip(rows, loading.runs(c, rows), strict=True):
        one = kept.get(row.id)
        config: Json = loaded(one.config) if one else {}
        mine = params(config)
        config |= {key: unparam(value) for key, value in run.params.items() if key not in mine and key not in config}
        summary: Json = loaded(one.summary) if one else {}
        said = {key for key, _ in flat(summary)}
        for key, point in run.metrics.items():
            if key not in said and key not in summary and not key.startswith(entries.SYSTEM):
                summary[key] = plain(point.value)
        state = one.state if one and STATES[one.state] == row.status else OF_STATUS.get(row.status, "running")
        found[row.id] = RunReport(
            run=run,
            client_id=one.client_id if one else row.id,
            state=state,
            sweep=one.sweep if one else None,
            config=config,
            private=loaded(one.private) if one else {},
            summary=summary,
            labels=tuple(sorted(key.removeprefix(LABEL) for key in run.tags if key.startswith(LABEL))),
            events=one.events if one else 0,
            exit_code=one.exit_code if one else None,
            stop_requested=bool(one.stop_requested) if one else False,
            heartbeat_ms=one.heartbeat_ms if one else row.end_ms or row.start_ms,
        )
    return found
