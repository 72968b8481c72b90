"""Runs: begin, end, find, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.search.conditions import Node
from drivetrain.search.tokens import to_token
from drivetrain.store import maps
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database
from drivetrain.tags import RUN_NAME, USER
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.experiments import MAX_PAGE, check_limit
from drivetrain.tracking.finders import ensure_default, experiment_row, run_row
from drivetrain.tracking.model import PURGING, RUN_STATUSES, Page, Run, View
from drivetrain.tracking.runs import loading, search
from drivetrain.tracking.runs.names import random_name

_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Runs:
    db: Database

    def create(
        self,
        ctx: Context,
        experiment_id: str = "0",
        *,
        name: str | None = None,
        user: str | None = None,
        start_ms: int | None = None,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Begin a run. Its name is kept as a tag too; without one it gets a random name. With a `run_id` of its client's choice
        (32 hex digits), the same again finds the run that it made."""
        ctx.require(Scope.write)
        tags = dict(checks.tags(tags or {}))
        tagged = tags.get(RUN_NAME)
        if name and tagged and name != tagged:
            raise Invalid(f"The run's name {name!r} and its tag {RUN_NAME} {tagged!r} differ: give one of them.", param="run_name")
        tags[RUN_NAME] = checks.name(name or tagged or random_name(), "a run", 250)
        user = user or tags.get(USER) or ctx.user_name
        ensure_default(self.db, ctx, experiment_id)
        if run_id is not None and not _RUN_ID.fullmatch(run_id):
            raise Invalid(f"{checks.shown(run_id)} cannot be the id of a run: choose 32 lower-case hex digits.", param="run_id")
        chosen, run_id = run_id is not None, run_id or uuid7()
        now = now_ms()
        row = {
            "id": run_id,
            "workspace_id": ctx.workspace_id,
            "name": tags[RUN_NAME],
            "user_name": user[:256],
            "status": "RUNNING",
            "lifecycle": "active",
            "start_ms": checks.int64(start_ms, "start time") if start_ms else now,
            "created_ms": now,
        }
        with self.db.write() as c:
            if chosen and c.scalar(sa.select(t.runs.c.id).where(t.runs.c.id == run_id)) is not None:
                return loading.runs(c, [run_row(c, ctx, run_id)])[0]
            experiment = experiment_row(c, ctx, experiment_id, writable=True)
            c.execute(t.runs.insert().values(**row, experiment_uid=experiment.uid))
            maps.put(c, t.run_tags, run_id, tags)
            return loading.runs(c, [run_row(c, ctx, run_id)])[0]

    def get(self, ctx: Context, run_id: str) -> Run:
        """The run with all that hangs on it; deleted runs are found too."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            return loading.runs(c, [run_row(c, ctx, run_id)])[0]

    def get_many(self, ctx: Context, run_ids: Sequence[str]) -> list[Run]:
        """Those of the runs that are there, in the order asked for."""
        ctx.require(Scope.read)
        wanted = list(dict.fromkeys(run_ids))[:MAX_PAGE]
        rows: dict[str, sa.Row[Any]] = {}
        with self.db.read() as c:
            for start in range(0, len(wanted), 500):
                r = t.runs.c
                query = sa.select(t.runs).where(r.workspace_id == ctx.workspace_id, r.id.in_(wanted[start : start + 500]))
                rows.update({row.id: row for row in c.execute(query)})
            return loading.runs(c, [rows[run_id] for run_id in wanted if run_id in rows])

    def update(self, ctx: Context, run_id: str, *, status: str | None = None, end_ms: int | None = None, name: str | None = None) -> Run:
        """Change what is given; the answer has no params, tags and metrics."""
        ctx.require(Scope.write)
        values: dict[str, Any] = {}
        if status is not None:
            if status not in RUN_STATUSES:
                raise Invalid(f"{status!r} is no status of a run: use one of {', '.join(RUN_STATUSES)}.", param="status")
            values["status"] = status
        if end_ms is not None:
            values["end_ms"] = checks.int64(end_ms, "end time")
        if name:
            values["name"] = checks.name(name, "a run", 250)

        with self.db.write() as c:
            row = run_row(c, ctx, run_id, writable=True)
            if values:
                c.execute(t.runs.update().where(t.runs.c.id == run_id).values(**values))
            if name:
                maps.put(c, t.run_tags, run_id, {RUN_NAME: name})
            row = run_row(c, ctx, run_id)
            return loading.run_info(c, row)

    def delete(self, ctx: Context, run_id: str) -> None:
        """Hide a run; `restore_run` brings it back."""
        self._set_run_lifecycle(ctx, run_id, "deleted", now_ms())

    def restore(self, ctx: Context, run_id: str) -> None:
        self._set_run_lifecycle(ctx, run_id, "active", None)

    def _set_run_lifecycle(self, ctx: Context, run_id: str, lifecycle: str, deleted_ms: int | None) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = run_row(c, ctx, run_id)
            e = t.experiments.c
            experiment = c.execute(sa.select(t.experiments).where(e.uid == row.experiment_uid).with_for_update(read=True)).one()
            # Whoever begins to delete it for good locks its row first: one of the two comes second, and sees what the other has done.
            row = c.execute(sa.select(t.runs).where(t.runs.c.id == run_id).with_for_update()).one()
            if row.lifecycle == PURGING or experiment.lifecycle == PURGING:
                if lifecycle == "deleted":
                    return
                raise Conflict(f"The run {run_id} is being deleted for good, with all that it logged: it cannot be restored any more.")
            if lifecycle == "active" and experiment.lifecycle != "active":
                raise Conflict(f"The run's experiment {experiment.name!r} is deleted: restore that ({experiment.number}) first.")
            if row.lifecycle != lifecycle:
                c.execute(t.runs.update().where(t.runs.c.id == run_id).values(lifecycle=lifecycle, deleted_ms=deleted_ms))

    def delete_tag(self, ctx: Context, run_id: str, key: str) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            run_row(c, ctx, run_id, writable=True)
            if not maps.drop(c, t.run_tags, run_id, key):
                raise NotFound(f"The run {run_id} has no tag {checks.shown(key)}.", param="key")

    def search(
        self,
        ctx: Context,
        experiment_ids: Sequence[str],
        *,
        filter: str | Node | None = None,  # noqa: A002  the word of every client
        view: View = View.active,
        order_by: Sequence[str] = (),
        limit: int = 1000,
        token: str | None = None,
    ) -> Page[Run]:
        """Runs of the experiments that meet the filter; default order: the latest begun first.

        Unknown experiments have no runs. Runs that lack a key to order by come last in either direction, NaN before them.
        """
        ctx.require(Scope.read)
        check_limit(limit, MAX_PAGE)
        plan = search.Plan.of(filter, order_by)
        numbers = [int(one) for one in experiment_ids if one.isascii() and one.isdigit() and len(one) < 10]
        e = t.experiments.c
        with self.db.read() as c:
            uids: list[int] = []
            for start in range(0, len(numbers), 500):
                some = sa.select(e.uid).where(e.workspace_id == ctx.workspace_id, e.number.in_(numbers[start : start + 500]))
                uids.extend(c.scalars(some))
            if not uids:
                return Page([])
            rows, ends = search.run_rows(c, plan, sorted(uids), view, limit, token)
            return Page(loading.runs(c, rows), to_token(ends) if ends is not None else None)

    def count(self, ctx: Context, experiment_id: str, *, view: View = View.active) -> int:
        ctx.require(Scope.read)
        r = t.runs.c
        with self.db.read() as c:
            row = experiment_row(c, ctx, experiment_id)
            query = sa.select(sa.func.count()).select_from(t.runs).where(r.experiment_uid == row.uid)
            if view is not View.all:
                query = query.where(r.lifecycle == view.value)
            return int(c.scalar(query) or 0)
