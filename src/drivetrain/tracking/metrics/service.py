"""What a run logs while it runs: metric points, params, tags; and reading points back.

Writing is by group commit: many requests share one transaction, and each is answered when that is durable. Writing the same again changes
nothing, so a client may repeat a request whose answer it missed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.search.tokens import from_token, to_token
from drivetrain.store import maps
from drivetrain.store.sql import INT64, Database, chunked, tuples
from drivetrain.tags import RUN_NAME
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.experiments import check_limit
from drivetrain.tracking.finders import deleted_run, experiment_row, no_run, run_row
from drivetrain.tracking.metrics import points
from drivetrain.tracking.metrics.summaries import Window
from drivetrain.tracking.model import Metric, Page, Point

MAX_HISTORY = 25_000

_FIND_RUN = {
    "sqlite": "SELECT lifecycle, experiment_uid FROM runs WHERE id = ? AND workspace_id = ?",
    "postgresql": "SELECT lifecycle, experiment_uid FROM runs WHERE id = %s AND workspace_id = %s",
}


@dataclass(frozen=True, slots=True)
class Metrics:
    db: Database

    def log(
        self,
        ctx: Context,
        run_id: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log all of it or, after an error, nothing. Raises `Invalid` where a param has another value already."""
        if (error := self.begin(ctx, run_id, metrics=metrics, params=params, tags=tags).result()) is not None:
            raise error

    def begin(
        self,
        ctx: Context,
        run_id: str,
        *,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Future[DrivetrainError | None]:
        """The same without waiting: what comes is the error, or None when all of it is durable. Raises for what is wrong by itself."""
        ctx.require(Scope.write)
        params = checks.params(params or {})
        tags = checks.tags(tags or {})
        for name in {metric.key for metric in metrics}:
            checks.key(name, "metric")
        for metric in metrics:
            if not (-INT64 <= metric.step < INT64 and -INT64 <= metric.timestamp_ms < INT64):
                raise Invalid(f"A step or timestamp of metric {metric.key!r} does not fit in 64 bits.", param="metrics")
        series = points.grouped(metrics)
        of_models = [metric for metric in metrics if metric.model_id]

        def work(c: sa.Connection) -> DrivetrainError | None:
            run = c.exec_driver_sql(_FIND_RUN[c.dialect.name], (run_id, ctx.workspace_id)).fetchone()
            if run is None:
                return no_run(run_id)
            if run.lifecycle != "active":
                return deleted_run(run_id)
            wrong: DrivetrainError | None
            if of_models and (wrong := _unknown_model(c, ctx, {m.model_id for m in of_models if m.model_id})):
                return wrong
            if params and (wrong := _log_params(c, run_id, params)):
                return wrong
            if tags:
                maps.put(c, t.run_tags, run_id, tags)
                if name := tags.get(RUN_NAME):
                    c.execute(t.runs.update().where(t.runs.c.id == run_id).values(name=name[:250]))
            if series:
                points.write(c, run_id, run.experiment_uid, series)
            if of_models:
                points.write_of_models(c, run_id, of_models)
            return None

        return self.db.group_submit(work)

    def history(self, ctx: Context, run_id: str, key: str, *, limit: int = MAX_HISTORY, token: str | None = None) -> Page[Point]:
        """The points of one metric, ordered by step, then time. A metric that was never logged has none."""
        ctx.require(Scope.read)
        check_limit(limit, MAX_HISTORY)
        m = t.metrics.c
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            series = _series(c, run_id, key)
            if series is None:
                return Page([])
            query = sa.select(m.step, m.timestamp_ms, m.nan, m.value).where(m.series_id == series)
            if token:
                query = query.where(points.beyond(from_token(token, 4)))
            rows = tuples(c, query.order_by(m.step, m.timestamp_ms, m.nan, m.value).limit(limit + 1))
        more = to_token(list(rows[limit - 1])) if len(rows) > limit else None
        return Page([Point(step, stamp, math.nan if nan else value) for step, stamp, nan, value in rows[:limit]], more)

    def chart(
        self,
        ctx: Context,
        run_ids: Iterable[str],
        key: str,
        *,
        points_each: int = 1000,
        start_step: int | None = None,
        end_step: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> dict[str, list[Point]]:
        """For drawing: of each run's series, or its part between two steps or times, up to `points_each` points, its extremes and what is
        no number among them."""
        ctx.require(Scope.read)
        check_limit(points_each, MAX_HISTORY)
        ids = list(dict.fromkeys(run_ids))
        given = {"start_step": start_step, "end_step": end_step, "start_ms": start_ms, "end_ms": end_ms}
        window = Window(**{name: checks.int64(end, "end of a chart") for name, end in given.items() if end is not None})
        series: dict[str, int] = {}
        with self.db.read() as c:
            for some in chunked(ids):
                m, r = t.latest_metrics.c, t.runs.c
                mine = sa.select(m.run_id, m.id).join(t.runs, r.id == m.run_id)
                series |= dict(tuples(c, mine.where(r.workspace_id == ctx.workspace_id, m.run_id.in_(some), m.key == key)))
        return {run_id: points.sampled(self.db, series[run_id], points_each, window) for run_id in ids if run_id in series}

    def keys(self, ctx: Context, experiment_id: str, *, limit: int = 1000) -> list[str]:
        """The names of the metrics that the experiment's runs have logged."""
        ctx.require(Scope.read)
        m = t.latest_metrics.c
        with self.db.read() as c:
            row = experiment_row(c, ctx, experiment_id)
            return list(c.scalars(sa.select(m.key).where(m.experiment_uid == row.uid).distinct().order_by(m.key).limit(limit)))


def _series(c: sa.Connection, run_id: str, key: str) -> int | None:
    m = t.latest_metrics.c
    found: int | None = c.scalar(sa.select(m.id).where(m.run_id == run_id, m.key == key))
    return found


def _unknown_model(c: sa.Connection, ctx: Context, ids: set[str]) -> NotFound | None:
    known: set[Any] = set()
    for some in chunked(sorted(ids)):
        m = t.logged_models.c
        known.update(c.scalars(sa.select(m.id).where(m.workspace_id == ctx.workspace_id, m.id.in_(some))))
    missing = sorted(ids - known)
    return NotFound(f"There is no logged model {checks.shown(missing[0])} in this workspace.", param="model_id") if missing else None


def _log_params(c: sa.Connection, run_id: str, params: Mapping[str, str]) -> Invalid | None:
    p = t.params.c
    old: dict[str, str] = {}
    for some in chunked(sorted(params)):
        old.update((k, v) for k, v in c.execute(sa.select(p.key, p.value).where(p.run_id == run_id, p.key.in_(some))))
    for key, value in old.items():
        if value != params[key]:
            return _changed(run_id, key, value, params[key])
    new = {key: params[key] for key in sorted(params) if key not in old}
    maps.put(c, t.params, run_id, new, keep=True)
    if new and c.dialect.name != "sqlite":
        # Another server may have logged one of them between the look and the write: then nothing of this batch stays.
        for key, value in new.items():
            now = c.scalar(sa.select(p.value).where(p.run_id == run_id, p.key == key))
            if now != value:
                raise _changed(run_id, key, str(now), value)
    return None


def _changed(run_id: str, key: str, old: str, new: str) -> Invalid:
    return Invalid(
        f"Changing param values is not allowed. The param {key!r} of run {run_id} is {checks.shown(old)} already and cannot become "
        f"{checks.shown(new)}: use another key, a tag, or another run.",
        param=key,
    )


def finite(value: float) -> float | None:
    """For JSON that knows neither NaN nor infinity."""
    return value if math.isfinite(value) else None
