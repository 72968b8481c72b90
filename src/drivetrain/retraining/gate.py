"""The gate: is the challenger better than the champion? Judged on labelled answers that neither was trained on, pair by pair.

The interval of a mean difference is the betting interval of Waudby-Smith and Ramdas (JRSS-B 2023; see `rollout.statistics`), which holds
for every number of rows: a gate may be tried as often as one likes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from drivetrain.errors import Invalid
from drivetrain.feedback.labels import same
from drivetrain.retraining.model import Comparison, Gate, GateResult
from drivetrain.rollout.judging.statistics import mean_interval

CLASSES = 20
"""Whole numbers with more different values than this are quantities, not classes."""


def spread(labels: Sequence[Any]) -> float | None:
    """How far the labels of the training set lie apart, if they are quantities; None if they are classes. Of the training set and not of
    what is judged on, so that the judgement stays a fair one."""
    numbers = [float(label) for label in labels if isinstance(label, (int, float)) and not isinstance(label, bool)]
    if not numbers or len(numbers) < len(labels):
        return None
    if all(number.is_integer() for number in numbers) and len(set(numbers)) <= CLASSES:
        return None
    return (max(numbers) - min(numbers)) or None


def score(said: Any, label: Any, scale: float | None) -> float:
    """How good an answer was, from 0 to 1: right or wrong, or how near in shares of `scale`."""
    if scale is None:
        return float(same(said, label))
    try:
        distance = abs(float(said) - float(label)) / scale
    except (TypeError, ValueError):
        return 0.0
    return 1.0 - min(1.0, distance) if math.isfinite(distance) else 0.0


def compare(challenger: Sequence[float], champion: Sequence[float], alpha: float) -> Comparison:
    """Both scores of each row, challenger minus champion. Raises `Invalid` without rows."""
    rows = len(champion)
    if not rows:
        raise Invalid("There are no held-out answers to compare on.")
    pairs = list(zip(challenger, champion, strict=True))
    found = mean_interval(((new - old + 1.0) / 2.0 for new, old in pairs), alpha)
    return Comparison(
        rows=rows,
        challenger=sum(challenger) / rows,
        champion=sum(champion) / rows,
        difference=2.0 * found.point - 1.0,
        low=2.0 * found.low - 1.0,
        high=2.0 * found.high - 1.0,
        wins=sum(new > old for new, old in pairs),
        losses=sum(new < old for new, old in pairs),
    )


def judge(gate: Gate, challenger: Sequence[float], champion: Sequence[float], *, quantities: bool, names: tuple[str, str]) -> GateResult:
    """Whether the challenger may go on, and why. The scores are in the order of time; `names`: of the challenger and of the champion."""
    metric = "closeness" if quantities else "accuracy"
    new, old = names
    if len(champion) < gate.min_rows:
        words = (
            f"Only {len(champion)} labelled answers were held out; to compare {new} with {old} takes {gate.min_rows}. "
            f"{old} goes on, and {new} stays in the registry."
        )
        return GateResult(passed=False, words=words, metric=metric, champion=old)
    recent = compare(challenger[-gate.recent :], champion[-gate.recent :], gate.alpha)
    whole = compare(challenger, champion, gate.alpha)
    told = f"On the {recent.rows} newest labelled answers that were held out, {_said(recent, new, old, metric, gate.alpha)}"
    if recent.low <= gate.margin:
        need = f"more than {_points(gate.margin)} better" if gate.margin else "better"
        words = f"{told} That does not show that it is {need}: {old} goes on, and {new} stays in the registry."
        return GateResult(passed=False, words=words, metric=metric, recent=recent, all=whole, champion=old)
    if whole.rows > recent.rows and whole.low < -gate.allowed_loss:
        words = (
            f"{told} But on all {whole.rows} it may have lost more than {_points(gate.allowed_loss)}: "
            f"{_said(whole, new, old, metric, gate.alpha)} {old} goes on, and {new} stays in the registry."
        )
        return GateResult(passed=False, words=words, metric=metric, recent=recent, all=whole, champion=old)
    return GateResult(passed=True, words=told, metric=metric, recent=recent, all=whole, champion=old)


def _said(found: Comparison, new: str, old: str, metric: str, alpha: float) -> str:
    kind = {"accuracy": "right on"}.get(metric, "near by")
    better = "better" if found.difference >= 0 else "worse"
    return (
        f"{new} was {kind} {found.challenger:.1%}, {old} {kind} {found.champion:.1%}: {_points(abs(found.difference))} {better}, "
        f"with {1 - alpha:.0%} certainty between {found.low * 100:+.1f} and {found.high * 100:+.1f} points."
    )


def _points(share: float) -> str:
    return f"{share * 100:.1f} points"
