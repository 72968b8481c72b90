"""A run's history: rows of numbers, texts and media by step, and the lines of its console."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.identity.model import Context, Scope
from drivetrain.store.sql import Database, tuples
from drivetrain.tracking.finders import run_row
from drivetrain.tracking.history import entries, steps
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.model import Line
from drivetrain.tracking.values import Json

MAX_ROWS = 10_000
MOST_LOOKED_AT = 20_000


@dataclass(frozen=True, slots=True)
class History:
    db: Database

    def rows(
        self,
        ctx: Context,
        run_id: str,
        *,
        min_step: int = 0,
        max_step: int | None = None,
        limit: int = 1000,
        keys: Sequence[str] | None = None,
        sample: bool = False,
        system: bool = False,
    ) -> list[Json]:
        """Rows of the steps in [min_step, max_step), numbers and the rest merged. `keys`: rows that have all of them, and only these.

        With more than `limit` rows the first ones, or with `sample` ones at even distances. `system`: the system metrics instead.
        """
        ctx.require(Scope.read)
        limit = min(max(limit, 1), MAX_ROWS)
        with self.db.read() as c:
            row = run_row(c, ctx, run_id)
            series = entries.series(c, run_id, system=system)
            some, common = entries.sources(run_id, series, keys, system=system)
            if sample:
                at = steps.sample(c, some, min_step, max_step, limit, common=common)
            else:
                at = steps.everything(c, some, min_step, max_step, common=common)
            found = entries.merged(c, row, series, at if sample or keys is not None else at[:limit], keys, system=system)
        if keys is not None:
            found = [{key: one[key] for key in keys} for one in found if all(key in one for key in keys)][:limit]
        return found

    def count(self, ctx: Context, run_id: str) -> tuple[int, int]:
        """(rows, last step) of a run's history; (0, -1) for none."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            return entries.counted(c, run_id)

    def console(self, ctx: Context, run_id: str, *, after: int = -1, limit: int = 1000, last: bool = False) -> list[Line]:
        """Console lines with a greater number than `after`; `last`: the last ones."""
        ctx.require(Scope.read)
        n = d.run_lines.c
        query = sa.select(n.number, n.level, n.time, n.text).where(n.run_id == run_id, n.number > after)
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            found = [Line(*one) for one in tuples(c, query.order_by(n.number.desc() if last else n.number).limit(limit))]
        return found[::-1] if last else found

    def console_count(self, ctx: Context, run_id: str) -> int:
        ctx.require(Scope.read)
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            return entries.line_count(c, run_id)

    def media(self, ctx: Context, run_id: str, *, limit: int = 50) -> list[tuple[int, dict[str, Any]]]:
        """(step, row) of the last rows with media, the newest first. Media that came before very many other rows are not found."""
        ctx.require(Scope.read)
        b = d.run_rows.c
        newest = sa.select(b.step, b.body).where(b.run_id == run_id).order_by(b.step.desc()).limit(MOST_LOOKED_AT).subquery()
        query = sa.select(newest).where(newest.c.body.contains('"_type"', autoescape=True)).order_by(newest.c.step.desc()).limit(limit)
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            return [(step, json.loads(body)) for step, body in tuples(c, query)]
