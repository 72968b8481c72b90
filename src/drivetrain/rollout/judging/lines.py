"""Where a value begins to be bad, when the plan does not say: at the quantile of the stable version's own values."""

from __future__ import annotations

import re

from drivetrain.rollout.counting.measures import Measure
from drivetrain.rollout.model import Rollout
from drivetrain.store.events.counters import MICRO, histogram, quantile
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database

DAY_MS = 86_400_000
_FEWEST = {0.5: 50, 0.95: 100, 0.99: 300}
_HISTOGRAMS = {"latency": ("latency", 1), "ttft": ("ttft", 1), "tokens_out": ("tokens_each", 1), "cost": ("cost_each", MICRO)}
"""By the stem of a measure's name: the counters that hold its histogram, and how many of their units are one of the measure's."""


def line_of(db: Database, rollout: Rollout, measure: Measure) -> float | None:
    """The line for one measure, from the last day; None while the stable version has too few values. A fixed line does not move."""
    if measure.quantile is None:
        return None
    name, unit = _HISTOGRAMS[re.sub(r"_p\d+$", "", measure.name)]
    now = now_ms()
    counted = histogram(db, rollout.deployment_id, rollout.stable, name, since_ms=now - DAY_MS, until_ms=now + DAY_MS)
    found = quantile(counted, measure.quantile) if sum(counted.values()) >= _FEWEST.get(measure.quantile, 100) else None
    return found / unit if found is not None else None
