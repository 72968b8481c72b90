"""Answers that have labels: how many were right, by variant and time of the answer, and the labels in the order in which they came."""

from __future__ import annotations

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.feedback.tables import feedback as table
from drivetrain.store.ids import first_id
from drivetrain.store.sql import Database


class Counted(Struct, frozen=True):
    """Of the answers of a variant in one step of time: how many have a label, how many of these were right, and how long labels took."""

    variant: str
    slot: int
    labelled: int
    right: int
    delay_ms: float


class Labelled(Struct, frozen=True):
    """The label of one answer, given at `created_ms`, and whether the answer was right."""

    id: str
    event_ms: int
    created_ms: int
    correct: bool


def counted(db: Database, deployment: str, *, since_ms: int, until_ms: int, step_ms: int) -> list[Counted]:
    """The answers of a deployment (its id) in [since_ms, until_ms) that have labels, in the order of time; `slot` counts steps from
    `since_ms` on."""
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
        rows = c.execute(query.group_by(table.c.variant, sa.text("slot")).order_by(sa.text("slot")))
        return [Counted(variant, int(slot), labelled, right, float(delay)) for variant, slot, labelled, right, delay in rows]


def arrived(db: Database, deployment: str, variant: str, *, after: str, until_ms: int, most: int) -> list[Labelled]:
    """The labels of a version's answers that came after the one with this id ("": all) and
    before `until_ms`, in the order in which they came; at most `most`. Of an answer with several labels, the first one: those hang
    together."""
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
        return [Labelled(*row) for row in c.execute(query.order_by(table.c.id).limit(most))]
