"""Searches over repos and versions: a list of conditions becomes one SQL statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.registry import reading
from drivetrain.registry import tables as t
from drivetrain.registry.model import Clause

_REPO = {name: t.repos.c[name] for name in ("name", "slug", "kind", "description", "created_ms", "updated_ms")}
_TEXTS = frozenset({"name", "slug", "kind", "description", "run_id", "model_id", "source", "status", "stage"})
_VERSION = {
    "name": t.repos.c.name,
    **{name: t.versions.c[name] for name in ("number", "run_id", "model_id", "source", "status", "stage", "created_ms", "updated_ms")},
}


def repos(workspace_id: str, clauses: Sequence[Clause], order_by: Sequence[tuple[str, bool]], *, sqlite: bool) -> sa.Select[Any]:
    query = sa.select(t.repos).where(t.repos.c.workspace_id == workspace_id)
    for clause in clauses:
        query = query.where(_condition(clause, _REPO, t.repo_tags, t.repo_tags.c.repo_id, t.repos.c.id, sqlite))
    return query.order_by(*_order(order_by, _REPO, sqlite), _text(t.repos.c.name, sqlite), t.repos.c.id)


def versions(workspace_id: str, clauses: Sequence[Clause], order_by: Sequence[tuple[str, bool]], *, sqlite: bool) -> sa.Select[Any]:
    query = reading.select_versions().where(t.versions.c.workspace_id == workspace_id)
    for clause in clauses:
        query = query.where(_condition(clause, _VERSION, t.version_tags, t.version_tags.c.version_id, t.versions.c.id, sqlite))
    order = _order(order_by, _VERSION, sqlite) or [t.versions.c.updated_ms.desc()]
    return query.order_by(*order, _text(t.repos.c.name, sqlite), t.versions.c.number.desc())


def _order(order_by: Sequence[tuple[str, bool]], columns: Mapping[str, sa.Column[Any]], sqlite: bool) -> list[sa.ColumnElement[Any]]:
    """Rows that lack the key come last, whatever the direction."""
    terms: list[sa.ColumnElement[Any]] = []
    for key, ascending in order_by:
        column = _column(key, columns)
        if column.nullable:
            terms.append(sa.case((column.is_(None), 1), else_=0))
        expr = _text(column, sqlite) if key in _TEXTS else column
        terms.append(expr.asc() if ascending else expr.desc())
    return terms


def _text(column: sa.Column[Any], sqlite: bool) -> sa.ColumnElement[Any]:
    """Ordered by code points: SQLite does so by itself."""
    return column if sqlite else sa.collate(column, "C")


def _column(key: str, columns: Mapping[str, sa.Column[Any]]) -> sa.Column[Any]:
    if key not in columns:
        raise Invalid(f"There is no key {key!r} to search or order by: use one of {', '.join(columns)}.", param="filter")
    return columns[key]


def _condition(
    clause: Clause,
    columns: Mapping[str, sa.Column[Any]],
    tags: sa.Table,
    owner: sa.Column[Any],
    subject: sa.Column[Any],
    sqlite: bool,
) -> sa.ColumnElement[bool]:
    entity, dot, tag = clause.key.partition(".")
    if not dot or entity not in ("tag", "tags"):
        return _compare(_column(clause.key, columns), clause, sqlite)
    mine = sa.select(owner).where(owner == subject, tags.c.key == tag)
    if clause.op == "IS NULL":
        return ~mine.exists()
    if clause.op == "IS NOT NULL":
        return mine.exists()
    return mine.where(_compare(tags.c.value, clause, sqlite)).exists()


def _compare(column: sa.Column[Any], clause: Clause, sqlite: bool) -> sa.ColumnElement[bool]:
    # A version's number is a short integer, and PostgreSQL takes no longer one to compare it with.
    value = sa.literal(clause.value, sa.BigInteger) if isinstance(clause.value, int) else clause.value
    match clause.op:
        case "=":
            return column == value
        case "!=" if column.nullable:
            return sa.or_(column.is_(None), column != value)
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
            return _like(column, str(value), sqlite)
        case "ILIKE":
            pattern = str(value) if sqlite else _unescaped(str(value))
            return sa.func.lower(column).like(sa.func.lower(pattern))
        case "IN" if isinstance(value, tuple):
            return column.in_(value)
        case "NOT IN" if isinstance(value, tuple):
            return sa.or_(column.is_(None), column.not_in(value)) if column.nullable else column.not_in(value)
        case "IS NULL":
            return column.is_(None)
        case "IS NOT NULL":
            return column.is_not(None)
        case _:
            raise Invalid(f"{clause.op!r} does not compare {clause.key!r}.", param="filter")


def _like(column: sa.Column[Any], pattern: str, sqlite: bool) -> sa.ColumnElement[bool]:
    """LIKE that minds case. SQLite's does not; its GLOB does."""
    if not sqlite:
        return column.like(_unescaped(pattern))
    return column.op("GLOB", is_comparison=True)("".join(_GLOB.get(letter, letter) for letter in pattern))


def _unescaped(pattern: str) -> str:
    """PostgreSQL reads a backslash as an escape; here it is a letter."""
    return pattern.replace("\\", "\\\\")


_GLOB = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
