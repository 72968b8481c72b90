"""Metric points on disk: writing many at once, and reading series thinned out for charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.store.sql import upsert
from drivetrain.tracking import compare
from drivetrain.tracking import tables as t
from drivetrain.tracking.compare import Term
from drivetrain.tracking.model import Metric, Point
from drivetrain.tracking.rows import chunked, packed, tuples, unpacked

Packed = tuple[int, int, int, float]
"""(step, timestamp, nan, value)"""

EAGER = 20_000

_l = t.latest_metrics.c
_m = t.metrics.c
_ONE = sa.select(_l.key, _l.id).where(_l.run_id == sa.bindparam("run"), _l.key == sa.bindparam("key"))
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


def write(c: sa.Connection, run_id: str, experiment_uid: int, series: Mapping[str, set[Packed]]) -> None:
    """Add points to the run's series and move the latest where one of them is later."""
    latest = {key: max(points, key=_rank) if len(points) > 1 else next(iter(points)) for key, points in series.items()}
    ids = _ids(c, run_id, series)
    if missing := sorted(key for key in series if key not in ids):
        rows = [
            {"run_id": run_id, "experiment_uid": experiment_uid, "key": key} | dict(zip(_COLUMNS, latest[key], strict=True))
            for key in missing
        ]
        upsert(c, t.latest_metrics, rows, key=["run_id", "key"])
        ids |= _ids(c, run_id, missing)
    # On PostgreSQL another server may have begun a series at this very moment: its point is then the one to compare with.
    if old := sorted((ids[key], key) for key in series if key not in missing or c.dialect.name != "sqlite"):
        # To the driver itself: this is the hottest statement of all, and a thousand rows at once are usual.
        mark = "?" if c.dialect.name == "sqlite" else "%s"
        c.exec_driver_sql(_NEWER.format(mark), [(*latest[key], n, *_rank(latest[key])) for n, key in old])
    insert(c, [(ids[key], *point) for key in sorted(series, key=ids.__getitem__) for point in sorted(series[key])])


def insert(c: sa.Connection, rows: list[tuple[int, int, int, int, float]]) -> None:
    if c.dialect.name == "sqlite":
        c.exec_driver_sql(_INSERT, rows)
    else:
        c.exec_driver_sql(_INSERT_MANY, tuple(list(column) for column in zip(*rows, strict=True)))


def _ids(c: sa.Connection, run_id: str, keys: Mapping[str, Any] | Sequence[str]) -> dict[str, int]:
    if len(keys) == 1:
        return {key: n for key, n in c.execute(_ONE, {"run": run_id, "key": next(iter(keys))})}  # noqa: C416  rows are no pairs to mypy
    found: dict[str, int] = {}
    for some in chunked(keys):
        found.update((key, n) for key, n in c.execute(sa.select(_l.key, _l.id).where(_l.run_id == run_id, _l.key.in_(some))))
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


def sampled(c: sa.Connection, series: int, wanted: int, start_step: int | None, end_step: int | None) -> list[Point]:
    """About `wanted` points of a series in its order; all of them if there are no more."""
    where = [_m.series_id == series]
    if start_step is not None:
        where.append(_m.step >= start_step)
    if end_step is not None:
        where.append(_m.step <= end_step)
    order = (_m.step, _m.timestamp_ms, _m.nan, _m.value)
    query = sa.select(*order).where(*where).order_by(*order)
    rows = tuples(c, query.limit(EAGER + 1))
    if len(rows) <= EAGER:
        return thinned([Point(step, stamp, unpacked(nan, value)) for step, stamp, nan, value in rows], wanted)
    # Too long to read for a picture: look up points at even distances, by the index.
    last = c.execute(query.order_by(None).order_by(*(column.desc() for column in order)).limit(1)).one()
    axis, low, high = (_m.step, rows[0][0], last.step)
    if low == high:  # everything at one step: time is the axis
        where.append(_m.step == low)
        axis, low, high = (_m.timestamp_ms, rows[0][1], last.timestamp_ms)
    at = sa.bindparam("at", type_=sa.BigInteger)
    probe = sa.select(*order).where(*where, axis >= at).order_by(*order).limit(1)
    places = sorted({low + (high - low) * n // max(1, wanted - 1) for n in range(wanted)})
    found = {tuple(c.execute(probe, {"at": place}).one()) for place in places} | {tuple(last)}
    return [Point(step, stamp, unpacked(nan, value)) for step, stamp, nan, value in sorted(found)]


def thinned(points: list[Point], wanted: int) -> list[Point]:
    """Keep the first, the last, and of each stretch between the lowest and the highest point, so that no peak is lost."""
    if len(points) <= wanted:
        return points
    stretches = max(1, (wanted - 2) // 2)
    inner = points[1:-1]
    kept = [points[0]]
    for n in range(stretches):
        some = [
            (i, p) for i, p in enumerate(inner[len(inner) * n // stretches : len(inner) * (n + 1) // stretches]) if not math.isnan(p.value)
        ]
        if some:
            low, high = min(some, key=lambda one: one[1].value), max(some, key=lambda one: one[1].value)
            kept.extend(p for _, p in sorted({low[0]: low, high[0]: high}.values(), key=lambda one: one[0]))
    return [*kept, points[-1]]
