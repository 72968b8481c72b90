"""A search over traces as SQL. Each experiment is asked by its index over time; what several answer is put together here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.search import sql as compare
from drivetrain.search.grammar import Condition, Order, parse_filter, parse_order
from drivetrain.search.sql import Term
from drivetrain.tags import TRACE_NAME
from drivetrain.tracking.finders import from_token
from drivetrain.tracking.languages import TRACES
from drivetrain.tracking.traces import tables as x

MAX_PATTERN = 200
_REPEATED_GROUP = re.compile(r"\)[*+{]")

_x, _p, _a = x.traces.c, x.trace_spans.c, x.trace_assessments.c
_FIELDS: dict[str, sa.ColumnElement[Any]] = {
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
    where = conditions(parse_filter(filter, TRACES), sqlite=sqlite)
    terms = _terms(parse_order(order_by, TRACES), sqlite)
    if token:
        where.append(compare.after(terms, from_token(token, len(terms))))
    query = sa.select(x.traces).where(*where).add_columns(*(term.expr.label(f"_{n}") for n, term in enumerate(terms)))
    query = query.order_by(*(term.expr.asc() if term.ascending else term.expr.desc() for term in terms)).limit(limit + 1)
    rows: list[sa.Row[Any]] = []
    for uid in experiment_uids:
        rows += c.execute(query.where(_x.experiment_uid == uid)).all()
    if len(experiment_uids) > 1:
        for n, term in reversed(list(enumerate(terms))):
            rows.sort(key=itemgetter(n - len(terms)), reverse=not term.ascending)
    return rows[:limit], list(rows[limit - 1][-len(terms) :]) if len(rows) > limit else None


def _terms(orders: Sequence[Order], sqlite: bool) -> list[Term]:
    terms: list[Term] = []
    for order in orders:
        if order.entity == "attribute" and order.key in _FIELDS:
            expr: sa.ColumnElement[Any] = _FIELDS[order.key]
            number = order.key.endswith("_ms")
        elif order.entity in _MAPS:
            table, number = _MAPS[order.entity], False
            expr = (
                sa.select(table.c.value).where(table.c.trace_uid == _x.uid, table.c.key == order.key).correlate(x.traces).scalar_subquery()
            )
        else:
            raise Invalid(f"Traces are not ordered by {order.entity} {order.key!r}: use {', '.join(sorted(_FIELDS))}, tags or metadata.")
        if order.key not in ("timestamp_ms", "request_id", "status"):  # what is missing comes last
            terms.append(Term(sa.case((expr.is_(None), _LAST), else_=_FIRST)))
            expr = sa.func.coalesce(expr, 0 if number else "")
        terms.append(Term(expr if number else compare.text(expr, sqlite=sqlite), order.ascending, "number" if number else "string"))
    if not terms:
        terms.append(Term(_x.start_ms, False))
    terms.append(Term(compare.text(_x.trace_id, sqlite=sqlite) if orders else _x.trace_id, False, "string"))
    return terms


def conditions(given: Sequence[Condition], *, sqlite: bool) -> list[sa.ColumnElement[bool]]:
    """Conditions on spans are met by one span that meets them all."""
    found: list[sa.ColumnElement[bool]] = []
    of_one_span: list[sa.ColumnElement[bool]] = []
    for condition in given:
        if condition.entity == "span" or (condition.entity, condition.key) == ("attribute", "text"):
            of_one_span.append(_of_span(condition, sqlite))
        elif condition.entity in ("feedback", "expectation"):
            found.append(_assessed(condition, sqlite))
        elif condition.entity == "tag" and condition.key == TRACE_NAME:
            found.append(_compare(_x.name, condition, sqlite))
        elif condition.entity in _MAPS:
            found.append(_of_map(_MAPS[condition.entity], condition, sqlite))
        elif condition.key == "run_id":
            r = x.trace_runs.c
            linked = sa.select(sa.literal(1)).select_from(x.trace_runs).where(r.trace_uid == _x.uid)
            found.append(linked.where(_compare(r.run_id, condition, sqlite)).exists())
        elif condition.key == "prompt":
            if condition.op != "=" or str(condition.value).count("/") != 1:
                raise Invalid("A prompt is asked for by its name and version: prompt = 'name/version'.", param="filter")
            q = x.trace_prompts.c
            found.append(sa.select(sa.literal(1)).where(q.trace_uid == _x.uid, q.prompt == condition.value).exists())
        else:
            found.append(_compare(_FIELDS[condition.key], condition, sqlite))
    if of_one_span:
        found.append(sa.select(sa.literal(1)).select_from(x.trace_spans).where(_p.trace_uid == _x.uid, *of_one_span).exists())
    return found


def _compare(column: sa.ColumnElement[Any], condition: Condition, sqlite: bool) -> sa.ColumnElement[bool]:
    if condition.op == "IS NULL":
        return column.is_(None)
    if condition.op == "IS NOT NULL":
        return column.is_not(None)
    if condition.op == "RLIKE":
        return column.regexp_match(_pattern(str(condition.value)))
    return compare.compare(column, condition, sqlite=sqlite)


def _of_map(table: sa.Table, condition: Condition, sqlite: bool) -> sa.ColumnElement[bool]:
    mine = sa.select(sa.literal(1)).select_from(table).where(table.c.trace_uid == _x.uid, table.c.key == condition.key)
    if condition.op == "IS NULL":
        return ~mine.exists()
    return (mine if condition.op == "IS NOT NULL" else mine.where(_compare(table.c.value, condition, sqlite))).exists()


def _of_span(condition: Condition, sqlite: bool) -> sa.ColumnElement[bool]:
    key = condition.key
    if key in _SPAN_FIELDS:
        return _compare(_SPAN_FIELDS[key], condition, sqlite)
    if key in ("content", "text"):
        if condition.op not in ("LIKE", "ILIKE"):
            raise Invalid(f"The {key} of spans is compared with LIKE or ILIKE.", param="filter")
        # Texts stand in the JSON with their quotes and line ends escaped.
        escaped = Condition(condition.entity, key, condition.op, json.dumps(condition.value, ensure_ascii=False)[1:-1])
        return sa.or_(compare.compare(_p.attributes, escaped, sqlite=sqlite), compare.compare(_p.name, condition, sqlite=sqlite))
    name = key.removeprefix("attributes.")
    if name == key or not name:
        raise Invalid(f"Spans have no {key!r}: use name, type, status, content or attributes.<name>.", param="filter")
    if sqlite:
        entry = sa.func.json_each(_p.attributes).table_valued("key", "value", name="entry")
        value: sa.ColumnElement[Any] = sa.cast(entry.c.value, sa.Text)
    else:
        entry = sa.func.json_each_text(sa.cast(_p.attributes, sa.JSON)).table_valued("key", "value", name="entry")
        value = entry.c.value
    return sa.select(sa.literal(1)).select_from(entry).where(entry.c.key == name, _compare(value, condition, sqlite)).exists()


def _assessed(condition: Condition, sqlite: bool) -> sa.ColumnElement[bool]:
    mine = sa.select(sa.literal(1)).select_from(x.trace_assessments)
    mine = mine.where(_a.trace_uid == _x.uid, _a.kind == condition.entity, _a.name == condition.key, _a.valid == 1)
    if condition.op == "IS NULL":
        return ~mine.exists()
    if condition.op == "IS NOT NULL":
        return mine.exists()
    if isinstance(condition.value, str) and condition.op in ("=", "!="):
        # Strings are told with their quotes; true, false and numbers may be asked for as strings, too.
        same = _a.value.in_([condition.value, json.dumps(condition.value, ensure_ascii=False)])
        return mine.where(same if condition.op == "=" else ~same).exists()
    if isinstance(condition.value, str) and condition.op not in ("LIKE", "ILIKE", "RLIKE"):
        raise Invalid(f"{condition.op} compares {condition.entity} with a number, without quotes.", param="filter")
    column = _a.value if isinstance(condition.value, str) else _a.number
    return mine.where(_compare(column, condition, sqlite)).exists()


def _pattern(text: str) -> str:
    """A regular expression that cannot keep the server busy for ever."""
    if len(text) > MAX_PATTERN or _REPEATED_GROUP.search(text):
        raise Invalid(f"A pattern of RLIKE has at most {MAX_PATTERN} characters, and no group that is repeated.", param="filter")
    try:
        re.compile(text)
    except re.error as error:
        raise Invalid(f"{text!r} is no regular expression: {error}.", param="filter") from None
    return text
