"""Experiments: named groups of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.search.conditions import And
from drivetrain.search.grammar import parse_filter, parse_order
from drivetrain.search.languages import EXPERIMENTS
from drivetrain.search.paging import Term, page
from drivetrain.search.sql import Column, Entries, Fields, text, where
from drivetrain.store import maps
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.deletion.tables import numbers
from drivetrain.tracking.finders import ensure_default, experiment_row, location
from drivetrain.tracking.model import PURGING, Experiment, Page, View
from drivetrain.tracking.runs.loading import lived

MAX_PAGE = 50_000

_e = t.experiments.c
_FIELDS: Fields = {
    "attribute": {
        "name": Column(_e.name),
        "experiment_id": Column(sa.cast(_e.number, sa.String)),
        "creation_time": Column(_e.created_ms),
        "last_update_time": Column(_e.updated_ms),
    },
    "tag": Entries(t.experiment_tags, t.experiment_tags.c.experiment_uid, _e.uid),
}


@dataclass(frozen=True, slots=True)
class Experiments:
    db: Database

    def create(self, ctx: Context, name: str, *, artifact_location: str = "", tags: Mapping[str, str] | None = None) -> Experiment:
        """Raises `Conflict` if there is one of that name, be it a deleted one."""
        ctx.require(Scope.write)
        checks.name(name, "an experiment")
        checks.tags(tags or {}, limit=checks.MAX_EXPERIMENT_TAG)
        _check_location(artifact_location)
        ensure_default(self.db, ctx)
        while True:
            try:
                return self._create(ctx, name, artifact_location, tags or {})
            except sa.exc.IntegrityError:  # another server took the name or the number at this very moment
                continue

    def _create(self, ctx: Context, name: str, artifact_location: str, tags: Mapping[str, str]) -> Experiment:
        e = t.experiments.c
        now = now_ms()
        with self.db.write() as c:
            other = c.execute(sa.select(t.experiments).where(e.workspace_id == ctx.workspace_id, e.name == name)).one_or_none()
            if other is not None:
                advice = {
                    "active": "Use it, or choose another name.",
                    PURGING: "It is being deleted for good: its name is free in a moment.",
                }.get(other.lifecycle, f"It is deleted, which keeps its name: restore it (id {other.number}), or choose another name.")
                raise Conflict(f"There is an experiment named {name!r} already. {advice}", param="name")
            gone = sa.select(numbers.c.highest.label("n")).where(numbers.c.workspace_id == ctx.workspace_id)
            known = sa.select(sa.func.max(e.number).label("n")).where(e.workspace_id == ctx.workspace_id).union_all(gone).subquery()
            highest = c.scalar(sa.select(sa.func.max(known.c.n)))
            values = {
                "workspace_id": ctx.workspace_id,
                "number": (highest or 0) + 1,
                "name": name,
                "lifecycle": "active",
                "artifact_location": artifact_location,
                "created_ms": now,
                "updated_ms": now,
            }
            uid = c.execute(t.experiments.insert().values(**values).returning(e.uid)).scalar_one()
            maps.put(c, t.experiment_tags, uid, tags)
            return _experiments(c, [c.execute(sa.select(t.experiments).where(e.uid == uid)).one()])[0]

    def get(self, ctx: Context, experiment_id: str) -> Experiment:
        ctx.require(Scope.read)
        ensure_default(self.db, ctx, experiment_id)
        with self.db.read() as c:
            return _experiments(c, [experiment_row(c, ctx, experiment_id)])[0]

    def find(self, ctx: Context, name: str) -> Experiment:
        """By name; a deleted one is found too. Raises `NotFound`."""
        ctx.require(Scope.read)
        if name == "Default":
            ensure_default(self.db, ctx)
        e = t.experiments.c
        with self.db.read() as c:
            row = c.execute(sa.select(t.experiments).where(e.workspace_id == ctx.workspace_id, e.name == name)).one_or_none()
            if row is None:
                raise NotFound(f"There is no experiment named {checks.shown(name)} in this workspace: create it first.", param="name")
            return _experiments(c, [row])[0]

    def all(self, ctx: Context, *, limit: int = 1000) -> list[Experiment]:
        """The workspace's active experiments, the latest changed first."""
        return self.search(ctx, limit=limit).items

    def search(
        self,
        ctx: Context,
        *,
        filter: str | None = None,  # noqa: A002  the word of every client
        view: View = View.active,
        order_by: Sequence[str] = (),
        limit: int = 1000,
        token: str | None = None,
    ) -> Page[Experiment]:
        """Experiments that meet the filter; default order: the latest changed first."""
        ctx.require(Scope.read)
        check_limit(limit, MAX_PAGE)
        ensure_default(self.db, ctx)
        sqlite = self.db.kind == "sqlite"
        e = t.experiments.c
        query = sa.select(t.experiments).where(e.workspace_id == ctx.workspace_id)
        if view is not View.all:
            query = query.where(e.lifecycle == view.value)
        query = query.where(where(And(parse_filter(filter, EXPERIMENTS)), _FIELDS, sqlite=sqlite))
        columns: dict[str, Any] = {
            "name": text(e.name, sqlite=sqlite),
            "experiment_id": e.number,
            "creation_time": e.created_ms,
            "last_update_time": e.updated_ms,
        }
        orders = parse_order(order_by, EXPERIMENTS)
        if any(order.entity != "attribute" for order in orders):
            raise Invalid("Experiments are ordered by their attributes: name, experiment_id, creation_time, last_update_time.")
        terms = [Term(columns[o.key], o.ascending, "string" if o.key == "name" else "number") for o in orders] or [
            Term(e.updated_ms, False)
        ]
        terms.append(Term(e.number, False))
        with self.db.read() as c:
            rows, more = page(c, query, terms, limit, token)
            return Page(_experiments(c, rows), more)

    def rename(self, ctx: Context, experiment_id: str, name: str) -> None:
        ctx.require(Scope.write)
        checks.name(name, "an experiment")
        e = t.experiments.c
        with self.db.write() as c:
            row = experiment_row(c, ctx, experiment_id, writable=True)
            taken = sa.select(e.uid).where(e.workspace_id == ctx.workspace_id, e.name == name, e.uid != row.uid)
            if c.scalar(taken) is not None:
                raise Conflict(f"There is an experiment named {name!r} already: choose another name.", param="new_name")
            c.execute(t.experiments.update().where(e.uid == row.uid).values(name=name, updated_ms=now_ms()))

    def delete(self, ctx: Context, experiment_id: str) -> None:
        """Hide an experiment and its runs; `restore_experiment` brings both back."""
        self._set_lifecycle(ctx, experiment_id, "active", "deleted")

    def restore(self, ctx: Context, experiment_id: str) -> None:
        self._set_lifecycle(ctx, experiment_id, "deleted", "active")

    def _set_lifecycle(self, ctx: Context, experiment_id: str, before: str, after: str) -> None:
        ctx.require(Scope.write)
        now = now_ms()
        e, r = t.experiments.c, t.runs.c
        with self.db.write() as c:
            uid = experiment_row(c, ctx, experiment_id).uid
            row = c.execute(sa.select(t.experiments).where(e.uid == uid).with_for_update()).one()
            if row.lifecycle == PURGING:
                raise Conflict(f"The experiment {experiment_id} is being deleted for good, with its runs: it cannot be restored any more.")
            if row.lifecycle != before:
                raise NotFound(f"The experiment {experiment_id} is {row.lifecycle}, not {before}.", param="experiment_id")
            c.execute(t.experiments.update().where(e.uid == row.uid).values(lifecycle=after, updated_ms=now))
            # Runs that were deleted one by one stay so when the experiment comes back: their time of deletion is another.
            mine = t.runs.update().where(r.experiment_uid == row.uid, r.lifecycle == before)
            if after == "active":
                mine = mine.where(r.deleted_ms == row.updated_ms)
            c.execute(mine.values(lifecycle=after, deleted_ms=None if after == "active" else now))

    def set_tag(self, ctx: Context, experiment_id: str, key: str, value: str) -> None:
        ctx.require(Scope.write)
        checks.tags({key: value}, limit=checks.MAX_EXPERIMENT_TAG)
        ensure_default(self.db, ctx, experiment_id)
        with self.db.write() as c:
            row = experiment_row(c, ctx, experiment_id, writable=True)
            maps.put(c, t.experiment_tags, row.uid, {key: value})
            c.execute(t.experiments.update().where(t.experiments.c.uid == row.uid).values(updated_ms=now_ms()))

    def delete_tag(self, ctx: Context, experiment_id: str, key: str) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = experiment_row(c, ctx, experiment_id, writable=True)
            if not maps.drop(c, t.experiment_tags, row.uid, key):
                raise NotFound(f"The experiment {experiment_id} has no tag {checks.shown(key)}.", param="key")


def check_limit(limit: int, most: int) -> int:
    if not 0 < limit <= most:
        raise Invalid(f"A page holds 1 to {most} results, not {limit}: follow the page token for more.", param="max_results")
    return limit


def _check_location(text: str) -> None:
    bad = ".." in text.split("/") or "#" in text or "?" in text or "\x00" in text or len(text) > 2000
    if text and (bad or ":" not in text.partition("/")[0]):
        raise Invalid(
            f"{checks.shown(text)} cannot be an artifact location: leave it out to keep artifacts on this server, or name a store by its "
            "address, as s3://bucket/folder, without '..', '?' or '#'.",
            param="artifact_location",
        )


def _experiments(c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Experiment]:
    tags = maps.read(c, t.experiment_tags, (row.uid for row in rows))
    return [
        Experiment(
            id=str(row.number),
            name=row.name,
            lifecycle=lived(row),
            artifact_location=location(row, row.number),
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            tags=tags.get(row.uid, {}),
            uid=row.uid,
        )
        for row in rows
    ]
