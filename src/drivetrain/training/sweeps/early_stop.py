"""Hyperband: which runs are worse than others were after as many iterations, so that going on with them is a waste.

A run is judged at brackets, numbers of iterations (values of the metric) that grow by the factor eta. At each, what the best 1/eta of all
runs had there is the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivetrain.errors import Invalid

MOST_BRACKETS = 64
_KNOWN = frozenset({"type", "min_iter", "max_iter", "s", "eta", "strict"})


@dataclass(frozen=True, slots=True)
class Hyperband:
    """`strict`: judge a run by the metric at the bracket; else by its best value so far, which forgives more."""

    brackets: tuple[int, ...]
    eta: float
    strict: bool


def parse(given: object) -> Hyperband:
    """Raises `Invalid`."""
    if not isinstance(given, dict) or given.get("type") != "hyperband":
        raise Invalid("early_terminate must be a mapping with type: hyperband, the one way to stop early.", param="early_terminate")
    if unknown := sorted(given.keys() - _KNOWN):
        raise Invalid(
            f"early_terminate has an unknown key {unknown[0]!r}; known are: {', '.join(sorted(_KNOWN))}.", param="early_terminate"
        )
    eta = _positive(given, "eta", 3)
    if eta <= 1:
        raise Invalid(f"eta of early_terminate must be greater than 1, not {eta:g}: only the best 1/eta go on.", param="early_terminate")
    found: list[int] = []
    if "min_iter" in given:
        band = _positive(given, "min_iter", 1)
        while len(found) < MOST_BRACKETS and band < 1 << 53:
            found.append(int(band))
            band *= eta
    elif "max_iter" in given:
        band = _positive(given, "max_iter", 1)
        for _ in range(min(int(_positive(given, "s", 2)), MOST_BRACKETS)):
            band /= eta
            if band < 1:
                break
            found.append(int(band))
    else:
        raise Invalid("early_terminate needs min_iter, or max_iter and s.", param="early_terminate")
    brackets = tuple(sorted({band for band in found if band >= 1}))
    if not brackets:
        raise Invalid("early_terminate has no bracket: max_iter divided by eta is less than one iteration.", param="early_terminate")
    return Hyperband(brackets, eta, bool(given.get("strict", False)))


def measured(plan: Hyperband, history: Sequence[float], *, maximize: bool) -> dict[int, float]:
    """What a run had at each bracket that it has reached, as a loss."""
    losses = [-value if maximize else value for value in history]
    return {band: losses[band - 1] for band in plan.brackets if band <= len(losses)}


def to_stop(plan: Hyperband, history: Sequence[float], others: Sequence[Mapping[int, float]], *, maximize: bool) -> bool:
    """Whether the run with this history is to end. `others`: what all runs had at the brackets, this one too."""
    losses = [-value if maximize else value for value in history]
    for band in reversed(plan.brackets):
        here = sorted(one[band] for one in others if band in one)
        if band <= len(history) and len(here) > 1:  # alone at a bracket, it is the best there
            threshold = here[min(int(len(here) / plan.eta), len(here) - 1)]
            return (losses[band - 1] if plan.strict else min(losses)) > threshold
    return False


def _positive(given: Mapping[str, Any], key: str, default: float) -> float:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e15:
        raise Invalid(f"{key} of early_terminate must be a number greater than 0, not {value!r}.", param="early_terminate")
    return float(value)
