"""Long series in summary: of each stretch of points the extreme ones, so that a chart of a million points is drawn from a thousand rows.

A page stands for about 2048 points that follow each other in the series, and is made of parts of 64. What a page says depends on the set of
its points alone, and putting a point in twice changes nothing: a late point is merged into the page that it falls into, in the transaction
that writes it. Pages are made when a chart is asked for, a few at a time; what they do not reach yet is read point by point.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.store.sql import INT64, Database, chunked, tuples
from drivetrain.tracking import tables as t
from drivetrain.tracking.metrics.tables import metric_pages

Packed = tuple[int, int, int, float]
"""(step, timestamp, nan, value), by which a series is ordered."""
Part = tuple[Packed, list[Packed]]
"""(its last point, its extremes)"""

PART = 64
PAGE = 2048
TAIL = 2 * PAGE
"""So many points after the last page are read one by one; more are put into pages first."""

_m = t.metrics.c
_p = metric_pages.c
_LAST = (_p.last_step, _p.last_ms, _p.last_nan, _p.last_value)
_POINT = (_m.step, _m.timestamp_ms, _m.nan, _m.value)
_nan, _value = itemgetter(2), itemgetter(3)
_encode = msgspec.msgpack.Encoder().encode
_points = msgspec.msgpack.Decoder(list[Packed]).decode
_parts = msgspec.msgpack.Decoder(list[Part]).decode


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a series: between two steps, two times, or both, the ends included."""

    start_step: int = -INT64
    end_step: int = INT64 - 1
    start_ms: int = -INT64
    end_ms: int = INT64 - 1

    def holds(self, point: Packed) -> bool:
        return self.start_step <= point[0] <= self.end_step and self.start_ms <= point[1] <= self.end_ms


ALL = Window()


def extremes(points: Iterable[Packed], *, first: bool = False) -> list[Packed]:
    """The lowest and the highest finite point, a NaN and an infinity of either sign if there are any (of equals the earliest), in the
    order of the series; and the first point of all."""
    rows = sorted(points)
    low, high = min(rows, key=_value), max(rows, key=_value)
    kept = {low, high}
    if any(map(_nan, rows)) or not math.isfinite(low[3]) or not math.isfinite(high[3]):
        kinds: dict[float, list[Packed]] = {}
        for row in rows:
            kinds.setdefault(row[3] if math.isinf(row[3]) else math.nan if row[2] else 0.0, []).append(row)
        finite = kinds.pop(0.0, [])
        kept = {some[0] for some in kinds.values()}
        if finite:
            kept |= {min(finite, key=_value), max(finite, key=_value)}
    if first:
        kept.add(rows[0])
    return sorted(kept)


def merge(c: sa.Connection, late: Mapping[int, Sequence[Packed]]) -> None:
    """Put points, by series, into the pages that they fall into. Whoever calls holds the series' rows against `extend`."""
    for some in chunked(late):
        found = sa.select(_p.series_id).where(_p.series_id.in_(some)).distinct()
        for series in sorted(c.scalars(found).all()):
            _merge(c, series, sorted(late[series]))


def _merge(c: sa.Connection, series: int, late: Sequence[Packed]) -> None:
    near = sa.select(_p.number, *_LAST, _p.low_ms, _p.high_ms, _p.extremes, _p.parts).where(
        _p.series_id == series, _p.last_step >= late[0][0], _p.after_step <= late[-1][0]
    )
    pages = c.execute(near.order_by(_p.number)).all()
    ends = [tuple(page[1:5]) for page in pages]
    into: dict[int, list[Packed]] = {}
    for point in late:
        if (at := bisect_left(ends, point)) < len(pages):
            into.setdefault(at, []).append(point)
    for at, points in into.items():
        page = pages[at]
        parts = _parts(page.parts)
        lasts = [last for last, _ in parts]
        for point in points:
            n = bisect_left(lasts, point)
            parts[n] = (lasts[n], extremes({*parts[n][1], point}))
        times = [point[1] for point in points]
        new = {
            "low_ms": min(page.low_ms, *times),
            "high_ms": max(page.high_ms, *times),
            "extremes": _encode(extremes({*_points(page.extremes), *points}, first=page.number == 0)),
            "parts": _encode(parts),
        }
        if any(new[name] != getattr(page, name) for name in new):
            c.execute(metric_pages.update().where(_p.series_id == series, _p.number == page.number).values(**new))


def extend(db: Database, series: int) -> None:
    """Put what has come since the last page into pages, as far as it fills some; in short transactions."""
    while True:
        with db.write() as c:
            if not extend_once(c, series):
                return


def extend_once(c: sa.Connection, series: int) -> bool:
    """Make the next pages, a few; whether there may be more."""
    row = sa.select(t.latest_metrics.c.id).where(t.latest_metrics.c.id == series)
    if c.scalar(row.with_for_update(key_share=True)) is None:
        return False
    number, last = _end(c, series)
    rows: list[Packed] = tuples(c, _after(series, last).limit(TAIL))
    made = []
    for start in range(0, len(rows) - PAGE + 1, PAGE):
        page = rows[start : start + PAGE]
        parts = [(some[-1], extremes(some)) for some in (page[n : n + PART] for n in range(0, PAGE, PART))]
        times = [point[1] for point in page]
        made.append(
            {
                "series_id": series,
                "number": number,
                "after_step": last[0] if last else -INT64,
                **dict(zip(("last_step", "last_ms", "last_nan", "last_value"), page[-1], strict=True)),
                "low_ms": min(times),
                "high_ms": max(times),
                "extremes": _encode(extremes({point for _, some in parts for point in some} | {page[0]}, first=number == 0)),
                "parts": _encode(parts),
            }
        )
        number, last = number + 1, page[-1]
    if made:
        c.execute(metric_pages.insert(), made)
    return len(rows) == TAIL


def candidates(c: sa.Connection, series: int, window: Window, wanted: int, *, whole: bool = False) -> list[Packed] | None:
    """Points of the series within the window, in its order, all extremes of any stretch worth drawing among them: all points if they are
    not many more than `wanted`. None: first `extend` the pages (`whole`: read the rest however long it is)."""
    _, last = _end(c, series)
    query = _after(series, last)
    tail: list[Packed] = tuples(c, query if whole else query.limit(TAIL))
    if len(tail) == TAIL and not whole:
        return None
    found = tail if window == ALL else [point for point in tail if window.holds(point)]
    if last is not None:
        found = _paged(c, series, window, wanted) + found
    # Nearly in order already, and few twice: where a page is read point by point, its neighbours' ends may be too.
    return list(dict.fromkeys(sorted(found)))


def _paged(c: sa.Connection, series: int, window: Window, wanted: int) -> list[Packed]:
    near = [_p.series_id == series]
    if window != ALL:
        near += [_p.last_step >= window.start_step, _p.after_step <= window.end_step]
        near += [_p.high_ms >= window.start_ms, _p.low_ms <= window.end_ms]
    columns = (_p.number, _p.after_step, *_LAST, _p.low_ms, _p.high_ms)
    pages = tuples(c, sa.select(*columns).where(*near).order_by(_p.number))
    whole, cut = set[int](), []
    for number, after, step, _, _, _, low_ms, high_ms in pages:
        within = after >= window.start_step and step <= window.end_step and window.start_ms <= low_ms and high_ms <= window.end_ms
        if within:
            whole.add(number)
        else:
            cut.append((after, step))
    found = list[Packed]()
    if 4 * len(whole) * (PAGE // PART) < wanted:  # so few that the points themselves are no more than a chart can take in
        cut, whole = [(page[1], page[2]) for page in pages], set()
    if whole:
        fine = 3 * len(whole) < wanted
        kept = tuples(c, sa.select(_p.number, _p.parts if fine else _p.extremes).where(*near).order_by(_p.number))
        for number, packed in kept:
            if number in whole:
                found += [point for _, some in _parts(packed) for point in some] if fine else _points(packed)
        if 0 in whole and fine:
            found += tuples(c, _after(series, None).limit(1))
        found += [tuple(page[2:6]) for page in pages[-1:] if page[0] in whole]
    for low, high in _joined(cut):
        query = _after(series, None).where(_m.step.between(max(low, window.start_step), min(high, window.end_step)))
        if (window.start_ms, window.end_ms) != (ALL.start_ms, ALL.end_ms):
            query = query.where(_m.timestamp_ms.between(window.start_ms, window.end_ms))
        found += tuples(c, query)
    return found


def _joined(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for low, high in stretches:
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined


def _end(c: sa.Connection, series: int) -> tuple[int, Packed | None]:
    """The number of the next page, and the last point of the last one."""
    found = tuples(c, sa.select(_p.number, *_LAST).where(_p.series_id == series).order_by(_p.number.desc()).limit(1))
    return (found[0][0] + 1, found[0][1:]) if found else (0, None)


def _after(series: int, last: Packed | None) -> sa.Select[Any]:
    query = sa.select(*_POINT).where(_m.series_id == series).order_by(*_POINT)
    if last is None:
        return query
    # Written so, an index finds the place also where a whole series stands at one step.
    return query.where(sa.tuple_(*_POINT) > sa.tuple_(*(sa.literal(one, column.type) for one, column in zip(last, _POINT, strict=True))))
