"""The media of a run: what rows of its history hold that is neither number nor text."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from drivetrain.identity.model import Context, Scope
from drivetrain.tracking.finders import tuples
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.history.service import Details

MOST_LOOKED_AT = 20_000


class Media(Details):
    def media_rows(self, ctx: Context, run_id: str, *, limit: int = 50) -> list[tuple[int, dict[str, Any]]]:
        """(step, row) of the last rows with media, the newest first. Media that came before very many other rows are not found."""
        ctx.require(Scope.read)
        b = d.run_rows.c
        newest = sa.select(b.step, b.body).where(b.run_id == run_id).order_by(b.step.desc()).limit(MOST_LOOKED_AT).subquery()
        query = sa.select(newest).where(newest.c.body.contains('"_type"', autoescape=True)).order_by(newest.c.step.desc()).limit(limit)
        with self.db.read() as c:
            self._run(c, ctx, run_id)
            return [(step, json.loads(body)) for step, body in tuples(c, query)]
