"""The steps at which a run's history has rows: all of them, or some at even distances without reading the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.store.sql import INT64, chunked, tuples
from drivetrain.tracking import tables as t
from drivetrain.tracking.history import tables as d

_m, _b = t.metrics.c, d.run_rows.c
Source = tuple[sa.Column[Any], sa.Column[Any], Any]
"""(a column of steps, a column that says whose they are, whose)"""


def sources(run_id: str, series: Sequence[int], *, rows: bool) -> list[Source]:
    """What another client logged stands at steps that have no row: so each series is looked at, and the rows."""
    found: list[Source] = [(_m.step, _m.series_id, n) for n in series]
    return [*found, (_b.step, _b.run_id, run_id)] if rows else found


def everything(c: sa.Connection, some: Sequence[Source], low: int, high: int | None, *, common: bool) -> list[int]:
    """All steps in [low, high) of any of the sources, or those that they have in common."""
    each = (set(c.scalars(_between(one, low, high).distinct())) for one in some)
    return sorted(set.intersection(*each) if common else set[int]().union(*each)) if some else []


def sample(c: sa.Connection, some: Sequence[Source], low: int, high: int | None, most: int, *, common: bool) -> list[int]:
    """Of the same steps up to `most`, at even distances; all of them if there are no more."""
    found: set[int] = set()
    for one in some:
        mine = _sample(c, one, low, high, most)
        for other in some if common else ():
            if other is not one:
                mine = [step for part in chunked(mine) for step in sorted(_there(c, other, part))]
        found.update(mine)
    steps = sorted(found)
    last = len(steps) - 1
    return steps if last < most else sorted({steps[round(n * last / max(1, most - 1))] for n in range(most)})


def _sample(c: sa.Connection, source: Source, low: int, high: int | None, most: int) -> list[int]:
    query = _between(source, low, high)
    steps = list(c.scalars(query.distinct().order_by(source[0]).limit(most + 1)))
    if len(steps) <= most:
        return steps
    first, last = steps[0], c.scalar(query.order_by(source[0].desc()).limit(1))
    assert last is not None
    return [step for part in chunked(_places(first, last, most)) for step in _next(c, source, part)]


def _places(first: int, last: int, most: int) -> Iterator[int]:
    for n in range(most):
        yield first + (last - first) * n // max(1, most - 1)


def _next(c: sa.Connection, source: Source, places: Sequence[int]) -> list[int]:
    """The first step from each place on; there is one from the last place on."""
    step, owner, whose = source
    mark = "?" if c.dialect.name == "sqlite" else "%s"
    values = ", ".join([f"({mark})"] * len(places))
    table = step.table.name
    query = (
        f"WITH place(at) AS (VALUES {values}) "  # noqa: S608  names of our own tables
        f"SELECT DISTINCT (SELECT step FROM {table} WHERE {owner.name} = {mark} AND step >= place.at ORDER BY step LIMIT 1) FROM place"
    )
    return [one for (one,) in c.exec_driver_sql(query, (*places, whose)).fetchall()]


def _there(c: sa.Connection, source: Source, steps: Sequence[int]) -> set[int]:
    step, owner, whose = source
    return {one for (one,) in tuples(c, sa.select(step).where(owner == whose, step.in_(steps)))}


def _between(source: Source, low: int, high: int | None) -> sa.Select[Any]:
    step, owner, whose = source
    return sa.select(step).where(owner == whose, step >= max(low, -INT64), step < (INT64 - 1 if high is None else high))
