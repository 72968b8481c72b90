"""Saved views: ways of looking at the table of runs that a workspace shares by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert
from drivetrain.tracking import checks
from drivetrain.tracking.runs import tables as t

MOST_VIEWS = 500
MOST_QUERY = 16_000

_v = t.saved_views.c


class SavedView(Struct, frozen=True):
    """`query` is what the page's address says after the question mark; `user` who saved it last."""

    name: str
    query: str
    user: str
    updated_ms: int


@dataclass(frozen=True, slots=True)
class Views:
    db: Database

    def all(self, ctx: Context) -> list[SavedView]:
        """The workspace's saved views by their names."""
        ctx.require(Scope.read)
        query = sa.select(_v.name, _v.query, _v.user_name, _v.updated_ms).where(_v.workspace_id == ctx.workspace_id)
        with self.db.read() as c:
            return [SavedView(*row) for row in c.execute(query.order_by(sa.func.lower(_v.name), _v.name))]

    def save(self, ctx: Context, name: str, query: str) -> SavedView:
        """Keep a view under a name; a view that has it already is replaced. Raises `Invalid`."""
        ctx.require(Scope.write)
        name = checks.name(" ".join(name.split()), "a view", 120)
        if len(query) > MOST_QUERY:
            raise Invalid("This view is too long to be saved: choose fewer columns or pins.", param="query")
        now = now_ms()
        row: dict[str, Any] = {"name": name, "query": query, "user_name": ctx.user_name[:256], "updated_ms": now}
        mine = _v.workspace_id == ctx.workspace_id
        with self.db.write() as c:
            if c.scalar(sa.select(_v.id).where(mine, _v.name == name)) is None:
                there = c.scalar(sa.select(sa.func.count()).select_from(t.saved_views).where(mine)) or 0
                if there >= MOST_VIEWS:
                    raise Invalid(f"This workspace has {MOST_VIEWS} saved views: delete one first.", param="name")
            new = row | {"id": uuid7(), "workspace_id": ctx.workspace_id, "created_ms": now}
            upsert(c, t.saved_views, [new], key=["workspace_id", "name"], update=["query", "user_name", "updated_ms"])
        return SavedView(name, query, ctx.user_name, now)

    def delete(self, ctx: Context, name: str) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            gone = c.execute(t.saved_views.delete().where(_v.workspace_id == ctx.workspace_id, _v.name == name)).rowcount
        if not gone:
            raise NotFound(f"There is no saved view {checks.shown(name)} in this workspace.", param="name")
