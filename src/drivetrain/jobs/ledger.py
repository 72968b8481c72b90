"""Which stages were done, in the database: the server's side of `stages`."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from drivetrain.errors import Conflict
from drivetrain.jobs.model import Done, StageDone
from drivetrain.jobs.tables import stages as t
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import upsert


def done(c: sa.Connection, works: Sequence[str], order: Sequence[str]) -> dict[str, tuple[StageDone, ...]]:
    """What was done of each of these works, in the order of their stages."""
    found: dict[str, list[StageDone]] = {work: [] for work in works}
    for row in c.execute(sa.select(t).where(t.c.work.in_(works))):
        found[row.work].append(StageDone(stage=row.stage, at_ms=row.at_ms, words=row.words, facts=row.facts, undo=row.undo))
    return {work: tuple(sorted(some, key=lambda one: order.index(one.stage))) for work, some in found.items()}


def write(c: sa.Connection, work: str, stage: str, what: Done) -> None:
    """Write down that a stage was done. Said again, it stays as it was said first."""
    row = {"work": work, "stage": str(stage), "at_ms": now_ms(), "words": what.words, "facts": what.facts, "undo": what.undo}
    upsert(c, t, [row], key=["work", "stage"])


def advance(c: sa.Connection, work: str, order: Sequence[str], stage: str, what: Done) -> bool:
    """Write down that the next stage was done; False if it was done before. Raises `Conflict` for one whose turn it is not."""
    before = {one.stage for one in done(c, [work], order)[work]}
    if stage in before:
        return False
    following = next((one for one in order if one not in before), None)
    if stage != following:
        raise Conflict(f"{stage} is not the next stage: that is {following}.")
    write(c, work, stage, what)
    return True
