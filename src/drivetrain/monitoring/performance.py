"""How right the answers are, by the labels that came for them: by cohort of answers, with the share that has labels and an interval.

A label counts for the time of its answer, not for that of its coming: late labels change the past, as they should.
"""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.feedback.tables import feedback as table
from drivetrain.monitoring.accuracy import Label
from drivetrain.monitoring.quality import wilson
from drivetrain.store.ids import first_id
from drivetrain.store.sql import Database


class Cohort(Struct, frozen=True, kw_only=True):
    """The answers of a variant from `from_ms` on, for one step. `delay_ms`: how long labels took, on average."""

    variant: str
    from_ms: int
    labelled: int
    right: int
    accuracy: float
    low: float
    high: float
    delay_ms: float


def cohorts(db: Database, deployment: str, *, since_ms: int, until_ms: int, step_ms: int) -> list[Cohort]:
    """The cohorts of a deployment (its id) that have labels, in the order of time."""
    slot = (table.c.event_ms - since_ms) / step_ms
    at = sa.cast(sa.func.floor(slot), sa.BigInteger).label("slot")
    right = sa.func.sum(sa.case((table.c.correct, 1), else_=0)).label("right_")
    delay = sa.func.avg(table.c.created_ms - table.c.event_ms).label("delay")
    query = sa.select(table.c.variant, at, sa.func.count().label("labelled"), right, delay).where(
        table.c.deployment == deployment,
        table.c.event_ms >= since_ms,
        table.c.event_ms < until_ms,
        table.c.kind == "label",
        table.c.correct.is_not(None),
    )
    with db.read() as c:
        rows = c.execute(query.group_by(table.c.variant, sa.text("slot")).order_by(sa.text("slot"))).all()
    found = []
    for row in rows:
        low, high = wilson(row.right_, row.labelled)
        found.append(
            Cohort(
                variant=row.variant,
                from_ms=since_ms + int(row.slot) * step_ms,
                labelled=row.labelled,
                right=row.right_,
                accuracy=row.right_ / row.labelled,
                low=low,
                high=high,
                delay_ms=float(row.delay),
            )
        )
    return found


def arrived(db: Database, deployment: str, variant: str, *, after: str, until_ms: int, most: int) -> list[Label]:
    """The labels of a version's answers that came after the one with this id ("": all) and before `until_ms`, in the order in which they
    came; at most `most`. Of an answer with several labels, the first one: those hang together."""
    other = table.alias()
    earlier = sa.exists().where(
        other.c.workspace_id == table.c.workspace_id,
        other.c.request_id == table.c.request_id,
        other.c.kind == "label",
        other.c.id < table.c.id,
    )
    query = sa.select(table.c.id, table.c.event_ms, table.c.created_ms, table.c.correct).where(
        table.c.deployment == deployment,
        table.c.id > after,
        table.c.id < first_id(until_ms),
        table.c.variant == variant,
        table.c.kind == "label",
        table.c.correct.is_not(None),
        ~earlier,
    )
    with db.read() as c:
        return [Label(row.id, row.event_ms, row.created_ms, not row.correct) for row in c.execute(query.order_by(table.c.id).limit(most))]
