"""A search over traces as SQL. Each experiment is asked by its index over time; what several answer is put together here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.search.conditions import And, Condition, Order
from drivetrain.search.grammar import parse_filter, parse_order
from drivetrain.search.languages import TRACES
from drivetrain.search.paging import Term, ordered
from drivetrain.search.sql import Bool, Column, Entries, Expr, Fields, Linked, compare, rows, text, where
from drivetrain.search.tokens import from_token
from drivetrain.tags import TRACE_NAME
from drivetrain.tracking.traces import tables as x

_x, _p, _a = x.traces.c, x.trace_spans.c, x.trace_assessments.c
_COLUMNS: dict[str, sa.ColumnElement[Any]] = {
    "request_id": _x.trace_id,
    "client_request_id": _x.client_request_id,
    "status": _x.state,
    "name": _x.name,
    "session": _x.session,
    "timestamp_ms": _x.start_ms,
    "execution_time_ms": _x.duration_ms,
    "end_time_ms": _x.start_ms + _x.duration_ms,
}
_SPAN_FIELDS: dict[str, sa.ColumnElement[Any]] = {"name": _p.name, "type": _p.type, "status": _p.status}
_MAPS = {"tag": x.trace_tags, "metadata": x.trace_metadata}
_FIRST, _LAST = 0, 1


def matching_rows(
    c: sa.Connection,
    filter: str | None,  # noqa: A002  the word of every client
    order_by: Sequence[str],
    experiment_uids: Sequence[int],
    limit: int,
    token: str | None,
) -> tuple[list[sa.Row[Any]], list[Any] | None]:
    """A page of rows of `traces`, and what to make the next page's token of (None: that was all)."""
    sqlite = c.dialect.name == "sqlite"
    terms = _terms(parse_order(order_by, TRACES), sqlite)
    query = sa.select(x.traces).where(*meant(parse_filter(filter, TRACES), sqlite=sqlite))
    query = ordered(query, terms, limit + 1, from_token(token, len(terms)) if token else None)
    found: list[sa.Row[Any]] = []
    for uid in experiment_uids:
        found += c.execute(query.where(_x.experiment_uid == uid)).all()
    if len(experiment_uids) > 1:
        for n, term in reversed(list(enumerate(terms))):
            found.sort(key=itemgetter(n - len(terms)), reverse=not term.ascending)
    return found[:limit], list(found[limit - 1][-len(terms) :]) if len(found) > limit else None


def _terms(orders: Sequence[Order], sqlite: bool) -> list[Term]:
    terms: list[Term] = []
    for order in orders:
        if order.entity == "attribute" and order.key in _COLUMNS:
            expr: sa.ColumnElement[Any] = _COLUMNS[order.key]
            number = order.key.endswith("_ms")
        elif order.entity in _MAPS:
            table, number = _MAPS[order.entity], False
            expr = (
                sa.select(table.c.value).where(table.c.trace_uid == _x.uid, table.c.key == order.key).correlate(x.traces).scalar_subquery()
            )
        else:
            raise Invalid(f"Traces are not ordered by {order.entity} {order.key!r}: use {', '.join(sorted(_COLUMNS))}, tags or metadata.")
        if order.key not in ("timestamp_ms", "request_id", "status"):  # what is missing comes last
            terms.append(Term(sa.case((expr.is_(None), _LAST), else_=_FIRST)))
            expr = sa.func.coalesce(expr, 0 if number else "")
        terms.append(Term(expr if number else text(expr, sqlite=sqlite), order.ascending, "number" if number else "string"))
    if not terms:
        terms.append(Term(_x.start_ms, False))
    terms.append(Term(text(_x.trace_id, sqlite=sqlite) if orders else _x.trace_id, False, "string"))
    return terms


def meant(given: Sequence[Condition], *, sqlite: bool) -> list[Bool]:
    """Conditions on spans are met by one span that meets them all."""
    of_one_span = [one for one in given if one.entity == "span" or (one.entity, one.key) == ("attribute", "text")]
    found = [where(one, _FIELDS, sqlite=sqlite) for one in given if one not in of_one_span]
    if of_one_span:
        found.append(rows(x.trace_spans, _p.trace_uid == _x.uid, where(And(of_one_span), _FIELDS, sqlite=sqlite)).exists())
    return found


@dataclass(frozen=True, slots=True)
class _Prompt:
    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        if condition.op != "=" or str(condition.value).count("/") != 1:
            raise Invalid("A prompt is asked for by its name and version: prompt = 'name/version'.", param="filter")
        q = x.trace_prompts.c
        return rows(x.trace_prompts, q.trace_uid == _x.uid, q.prompt == condition.value).exists()


@dataclass(frozen=True, slots=True)
class _Tag:
    """The name stands in a column of its own."""

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        return (Column(_x.name) if condition.key == TRACE_NAME else _TAGS).meets(condition, sqlite=sqlite)


@dataclass(frozen=True, slots=True)
class _Span:
    """Of a query over spans."""

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        key = condition.key
        if key in _SPAN_FIELDS:
            return compare(_SPAN_FIELDS[key], condition, sqlite=sqlite)
        if key in ("content", "text"):
            if condition.op not in ("LIKE", "ILIKE"):
                raise Invalid(f"The {key} of spans is compared with LIKE or ILIKE.", param="filter")
            # Texts stand in the JSON with their quotes and line ends escaped.
            escaped = replace(condition, value=json.dumps(condition.value, ensure_ascii=False)[1:-1])
            return sa.or_(compare(_p.attributes, escaped, sqlite=sqlite), compare(_p.name, condition, sqlite=sqlite))
        name = key.removeprefix("attributes.")
        if name == key or not name:
            raise Invalid(f"Spans have no {key!r}: use name, type, status, content or attributes.<name>.", param="filter")
        if sqlite:
            entry = sa.func.json_each(_p.attributes).table_valued("key", "value", name="entry")
            value: Expr = sa.cast(entry.c.value, sa.Text)
        else:
            entry = sa.func.json_each_text(sa.cast(_p.attributes, sa.JSON)).table_valued("key", "value", name="entry")
            value = entry.c.value
        return rows(entry, entry.c.key == name, compare(value, condition, sqlite=sqlite)).exists()


@dataclass(frozen=True, slots=True)
class _Assessed:
    kind: str

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        mine = rows(x.trace_assessments, _a.trace_uid == _x.uid, _a.kind == self.kind, _a.name == condition.key, _a.valid == 1)
        if condition.op == "IS NULL":
            return ~mine.exists()
        if condition.op == "IS NOT NULL":
            return mine.exists()
        if isinstance(condition.value, str) and condition.op in ("=", "!="):
            # Strings are told with their quotes; true, false and numbers may be asked for as strings, too.
            same = _a.value.in_([condition.value, json.dumps(condition.value, ensure_ascii=False)])
            return mine.where(same if condition.op == "=" else ~same).exists()
        if isinstance(condition.value, str) and condition.op not in ("LIKE", "ILIKE", "RLIKE"):
            raise Invalid(f"{condition.op} compares {self.kind} with a number, without quotes.", param="filter")
        column = _a.value if isinstance(condition.value, str) else _a.number
        return mine.where(compare(column, condition, sqlite=sqlite)).exists()


_TAGS = Entries(x.trace_tags, x.trace_tags.c.trace_uid, _x.uid)
_FIELDS: Fields = {
    "attribute": {
        **{key: Column(column) for key, column in _COLUMNS.items()},
        "run_id": Linked(x.trace_runs, x.trace_runs.c.trace_uid == _x.uid, x.trace_runs.c.run_id),
        "prompt": _Prompt(),
        "text": _Span(),
    },
    "tag": _Tag(),
    "metadata": Entries(x.trace_metadata, x.trace_metadata.c.trace_uid, _x.uid),
    "span": _Span(),
    "feedback": _Assessed("feedback"),
    "expectation": _Assessed("expectation"),
}
