"""Finding the rows of traces of the caller's workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.store.sql import chunked
from drivetrain.tracking.checks import shown
from drivetrain.tracking.traces import tables as x


def trace_row(c: sa.Connection, ctx: Context, trace_id: str) -> sa.Row[Any]:
    t = x.traces.c
    row = c.execute(sa.select(x.traces).where(t.workspace_id == ctx.workspace_id, t.trace_id == trace_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no trace {shown(trace_id)} in this workspace.", param="trace_id")
    return row


def trace_rows(c: sa.Connection, ctx: Context, trace_ids: Sequence[str]) -> list[sa.Row[Any]]:
    """Those that are there, in the order asked for."""
    found: dict[str, sa.Row[Any]] = {}
    for some in chunked(dict.fromkeys(trace_ids)):
        mine = sa.select(x.traces).where(x.traces.c.workspace_id == ctx.workspace_id, x.traces.c.trace_id.in_(some))
        found |= {row.trace_id: row for row in c.execute(mine)}
    return [found[one] for one in dict.fromkeys(trace_ids) if one in found]
