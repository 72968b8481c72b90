"""Orders and pages: the next page begins after the values that the page before ended with, not after so many rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.search.conditions import Kind
from drivetrain.search.sql import Expr
from drivetrain.search.tokens import from_token, to_token
from drivetrain.store.sql import INT64


@dataclass(frozen=True, slots=True)
class Term:
    """One term of an order. `expr` is never null; its values are of `kind`."""

    expr: Expr
    ascending: bool = True
    kind: Kind = "number"


def page(
    c: sa.Connection, query: sa.Select[Any], terms: Sequence[Term], limit: int, token: str | None
) -> tuple[list[sa.Row[Any]], str | None]:
    """The rows of one page, and the next page's token (None: that was all). The last of the `terms` is different for each row."""
    found, ends = stretch(c, query, terms, limit, from_token(token, len(terms)) if token else None)
    return found, to_token(ends) if ends is not None else None


def stretch(
    c: sa.Connection, query: sa.Select[Any], terms: Sequence[Term], limit: int, start: Sequence[Any] | None
) -> tuple[list[sa.Row[Any]], list[Any] | None]:
    """The same with the values of the terms themselves in place of tokens. The rows end with these values."""
    rows = c.execute(ordered(query, terms, limit + 1, start)).all() if limit > 0 else []
    return list(rows[:limit]), list(rows[limit - 1][-len(terms) :]) if len(rows) > limit else None


def ordered(query: sa.Select[Any], terms: Sequence[Term], limit: int, start: Sequence[Any] | None) -> sa.Select[Any]:
    if start is not None:
        query = query.where(after(terms, start))
    query = query.add_columns(*(term.expr.label(f"_{n}") for n, term in enumerate(terms)))
    return query.order_by(*(term.expr.asc() if term.ascending else term.expr.desc() for term in terms)).limit(limit)


def after(terms: Sequence[Term], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """The rows that follow the one with these `values` in the order of `terms`."""
    if len(values) != len(terms) or not all(_fits(term.kind, value) for term, value in zip(terms, values, strict=True)):
        raise Invalid("The page token is not one of this search: ask with the same order as for the page before.", param="page_token")
    values = [sa.literal(value, sa.Double) if isinstance(value, float) else value for value in values]
    alternatives: list[sa.ColumnElement[bool]] = []
    equal: list[sa.ColumnElement[bool]] = []
    for term, value in zip(terms, values, strict=True):
        beyond = term.expr > value if term.ascending else term.expr < value
        alternatives.append(sa.and_(*equal, beyond))
        equal.append(term.expr == value)
    first, value = terms[0], values[0]
    # Says nothing new, but in a form that an index can start from.
    hint = first.expr >= value if first.ascending else first.expr <= value
    return sa.and_(hint, sa.or_(*alternatives))


def _fits(kind: Kind, value: Any) -> bool:
    if kind == "string":
        return isinstance(value, str) and "\x00" not in value
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and -INT64 <= value < INT64)
