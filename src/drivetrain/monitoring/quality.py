"""How right the answers were that people got: events joined with the labels that came for them, by request id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any

from drivetrain.feedback.labels import prediction, same
from drivetrain.monitoring.model import Quality
from drivetrain.store.events.model import Event


def quality(events: Iterable[Event], labels: Mapping[str, Any]) -> Quality:
    """Compare predictions with labels (a scalar by request id). Answers of several rows carry no single label and do not count."""
    requests = labelled = right = 0
    for event in events:
        if event.error or event.shadow:
            continue
        requests += 1
        if event.id not in labels:
            continue
        found = prediction(event.output)
        if found is None:
            continue
        labelled += 1
        right += same(found, labels[event.id])
    if not labelled:
        return Quality(requests, 0, 0, None, None, None)
    low, high = wilson(right, labelled)
    return Quality(requests, labelled, right, right / labelled, low, high)


def wilson(right: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, JASA 22, 1927, eq. for p-bar; no continuity correction)."""
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)
