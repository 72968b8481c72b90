"""A search over runs as SQL: conditions, order and the page's place.

Pages are found by key (the values that the page before ended with), not by counting rows. An order that begins with a metric is answered in
three stretches: runs whose value is a number (straight from an index), then NaN, then runs that lack the metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.search.conditions import And, Condition, Node, Order
from drivetrain.search.grammar import parse_filter, parse_order
from drivetrain.search.languages import RUNS
from drivetrain.search.paging import Term, stretch
from drivetrain.search.sql import Bool, Column, Entries, Fields, Linked, Numbers, of_number, rows, text, where
from drivetrain.search.tokens import from_token
from drivetrain.tracking import tables as t
from drivetrain.tracking.model import View
from drivetrain.tracking.runs import reported

NUMBERS, NANS, LACKING = 0, 1, 2
MANY = 5000

_r = t.runs.c
_e = t.experiments.c
_ARTIFACTS = (
    sa.select(
        sa.func.coalesce(sa.func.nullif(_e.artifact_location, ""), "mlflow-artifacts:/" + sa.cast(_e.number, sa.String))
        + "/"
        + _r.id
        + "/artifacts"
    )
    .where(_e.uid == _r.experiment_uid)
    .correlate(t.runs)
    .scalar_subquery()
)
_ATTRIBUTES: dict[str, Any] = {
    "run_id": _r.id,
    "run_name": _r.name,
    "status": _r.status,
    "user_id": _r.user_name,
    "artifact_uri": _ARTIFACTS,
    "start_time": _r.start_ms,
    "end_time": _r.end_ms,
}
_MAPS = {"param": t.params, "tag": t.run_tags}
_used, _i, _d = t.run_inputs.join(t.datasets, t.datasets.c.id == t.run_inputs.c.dataset_id), t.run_inputs.c, t.datasets.c
_FIELDS: Fields = {
    "attribute": {**{key: Column(column) for key, column in _ATTRIBUTES.items()}, **reported.ATTRIBUTES},
    "metric": Numbers(t.latest_metrics, t.latest_metrics.c.run_id, _r.id),
    "param": Entries(t.params, t.params.c.run_id, _r.id),
    "tag": Entries(t.run_tags, t.run_tags.c.run_id, _r.id),
    **reported.FIELDS,
    "dataset": {
        key: Linked(_used, _i.run_id == _r.id, column)
        for key, column in (("name", _d.name), ("digest", _d.digest), ("context", _i.context))
    },
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A search that has been understood."""

    conditions: Sequence[Node]
    orders: Sequence[Order]

    @classmethod
    def of(cls, filter: str | Node | None, order_by: Sequence[str]) -> Plan:  # noqa: A002
        meant = parse_filter(filter, RUNS) if filter is None or isinstance(filter, str) else [filter]
        return cls(meant, parse_order(order_by, RUNS))


def run_rows(
    c: sa.Connection, plan: Plan, experiment_uids: Sequence[int], view: View, limit: int, token: str | None
) -> tuple[list[sa.Row[Any]], list[Any] | None]:
    """A page of rows of `runs`, and what to make the next page's token of (None: that was all)."""
    start: list[Any] | None = from_token(token) if token else None
    first = plan.orders[0] if plan.orders else None
    if first is None or first.entity != "metric":
        return _stretch(c, plan, experiment_uids, view, limit, start, None)
    if start is not None and not (start and isinstance(start[0], int) and start[0] in (NUMBERS, NANS, LACKING)):
        raise Invalid("The page token is not one of this search.", param="page_token")
    phase = start[0] if start is not None else NUMBERS
    after = start[1:] if start is not None and len(start) > 1 else None
    # A condition on the metric leaves no run that lacks it.
    last = NANS if any(_is_about(one, first.key) for one in plan.conditions) else LACKING
    found: list[sa.Row[Any]] = []
    while phase <= last:
        some, ends = _stretch(c, plan, experiment_uids, view, limit - len(found), after, phase)
        found.extend(some)
        if ends is not None:
            return found, [phase, *ends]
        phase, after = phase + 1, None
        if len(found) == limit:
            return found, [phase] if phase <= last else None
    return found, None


def _stretch(
    c: sa.Connection, plan: Plan, uids: Sequence[int], view: View, limit: int, start: list[Any] | None, phase: int | None
) -> tuple[list[sa.Row[Any]], list[Any] | None]:
    sqlite = c.dialect.name == "sqlite"
    lead = t.latest_metrics.alias("lead")
    leading = plan.orders[0].key if phase is not None else None
    source: sa.FromClause = t.runs
    meant: list[Bool] = []
    terms: list[Term] = []
    orders = list(plan.orders)
    if phase in (NUMBERS, NANS):
        # The experiment is said of the metric alone, so that its index comes first and runs are looked up by their key.
        source = source.join(lead, lead.c.run_id == _r.id)
        meant += [_one_of(lead.c.experiment_uid, uids), lead.c.key == leading, lead.c.nan == phase]
        if phase == NUMBERS:
            terms.append(Term(lead.c.value, orders[0].ascending))
    else:
        meant.append(_one_of(_r.experiment_uid, uids))
        if phase == LACKING:
            m = t.latest_metrics
            meant.append(~rows(m, m.c.run_id == _r.id, m.c.key == leading).exists())
    if phase is not None:
        orders = orders[1:]
    if view is not View.all:
        meant.append(_r.lifecycle == view.value)
    for condition in plan.conditions:
        if _is_about(condition, leading) and phase != LACKING:
            meant.append(of_number(lead, condition, sqlite=sqlite))
        else:
            meant.append(where(condition, _FIELDS, sqlite=sqlite))
    for number, order in enumerate(orders):
        source = _add_order(source, terms, order, f"o{number}", sqlite)
    asked = {(order.entity, order.key) for order in orders}
    if ("attribute", "start_time") not in asked:
        terms.append(Term(_r.start_ms, False))
    if ("attribute", "run_id") not in asked:
        terms.append(Term(_r.id, True, "string"))
    return stretch(c, sa.select(t.runs).select_from(source).where(*meant), terms, limit, start)


def matching(plan: Plan, uids: Sequence[int], view: View, *, sqlite: bool) -> list[Bool]:
    """Which rows of `runs` the conditions of a search are about; its order does not matter."""
    meant = [_one_of(_r.experiment_uid, uids), where(And(plan.conditions), _FIELDS, sqlite=sqlite)]
    return meant if view is View.all else [*meant, _r.lifecycle == view.value]


def _one_of(column: sa.Column[Any], uids: Sequence[int]) -> sa.ColumnElement[bool]:
    # Equality, where it is one: then the index also gives the order. Many are written out: a statement takes so many parameters.
    if len(uids) == 1:
        return column == uids[0]
    return column.in_(sa.bindparam(None, uids, expanding=True, literal_execute=len(uids) > MANY))


def _is_about(node: Node, metric: str | None) -> TypeGuard[Condition]:
    """A condition that no run without the metric meets, and that can be asked of the metric's own row."""
    return isinstance(node, Condition) and (node.entity, node.key) == ("metric", metric) and not node.op.endswith("NULL")


def _add_order(source: sa.FromClause, terms: list[Term], order: Order, name: str, sqlite: bool) -> sa.FromClause:
    """Add what `order` means to `terms`: rows without a value last, whatever the direction."""
    if order.entity == "attribute":
        column = _ATTRIBUTES[order.key]
        if order.key == "end_time":
            terms += [Term(sa.case((column.is_(None), 1), else_=0)), Term(sa.func.coalesce(column, 0), order.ascending)]
        elif order.key == "start_time":
            terms.append(Term(column, order.ascending))
        else:
            terms.append(Term(text(column, sqlite=sqlite), order.ascending, "string"))
        return source
    if order.entity == "dataset":
        raise Invalid("Runs cannot be ordered by their datasets: order by metrics, params, tags or attributes.", param="order_by")
    if order.entity == "metric":
        m = t.latest_metrics.alias(name)
        rank = sa.case((m.c.run_id.is_(None), LACKING), else_=m.c.nan)
        terms += [Term(rank), Term(sa.func.coalesce(m.c.value, 0.0), order.ascending)]
        return source.outerjoin(m, sa.and_(m.c.run_id == _r.id, m.c.key == order.key))
    table = _MAPS[order.entity].alias(name)
    value = text(sa.func.coalesce(table.c.value, ""), sqlite=sqlite)
    terms += [Term(sa.case((table.c.run_id.is_(None), 1), else_=0)), Term(value, order.ascending, "string")]
    return source.outerjoin(table, sa.and_(table.c.run_id == _r.id, table.c.key == order.key))
