"""The evidence over time, thinned, for the curves of a rollout's page."""

from __future__ import annotations

import math
from collections.abc import Sequence

import sqlalchemy as sa

from drivetrain.rollout import tables as t
from drivetrain.rollout.ledger import Book
from drivetrain.rollout.model import CurvePoint, Evidence
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, upsert

FIRST_MS = 1000.0
POINTS = 300
"""A rollout that has run for a time T gets a point each T / POINTS at most, so that a long one does not fill the table."""


class _Pen:
    def __init__(self, number: int) -> None:
        self.number = number
        self.passed = 0.0
        self.drawn = -math.inf
        self.last: dict[int, Evidence] = {}


class Curves:
    """Draws what a loop sees. What is kept in memory is only where the pen is."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._pens: dict[str, _Pen] = {}

    def draw(self, book: Book, evidence: Sequence[Evidence], passed_ms: float, *, now: bool = False) -> None:
        """One look at the evidence, `passed_ms` after the last. Written down when it is time, when a verdict has changed, or `now`."""
        pen = self._pens.get(book.rollout.id) or self._new(book.rollout.id)
        pen.passed += passed_ms
        places = [i if i < len(book.guards) else -1 for i in range(len(evidence))]
        seen = dict(zip(places, evidence, strict=True))
        turned = any(guard not in pen.last or pen.last[guard].verdict != one.verdict for guard, one in seen.items())
        due = pen.passed - pen.drawn >= max(FIRST_MS, pen.passed / POINTS)
        changed = {guard: one for guard, one in seen.items() if pen.last.get(guard) != one}
        if not changed or not (turned or due or now):
            return
        pen.number += 1
        pen.drawn = pen.passed
        pen.last = seen
        at = {"rollout_id": book.rollout.id, "number": pen.number, "at_ms": now_ms(), "phase": book.rollout.phase}
        rows = [at | _row(guard, one, logs=not _mean(book, guard)) for guard, one in changed.items()]
        with self._db.write() as c:
            upsert(c, t.evidence, rows, key=["rollout_id", "guard", "number"])

    def forget(self, rollout_id: str) -> None:
        self._pens.pop(rollout_id, None)

    def _new(self, rollout_id: str) -> _Pen:
        with self._db.read() as c:
            mine = t.evidence.c.rollout_id == rollout_id
            pen = self._pens[rollout_id] = _Pen(c.scalar(sa.select(sa.func.max(t.evidence.c.number)).where(mine)) or 0)
        return pen


def curves(c: sa.Connection, rollout_id: str) -> list[CurvePoint]:
    """All points, in order of time."""
    query = sa.select(t.evidence).where(t.evidence.c.rollout_id == rollout_id).order_by(t.evidence.c.number, t.evidence.c.guard)
    return [CurvePoint(**{name: getattr(row, name) for name in CurvePoint.__struct_fields__}) for row in c.execute(query)]


def _mean(book: Book, guard: int) -> bool:
    return guard >= 0 and book.rollout.plan.guardrails[guard].measure.endswith("_mean")


def _row(guard: int, one: Evidence, *, logs: bool) -> dict[str, object]:
    value, threshold = one.value, one.threshold
    if logs:
        value = math.log(value) if value is not None and value > 0 else None
        threshold = math.log(threshold) if threshold is not None and threshold > 0 else None
    return {
        "guard": guard,
        "verdict": one.verdict.value,
        "value": value,
        "threshold": threshold,
        "canary_units": one.canary_units,
        "canary_bad": one.canary_bad,
        "stable_units": one.stable_units,
        "stable_bad": one.stable_bad,
    }
