"""Runs in groups: how many there are of each kind, and what their metrics come to. All runs that meet a filter, not a page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context, Scope
from drivetrain.search.conditions import Node, Order
from drivetrain.search.grammar import parse_order
from drivetrain.search.languages import RUNS
from drivetrain.search.sql import text
from drivetrain.store.sql import Database
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import experiment_uids
from drivetrain.tracking.model import View
from drivetrain.tracking.runs import search

MOST_GROUPS = 500
MOST_METRICS = 8
EXPERIMENT = "experiment"

_r = t.runs.c
_OF_RUNS = {"status": _r.status, "user_id": _r.user_name, "run_name": _r.name}
_MAPS = {"param": t.params, "tag": t.run_tags}


class Aggregate(Struct, frozen=True):
    """What the last values of a metric come to; NaN is left out, and `count` is of the runs that have it."""

    count: int
    mean: float
    low: float
    high: float


class Group(Struct, frozen=True):
    """Runs that have the same `value`; None: they have none. Of experiments it is the id."""

    value: str | None
    runs: int
    latest_ms: int
    metrics: Mapping[str, Aggregate]


@dataclass(frozen=True, slots=True)
class Groups:
    db: Database

    def search(
        self,
        ctx: Context,
        experiment_ids: Sequence[str],
        by: str,
        *,
        metrics: Sequence[str] = (),
        filter: str | None = None,  # noqa: A002  the word of every client
        order_by: str = "",
        descending: bool = True,
        limit: int = 100,
    ) -> tuple[list[Group], bool]:
        """Groups of the active runs that meet the filter, and whether there are more than these.

        `by` is params.KEY, tags.KEY, one of attributes.status, .user_id and .run_name, or "experiment". They are ordered by the number
        of runs, or by the mean of the metric that `order_by` names, or ("value") by what they are grouped by.
        """
        ctx.require(Scope.read)
        plan = search.Plan.of(filter, ())
        limit = max(1, min(limit, MOST_GROUPS))
        with self.db.read() as c:
            sqlite = c.dialect.name == "sqlite"
            uids = experiment_uids(c, ctx, experiment_ids)
            if not uids:
                return [], False
            source, value = _grouping(by)
            runs = sa.func.count().label("runs")
            columns: list[Any] = [value.label("value"), runs, sa.func.max(_r.start_ms).label("latest_ms")]
            terms: list[Any] = [runs.desc() if descending else runs.asc()]
            for n, key in enumerate(list(dict.fromkeys(metrics))[:MOST_METRICS]):
                m = t.latest_metrics.alias(f"m{n}")
                source = source.outerjoin(m, sa.and_(m.c.run_id == _r.id, m.c.key == key, m.c.nan == 0))
                mean = sa.func.avg(m.c.value)
                columns += [sa.func.count(m.c.run_id), mean, sa.func.min(m.c.value), sa.func.max(m.c.value)]
                if order_by == key:
                    terms = [sa.case((mean.is_(None), 1), else_=0), mean.desc() if descending else mean.asc(), *terms]
            named = value if by == EXPERIMENT else text(value, sqlite=sqlite)
            if order_by == "value":
                terms = [named.desc() if descending else named.asc()]
            else:
                terms.append(named.asc())
            query = sa.select(*columns).select_from(source).where(*search.matching(plan, uids, View.active, sqlite=sqlite))
            rows = c.execute(query.group_by(value).order_by(*terms).limit(limit + 1)).all()
        names = list(dict.fromkeys(metrics))[:MOST_METRICS]
        found = [
            Group(
                None if row[0] is None else str(row[0]),
                row[1],
                row[2],
                {key: Aggregate(*row[3 + 4 * n : 7 + 4 * n]) for n, key in enumerate(names) if row[3 + 4 * n]},
            )
            for row in rows[:limit]
        ]
        return found, len(rows) > limit

    def count(self, ctx: Context, experiment_ids: Sequence[str], *, filter: str | Node | None = None) -> int:  # noqa: A002
        """How many active runs of the experiments meet the filter."""
        ctx.require(Scope.read)
        plan = search.Plan.of(filter, ())
        with self.db.read() as c:
            uids = experiment_uids(c, ctx, experiment_ids)
            where = search.matching(plan, uids, View.active, sqlite=c.dialect.name == "sqlite")
            return int(c.scalar(sa.select(sa.func.count()).select_from(t.runs).where(*where)) or 0) if uids else 0


def _grouping(by: str) -> tuple[sa.FromClause, sa.ColumnElement[Any]]:
    """Where the groups come from, and the column that tells them apart."""
    if by == EXPERIMENT:
        e = t.experiments
        return t.runs.join(e, e.c.uid == _r.experiment_uid), e.c.number
    (order,) = parse_order([by], RUNS)
    if order.entity == "attribute" and order.key in _OF_RUNS:
        return t.runs, _OF_RUNS[order.key]
    return _of_map(order)


def _of_map(order: Order) -> tuple[sa.FromClause, sa.ColumnElement[Any]]:
    if order.entity not in _MAPS:
        raise Invalid("Runs are grouped by params, tags, status, user, name or experiment; metrics can only be summed up.", param="group")
    table = _MAPS[order.entity].alias("grouping")
    return t.runs.outerjoin(table, sa.and_(table.c.run_id == _r.id, table.c.key == order.key)), table.c.value
