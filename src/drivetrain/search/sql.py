"""Conditions as SQL, the same on both databases: case is minded, text is ordered by code points, nothing is escaped.

A noun declares where its fields are kept: a column, rows of key and value, rows of key and number, rows of another table. What a missing
value means is told in `conditions`: each condition is true or false, so below a `Not` the databases' NULL is made false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.search.conditions import And, Condition, Node, Not, Or, Value
from drivetrain.store import patterns

Expr = sa.ColumnElement[Any]
Bool = sa.ColumnElement[bool]


class Source(Protocol):
    """Where the values of a field, or of all keys of an entity, are."""

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool: ...


Fields = Mapping[str, Source | Mapping[str, Source]]
"""Entity → its source, or its keys' sources."""


def where(node: Node, fields: Fields, *, sqlite: bool) -> Bool:
    """What `node` says of a row of the noun that has these `fields`."""
    return _where(node, fields, sqlite, False)


def _where(node: Node, fields: Fields, sqlite: bool, below_not: bool) -> Bool:
    match node:
        case And(parts):
            return sa.and_(sa.true(), *(_where(part, fields, sqlite, below_not) for part in parts))
        case Or(parts):
            return sa.or_(sa.false(), *(_where(part, fields, sqlite, below_not) for part in parts))
        case Not(part):
            return sa.not_(_where(part, fields, sqlite, True))
        case Condition():
            found = source_of(node, fields).meets(node, sqlite=sqlite)
            # Where it stands by itself, NULL does what false does, and indexes are used.
            return sa.func.coalesce(found, sa.false(), type_=sa.Boolean) if below_not and not isinstance(found, sa.Exists) else found


def source_of(condition: Condition, fields: Fields) -> Source:
    source = fields.get(condition.entity)
    if isinstance(source, Mapping):
        if condition.key not in source:
            raise Invalid(f"There is no key {condition.key!r} to search by: use one of {', '.join(source)}.", param="filter")
        return source[condition.key]
    if source is None:
        raise Invalid(f"Nothing is kept of {condition.entity} {condition.key!r} to search by.", param="filter")
    return source


@dataclass(frozen=True, slots=True)
class Column:
    """A value of the row itself. `missing`: what is compared in place of a value that is not there."""

    expr: Expr
    missing: str | None = None

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        if self.missing is None or (condition.op == "=" and condition.value != self.missing):
            return compare(self.expr, condition, sqlite=sqlite)
        return compare(sa.func.coalesce(self.expr, self.missing), condition, sqlite=sqlite)


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows of key and value in `table`, those whose `owner` is the `subject`. `key`: the one that is meant, whatever the condition's."""

    table: sa.Table
    owner: Expr
    subject: Expr
    key: str | None = None

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        mine = rows(self.table, self.owner == self.subject, self.table.c.key == (self.key or condition.key))
        if condition.op == "IS NULL":
            return ~mine.exists()
        if condition.op == "IS NOT NULL":
            return mine.exists()
        return mine.where(compare(self.table.c.value, condition, sqlite=sqlite)).exists()


@dataclass(frozen=True, slots=True)
class Numbers:
    """Rows of key and number. NaN differs from every number and compares with none. `narrowed`: which rows are meant beside."""

    table: sa.Table
    owner: Expr
    subject: Expr
    narrowed: Bool | None = None

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        mine = rows(self.table, self.owner == self.subject, self.table.c.key == condition.key)
        if self.narrowed is not None:
            mine = mine.where(self.narrowed)
        if condition.op == "IS NULL":
            return ~mine.exists()
        if condition.op == "IS NOT NULL":
            return mine.exists()
        return mine.where(of_number(self.table, condition, sqlite=sqlite)).exists()


@dataclass(frozen=True, slots=True)
class Linked:
    """A value in rows of another table, those that the `link` names: one of them meets the condition."""

    table: sa.FromClause
    link: Bool
    value: Expr

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        mine = rows(self.table, self.link)
        if condition.op == "IS NULL":
            return ~mine.where(self.value.is_not(None)).exists()
        return mine.where(compare(self.value, condition, sqlite=sqlite)).exists()


def rows(table: sa.FromClause, *conditions: Bool) -> sa.Select[Any]:
    """Rows that only have to be there."""
    return sa.select(sa.literal(1)).select_from(table).where(*conditions)


def compare(column: Expr, condition: Condition, *, sqlite: bool) -> Bool:
    """`column` op value."""
    value: Value | Expr = condition.value
    if isinstance(value, (int, float)) and isinstance(column.type, sa.Integer):
        # A number must not take on the type of a column of integers, which holds no fraction, and of some no long one.
        value = sa.literal(value, sa.Double if isinstance(value, float) else sa.BigInteger)
    match condition.op:
        case "=":
            return column == value
        case "!=":
            return column != value
        case ">" | ">=" | "<" | "<=":
            return (text(column, sqlite=sqlite) if isinstance(value, str) else column).op(condition.op, is_comparison=True)(value)
        case "LIKE":
            return _like(column, str(condition.value), sqlite)
        case "ILIKE":
            return _ilike(column, str(condition.value), sqlite)
        case "IN" if isinstance(value, tuple):
            return column.in_(value)
        case "NOT IN" if isinstance(value, tuple):
            return column.not_in(value)
        case "RLIKE":
            return _rlike(column, str(condition.value), sqlite)
        case "IS NULL":
            return column.is_(None)
        case "IS NOT NULL":
            return column.is_not(None)
    raise Invalid(f"{condition.op} cannot be used with {condition.key!r}.", param="filter")


def of_number(table: Any, condition: Condition, *, sqlite: bool) -> Bool:
    """A condition on a stored number that may be NaN."""
    plain = compare(table.c.value, condition, sqlite=sqlite)
    return sa.or_(table.c.nan == 1, plain) if condition.op == "!=" else sa.and_(table.c.nan == 0, plain)


def text(column: Expr, *, sqlite: bool) -> Expr:
    """For ordering by code points: SQLite does so by itself."""
    return column if sqlite else sa.collate(column, "C")


def _like(column: Expr, pattern: str, sqlite: bool) -> Bool:
    if not sqlite:
        return column.like(_unescaped(pattern))
    # SQLite's LIKE does not mind case; its GLOB does.
    return column.op("GLOB", is_comparison=True)("".join(_GLOB.get(letter, letter) for letter in pattern))


def _ilike(column: Expr, pattern: str, sqlite: bool) -> Bool:
    if not sqlite:
        return column.ilike(_unescaped(pattern))
    return column.like(pattern)


def _unescaped(pattern: str) -> str:
    """PostgreSQL reads a backslash as an escape; here it is a letter."""
    return pattern.replace("\\", "\\\\")


def _rlike(column: Expr, pattern: str, sqlite: bool) -> Bool:
    written = patterns.in_postgres(pattern)  # raises what is wrong with it, whichever database it is for
    if not sqlite:
        return column.op("~", is_comparison=True)(written)
    return sa.Function(patterns.FUNCTION, sa.literal(pattern), column, type_=sa.Boolean())


_GLOB = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
