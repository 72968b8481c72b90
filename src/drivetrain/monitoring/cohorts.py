"""How right the answers are, by the labels that came for them: by cohort of answers, with the share that has labels and an interval.

A label counts for the time of its answer, not for that of its coming: late labels change the past, as they should.
"""

from __future__ import annotations

from drivetrain.feedback import labelled
from drivetrain.monitoring.accuracy import Label
from drivetrain.monitoring.model import Cohort
from drivetrain.monitoring.quality import wilson
from drivetrain.store.sql import Database


def cohorts(db: Database, deployment: str, *, since_ms: int, until_ms: int, step_ms: int) -> list[Cohort]:
    """The cohorts of a deployment (its id) that have labels, in the order of time."""
    rows = labelled.counted(db, deployment, since_ms=since_ms, until_ms=until_ms, step_ms=step_ms)
    found = []
    for row in rows:
        low, high = wilson(row.right, row.labelled)
        found.append(
            Cohort(
                variant=row.variant,
                from_ms=since_ms + row.slot * step_ms,
                labelled=row.labelled,
                right=row.right,
                accuracy=row.right / row.labelled,
                low=low,
                high=high,
                delay_ms=row.delay_ms,
            )
        )
    return found


def arrived(db: Database, deployment: str, variant: str, *, after: str, until_ms: int, most: int) -> list[Label]:
    """The labels of a version's answers that came after the one with this id ("": all) and before `until_ms`, in the order in which they
    came; at most `most`. Of an answer with several labels, the first one: those hang together."""
    found = labelled.arrived(db, deployment, variant, after=after, until_ms=until_ms, most=most)
    return [Label(row.id, row.event_ms, row.created_ms, not row.correct) for row in found]
