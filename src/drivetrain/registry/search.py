"""Searches over repos and versions: what is kept where, and in which order it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.registry import loading
from drivetrain.registry import tables as t
from drivetrain.search.conditions import And, Condition
from drivetrain.search.sql import Column, Entries, Fields, text, where

_r, _v = t.repos.c, t.versions.c
_REPO = {name: _r[name] for name in ("name", "slug", "kind", "description", "created_ms", "updated_ms")}
_VERSION = {
    "name": _r.name,
    **{name: _v[name] for name in ("number", "run_id", "model_id", "source", "status", "stage", "created_ms", "updated_ms")},
}
_OF_REPOS: Fields = {
    "attribute": {key: Column(column) for key, column in _REPO.items()},
    "tag": Entries(t.repo_tags, t.repo_tags.c.repo_id, _r.id),
}
# A version that no run and no logged model made is told to clients with empty ids.
_OF_VERSIONS: Fields = {
    "attribute": {key: Column(column, missing="" if key in ("run_id", "model_id") else None) for key, column in _VERSION.items()},
    "tag": Entries(t.version_tags, t.version_tags.c.version_id, _v.id),
}


def repos(workspace_id: str, conditions: Sequence[Condition], order_by: Sequence[tuple[str, bool]], *, sqlite: bool) -> sa.Select[Any]:
    query = sa.select(t.repos).where(_r.workspace_id == workspace_id, where(And(conditions), _OF_REPOS, sqlite=sqlite))
    return query.order_by(*_order(order_by, _REPO, sqlite), text(_r.name, sqlite=sqlite), _r.id)


def versions(workspace_id: str, conditions: Sequence[Condition], order_by: Sequence[tuple[str, bool]], *, sqlite: bool) -> sa.Select[Any]:
    query = loading.select_versions().where(_v.workspace_id == workspace_id, where(And(conditions), _OF_VERSIONS, sqlite=sqlite))
    order = _order(order_by, _VERSION, sqlite) or [_v.updated_ms.desc()]
    return query.order_by(*order, text(_r.name, sqlite=sqlite), _v.number.desc())


def _order(order_by: Sequence[tuple[str, bool]], columns: Mapping[str, sa.Column[Any]], sqlite: bool) -> list[sa.ColumnElement[Any]]:
    """Rows that lack the key come last, whatever the direction."""
    terms: list[sa.ColumnElement[Any]] = []
    for key, ascending in order_by:
        if key not in columns:
            raise Invalid(f"There is no key {key!r} to order by: use one of {', '.join(columns)}.", param="order_by")
        column = columns[key]
        if column.nullable:
            terms.append(sa.case((column.is_(None), 1), else_=0))
        expr = text(column, sqlite=sqlite) if isinstance(column.type, sa.String) else column
        terms.append(expr.asc() if ascending else expr.desc())
    return terms
