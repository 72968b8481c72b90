"""Metric points on disk: writing many at once, and reading series thinned out for charts."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import StorageFull, Unavailable
from drivetrain.store.sql import Database, upsert
from drivetrain.tracking import compare, pages
from drivetrain.tracking import tables as t
from drivetrain.tracking.compare import Term
from drivetrain.tracking.model import Metric, Point
from drivetrain.tracking.pages import Packed
from drivetrain.tracking.rows import chunked, packed, tuples, unpacked

_l = t.latest_metrics.c
_m = t.metrics.c
_SERIES = sa.select(_l.key, _l.id, _l.step, _l.timestamp_ms)
_ONE = "SELECT key, id, step, timestamp_ms FROM latest_metrics WHERE run_id = ? AND key = ?"
_COLUMNS = ("step", "timestamp_ms", "nan", "value")
_NEWER = """
UPDATE latest_metrics SET step = {0}, timestamp_ms = {0}, nan = {0}, value = {0}
WHERE id = {0} AND (step, timestamp_ms, 1 - nan, value) < ({0}, {0}, {0}, {0})
"""
_INSERT = "INSERT OR IGNORE INTO metrics (series_id, step, timestamp_ms, nan, value) VALUES (?, ?, ?, ?, ?)"
_INSERT_MANY = (
    "INSERT INTO metrics (series_id, step, timestamp_ms, nan, value) "
    "SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::smallint[], %s::float8[]) ON CONFLICT DO NOTHING"
)


def grouped(metrics: Sequence[Metric]) -> dict[str, set[Packed]]:
    series: dict[str, set[Packed]] = {}
    for metric in metrics:
        value = metric.value
        point = (metric.step, metric.timestamp_ms, 0, float(value)) if value == value else (metric.step, metric.timestamp_ms, 1, 0.0)
        if (mine := series.get(metric.key)) is None:
            series[metric.key] = {point}
        else:
            mine.add(point)
    return series


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
    later: list[tuple[Any, ...]] = []
    late: dict[int, list[Packed]] = {}
    for key, points in ordered.items():
        n, step, stamp = known[key]
        # On PostgreSQL another server may have begun a series at this very moment, and gone on with it.
        if sqlite and key in missing:
            continue
        if points[-1][:2] >= (step, stamp):
            newest = _latest(points)
            later.append((*newest, n, *_rank(newest)))
        if points[0][:2] <= (step, stamp):
            late[n] = points
    if later:
        # To the driver itself: this is the hottest statement of all, and a thousand rows at once are usual.
        c.exec_driver_sql(_NEWER.format("?" if sqlite else "%s"), later)
    insert(c, [(known[key][0], *point) for key in sorted(series, key=lambda key: known[key][0]) for point in ordered[key]])
    if late:
        pages.merge(c, late)


def insert(c: sa.Connection, rows: list[tuple[int, int, int, int, float]]) -> None:
    if c.dialect.name == "sqlite":
        c.exec_driver_sql(_INSERT, rows)
    else:
        c.exec_driver_sql(_INSERT_MANY, tuple(list(column) for column in zip(*rows, strict=True)))


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
    return compare.after([Term(_m.step), Term(_m.timestamp_ms), Term(_m.nan), Term(_m.value)], values)


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
