"""Two distributions beside each other, as few bars as people can look at, and what they say in words."""

from __future__ import annotations

from drivetrain.monitoring.drift.model import Bar
from drivetrain.profiles.model import Column
from drivetrain.profiles.sketch import Sketch, below, quantiles
from drivetrain.profiles.times import iso

BARS = 20
MOST_BARS = 12


def histogram(reference: Column, live: Column) -> tuple[list[Bar], str]:
    """The bars of two columns of numbers, and how their mean and spread have moved."""
    assert reference.sketch is not None and live.sketch is not None
    before, now = reference.sketch, live.sketch
    bars = [Bar(f"{start:.4g}", *pair) for start, *pair in _steps(before, now)]
    return bars, f"mean {before.mean:.4g} → {now.mean:.4g}, standard deviation {before.std:.4g} → {now.std:.4g}"


def times(reference: Column, live: Column) -> tuple[list[Bar], str]:
    """The bars of two columns of times, and from when to when they were."""
    assert reference.sketch is not None and live.sketch is not None
    bars = [Bar(iso(start // 60 * 60), *pair) for start, *pair in _steps(reference.sketch, live.sketch)]
    told = [f"{iso(side.low)} to {iso(side.high)}" for side in (reference.sketch, live.sketch)]
    return bars, f"they were from {told[0]}, now they are from {told[1]}"


def shares(reference: Column, live: Column) -> list[Bar]:
    """The commonest categories of both, and the others together."""
    before, now = max(1, reference.present), max(1, live.present)
    names = sorted(
        reference.counts.keys() | live.counts.keys(),
        key=lambda name: -(reference.counts.get(name, 0) / before + live.counts.get(name, 0) / now),
    )
    shown = sorted(names[:MOST_BARS], key=lambda name: (len(name), name))
    bars = [Bar(name, reference.counts.get(name, 0) / before, live.counts.get(name, 0) / now) for name in shown]
    if len(names) > MOST_BARS or reference.other or live.other:
        many = len(names) if reference.kind != "categorical" else max(len(names), reference.distinct, live.distinct)
        label = f"{many - len(shown):,} others" if many > len(shown) else "others"
        bars.append(Bar(label, 1 - sum(bar.reference for bar in bars), 1 - sum(bar.live for bar in bars)))
    return bars


def wording(reference: Column, live: Column) -> tuple[list[Bar], str]:
    """The words whose share of texts has changed most, and the greatest changes in words."""
    found = {
        name: (count / max(1, reference.present), live.counts.get(name, 0) / max(1, live.present))
        for name, count in reference.counts.items()
    }
    most = sorted(found, key=lambda name: -abs(found[name][1] - found[name][0]))[:MOST_BARS]
    bars = [Bar(name, *found[name]) for name in most]
    bars.append(Bar("none of the common words", reference.other / max(1, reference.present), live.other / max(1, live.present)))
    told = ", ".join(f"“{name}” in {found[name][0]:.0%} → {found[name][1]:.0%} of the texts" for name in most[:3])
    return bars, told


def _steps(reference: Sketch, live: Sketch) -> list[tuple[float, float, float]]:
    """Where each bar begins, and the shares of both in it. What is beyond the outermost two hundredths is in the first and last bar."""
    import numpy as np

    ends = np.concatenate([quantiles(one, np.array([0.005, 0.995])) for one in (reference, live)])
    low, high = float(ends.min()), float(ends.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BARS + 1)
    parts = [np.diff(np.concatenate([[0.0], below(one, edges[1:-1]), [1.0]])) for one in (reference, live)]
    return [(float(edges[i]), float(parts[0][i]), float(parts[1][i])) for i in range(BARS)]
