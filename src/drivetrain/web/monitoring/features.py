"""The rows of a drift report: what was compared, how far apart it is, and whether that is more than chance shows."""

from __future__ import annotations

import math

from drivetrain.monitoring.drift.model import Feature, Report
from drivetrain.monitoring.drift.report import LEAST_MISSING
from drivetrain.web import format as fmt
from drivetrain.web.monitoring.distributions import Pair, effect_bar, overlay
from drivetrain.web.monitoring.views import FeatureRow
from drivetrain.web.views import State

_MEASURES = {
    "wasserstein": "Wasserstein, in robust deviations",
    "proportion": "Cohen’s h of the shares",
    "jensen_shannon": "Jensen–Shannon",
    "ks": "Kolmogorov–Smirnov",
    "psi": "PSI",
    "chi_square": "Cramér's V",
    "total_variation": "total variation",
    "missing": "difference of shares",
}
_LEAST_SCALE = 0.3


def rows(report: Report, *, least_effect: float) -> list[FeatureRow]:
    """By effect, the greatest first; those that have drifted before all others."""
    scale = max([_LEAST_SCALE, 2 * least_effect, *(one.effect for one in report.features)])
    return [_row(one, report, scale, least_effect) for one in report.features]


def _row(one: Feature, report: Report, scale: float, least_effect: float) -> FeatureRow:
    least = LEAST_MISSING if one.measure == "missing" else least_effect
    if not report.enough:
        state = State("Too few rows", "idle")
    elif one.drifted:
        state = State("Drifted", "warn", f"its effect is at least {fmt.number(least)}, and chance alone hardly ever shows as much")
    elif one.effect >= least:
        state = State("By chance?", "idle", "the effect is large, but so it is in windows of this size without drift")
    else:
        state = State("Calm", "good")
    bars = [Pair(bar.label, bar.reference, bar.live) for bar in one.bars]
    label = f"{one.name}: reference and live. {one.words}" if one.words else f"{one.name}: reference and live"
    effect = fmt.number(one.effect, 2)
    return FeatureRow(
        name=one.name,
        kind=one.kind,
        state=state,
        drawing=overlay(bars, steps=one.kind in ("numeric", "time"), label=label),
        effect=effect,
        bar=effect_bar(
            one.effect, least, one.expected, scale, drifted=one.drifted, label=f"effect {effect}, matters from {fmt.number(least)}"
        ),
        measure=_MEASURES.get(one.measure, one.measure.replace("_", " ")),
        chance=_chance(one),
        words=one.words,
    )


def _chance(one: Feature) -> str:
    usual = f"by chance {fmt.number(one.expected, 2)}" if one.expected and math.isfinite(one.expected) else ""
    seldom = f"q {'< 0.0001' if one.q < 1e-4 else fmt.number(one.q, 2)}"
    return f"{usual} · {seldom}" if usual else seldom
