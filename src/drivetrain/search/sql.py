"""Conditions and orders as SQL, the same on both databases: case is minded, text is ordered by code points, nothing is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.search.grammar import Condition, Kind, Value
from drivetrain.store.sql import INT64

Expr = sa.ColumnElement[Any]


def compare(column: Expr, condition: Condition, *, sqlite: bool) -> sa.ColumnElement[bool]:
    """`column` op value. Values that are null meet nothing but IS NULL."""
    # A number with a fraction must not take on the type of a column of integers.
    value: Value | Expr = sa.literal(condition.value, sa.Double) if isinstance(condition.value, float) else condition.value
    match condition.op:
        case "=":
            return column == value
        case "!=":
            return column != value
        case ">":
            return column > value
        case ">=":
            return column >= value
        case "<":
            return column < value
        case "<=":
            return column <= value
        case "LIKE":
            return _like(column, str(condition.value), sqlite)
        case "ILIKE":
            return _ilike(column, str(condition.value), sqlite)
        case "IN" if isinstance(value, tuple):
            return column.in_(value)
        case "NOT IN" if isinstance(value, tuple):
            return column.not_in(value)
    raise Invalid(f"{condition.op} cannot be used with {condition.key!r}.", param="filter")


def of_map(table: sa.Table, owner: Expr, subject: Expr, condition: Condition, *, sqlite: bool) -> sa.ColumnElement[bool]:
    """A condition on an entry (key, value) that the `subject` has in a table of such entries."""
    mine = sa.select(sa.literal(1)).select_from(table).where(owner == subject, table.c.key == condition.key)
    if condition.op == "IS NULL":
        return ~mine.exists()
    if condition.op == "IS NOT NULL":
        return mine.exists()
    return mine.where(compare(table.c.value, condition, sqlite=sqlite)).exists()


def of_metric(table: Any, condition: Condition, *, sqlite: bool) -> sa.ColumnElement[bool]:
    """A condition on a stored number that may be NaN; NaN differs from every number and compares with none."""
    plain = compare(table.c.value, condition, sqlite=sqlite)
    return sa.or_(table.c.nan == 1, plain) if condition.op == "!=" else sa.and_(table.c.nan == 0, plain)


@dataclass(frozen=True, slots=True)
class Term:
    """One term of an order. `expr` is never null; its values are of `kind`."""

    expr: Expr
    ascending: bool = True
    kind: Kind = "number"


def after(terms: Sequence[Term], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """The rows that follow the one with these `values` in the order of `terms`."""
    if not all(_fits(term.kind, value) for term, value in zip(terms, values, strict=True)):
        raise Invalid("The page token is not one of this search.", param="page_token")
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


def text(column: Expr, *, sqlite: bool) -> Expr:
    """For ordering by code points: SQLite does so by itself."""
    return column if sqlite else sa.collate(column, "C")


def _like(column: Expr, pattern: str, sqlite: bool) -> sa.ColumnElement[bool]:
    if not sqlite:
        return column.like(_unescaped(pattern))
    # SQLite's LIKE does not mind case; its GLOB does.
    return column.op("GLOB", is_comparison=True)("".join(_GLOB.get(letter, letter) for letter in pattern))


def _ilike(column: Expr, pattern: str, sqlite: bool) -> sa.ColumnElement[bool]:
    if not sqlite:
        return column.ilike(_unescaped(pattern))
    return column.like(pattern)


def _unescaped(pattern: str) -> str:
    """PostgreSQL reads a backslash as an escape; here it is a letter."""
    return pattern.replace("\\", "\\\\")


_GLOB = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
