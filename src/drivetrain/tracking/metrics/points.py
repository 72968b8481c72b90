"""Metric points on disk: writing many at once, and reading series thinned out for charts."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import StorageFull, Unavailable
from drivetrain.search.paging import Term, after
from drivetrain.store.sql import Database, chunked, tuples, upsert
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import packed, unpacked
from drivetrain.tracking.metrics import summaries as pages
from drivetrain.tracking.metrics.summaries import Packed
from drivetrain.tracking.model import Metric, Point

Row = tuple[int, int, int, int, float]
"""(series, step, timestamp, nan, value)"""

_VALUES = {size: ", ".join(["(?, ?, ?, ?, ?)"] * size) for size in (200, 20, 1)}

_l = t.latest_metrics.c
_m = t.metrics.c
_SERIES = sa.select(_l.key, _l.id, _l.step, _l.timestamp_ms)
_ONE = "SELECT key, id, step, timestamp_ms FROM latest_metrics WHERE run_id = ? AND key = ?"
_COLUMNS = ("step", "timestamp_ms", "nan", "value")
_NEWER = """
UPDATE latest_metrics SET step = %s, timestamp_ms = %s, nan = %s, value = %s
WHERE id = %s AND (step, timestamp_ms, 1 - nan, value) < (%s, %s, %s, %s)
"""
_NEWER_SQLITE = """
WITH v(id, step, timestamp_ms, nan, value) AS (VALUES {})
UPDATE latest_metrics AS l SET step = v.step, timestamp_ms = v.timestamp_ms, nan = v.nan, value = v.value FROM v
WHERE l.id = v.id AND (l.step, l.timestamp_ms, 1 - l.nan, l.value) < (v.step, v.timestamp_ms, 1 - v.nan, v.value)
"""
_INSERT = "INSERT OR IGNORE INTO metrics (series_id, step, timestamp_ms, nan, value) VALUES {}"
_INSERT_MANY = (
    "INSERT INTO metrics (series_id, step, timestamp_ms, nan, value) "
    "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[], %s::float8[]) ON CONFLICT DO NOTHING"
)


def grouped(metrics: Sequence[Metric]) -> dict[str, set[Packed]]:
    series: defaultdict[str, set[Packed]] = defaultdict(set)
    for metric in metrics:
        value = metric.value
        series[metric.key].add(
            (metric.step, metric.timestamp_ms, 0, float(value)) if value == value else (metric.step, metric.timestamp_ms, 1, 0.0)
        )
    return dict(series)


def _rank(point: Packed) -> tuple[int, int, int, float]:
    """Which point is the latest: by step, time, value; NaN is less than a number."""
    step, stamp, nan, value = point
    return step, stamp, 1 - nan, value


def _latest(ordered: Sequence[Packed]) -> Packed:
    last = ordered[-1]
    if last[2] and len(ordered) > 1:
        before = ordered[bisect_right(ordered, (last[0], last[1], 0, math.inf)) - 1]
        return before if before[:2] == last[:2] else last
    return last


def write(c: sa.Connection, run_id: str, experiment_uid: int, series: Mapping[str, set[Packed]]) -> None:
    """Add points to the run's series and move the latest where one of them is later."""
    sqlite = c.dialect.name == "sqlite"
    ordered = {key: sorted(points) for key, points in series.items()}
    known = _known(c, run_id, series)
    if missing := sorted(key for key in series if key not in known):
        rows = [
            {"run_id": run_id, "experiment_uid": experiment_uid, "key": key} | dict(zip(_COLUMNS, _latest(ordered[key]), strict=True))
            for key in missing
        ]
        upsert(c, t.latest_metrics, rows, key=["run_id", "key"])
        known |= _known(c, run_id, missing)
    later: list[Row] = []
    late: dict[int, list[Packed]] = {}
    for key, points in ordered.items():
        n, step, stamp = known[key]
        # On PostgreSQL another server may have begun a series at this very moment, and gone on with it.
        if sqlite and key in missing:
            continue
        if points[-1][:2] >= (step, stamp):
            later.append((n, *_latest(points)))
        if points[0][:2] <= (step, stamp):
            late[n] = points
    # To the driver itself: these are the hottest statements of all, and a thousand rows at once are usual.
    if later and sqlite:
        _at_once(c, _NEWER_SQLITE, later)
    elif later:
        c.exec_driver_sql(_NEWER, [(*row[1:], row[0], *_rank(row[1:])) for row in later])
    insert(c, [(known[key][0], *point) for key in sorted(series, key=lambda key: known[key][0]) for point in ordered[key]])
    if late:
        pages.merge(c, late)
    for key, points in ordered.items():
        # About once a page, wherever the series stands: so its first chart finds little left to do.
        if random.random() * pages.PAGE < len(points):  # noqa: S311  a die, not a secret
            pages.extend_once(c, known[key][0])


def insert(c: sa.Connection, rows: list[Row]) -> None:
    if c.dialect.name == "sqlite":
        _at_once(c, _INSERT, rows)
    else:
        c.exec_driver_sql(_INSERT_MANY, tuple(list(column) for column in zip(*rows, strict=True)))


def _at_once(c: sa.Connection, statement: str, rows: Sequence[Row]) -> None:
    """For SQLite: few statements with many rows. Between two statements any other thread may take Python's lock, for milliseconds: so a
    statement a row is hundreds of times slower when the process has anything else to do. Three sizes, so that all stay prepared."""
    start = 0
    for size in (200, 20, 1):
        while len(rows) - start >= size:
            some = tuple(value for row in rows[start : start + size] for value in row)
            c.exec_driver_sql(statement.format(_VALUES[size]), some)
            start += size


def _known(c: sa.Connection, run_id: str, keys: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """key → (series, its latest step and time). The series are held until the transaction ends: what is late for one stays so."""
    names = sorted(keys)
    if c.dialect.name == "sqlite":
        if len(names) == 1:
            return {key: (n, step, stamp) for key, n, step, stamp in c.exec_driver_sql(_ONE, (run_id, names[0])).fetchall()}
        held = _SERIES
    else:
        held = _SERIES.order_by(_l.id).with_for_update(key_share=True)
    found: dict[str, tuple[int, int, int]] = {}
    for some in chunked(names):
        found.update((key, (n, step, stamp)) for key, n, step, stamp in tuples(c, held.where(_l.run_id == run_id, _l.key.in_(some))))
    return found


def write_of_models(c: sa.Connection, run_id: str, metrics: Sequence[Metric]) -> None:
    """Keep the latest point of each (model, metric, run, dataset)."""
    latest: dict[tuple[str, str, str, str], Packed] = {}
    for metric in metrics:
        name, digest = metric.dataset or ("", "")
        series = (metric.model_id or "", metric.key, name, digest)
        point = (metric.step, metric.timestamp_ms, *packed(metric.value))
        if series not in latest or _rank(point) > _rank(latest[series]):
            latest[series] = point
    k = t.logged_model_metrics.c
    names = ["model_id", "key", "run_id", "dataset_name", "dataset_digest"]
    for (model_id, key, name, digest), point in sorted(latest.items()):
        row: dict[str, Any] = {"model_id": model_id, "key": key, "run_id": run_id, "dataset_name": name, "dataset_digest": digest}
        mine = sa.and_(*(k[column] == row[column] for column in names))
        before = c.execute(sa.select(k.step, k.timestamp_ms, k.nan, k.value).where(mine)).one_or_none()
        if before is None or _rank(point) > _rank((before.step, before.timestamp_ms, before.nan, before.value)):
            row |= dict(zip(_COLUMNS, point, strict=True))
            upsert(c, t.logged_model_metrics, [row], key=names, update=_COLUMNS)


def beyond(values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """The points of a series after the one with these values."""
    return after([Term(_m.step), Term(_m.timestamp_ms), Term(_m.nan), Term(_m.value)], values)


def sampled(db: Database, series: int, wanted: int, window: pages.Window = pages.ALL) -> list[Point]:
    """Up to `wanted` points of a series in its order, its extremes among them; all of them if there are no more."""
    with db.read() as c:
        found = pages.candidates(c, series, window, wanted)
    if found is None:
        whole = False
        try:
            pages.extend(db, series)
        except (StorageFull, Unavailable):
            whole = True  # a disk without room is no reason not to draw
        with db.read() as c:
            found = pages.candidates(c, series, window, wanted, whole=whole) or pages.candidates(c, series, window, wanted, whole=True)
    return [Point(step, stamp, unpacked(nan, value)) for step, stamp, nan, value in thinned(found or [], wanted)]


def thinned(points: Sequence[Packed], wanted: int) -> Sequence[Packed]:
    """Up to `wanted` of the points: the first, the last, and of each stretch between the lowest, the highest, and what is no number, so
    that no peak and no gap is lost."""
    if len(points) <= wanted:
        return points
    inner = points[1:-1]
    kinds = {2 if point[2] else point[3] for point in inner if point[2] or math.isinf(point[3])}
    stretches = max(1, (wanted - 2) // (2 + len(kinds)))
    kept = [points[0]]
    for n in range(stretches):
        kept += pages.extremes(inner[len(inner) * n // stretches : len(inner) * (n + 1) // stretches])
    return [*kept, points[-1]]
