"""How far a live column is from its reference, by the measure that was chosen, and how often chance alone goes so far.

By default the effect is the Wasserstein distance on a robust scale or, of categories and words, the Jensen–Shannon distance, and chance is
what random splits of the rows show (see `chance`); columns of two values are compared by their shares. Other measures have textbook nulls,
which are used in their place.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from drivetrain.monitoring.drift import chance, proportions
from drivetrain.profiles.distance import jensen_shannon, ruler, wasserstein
from drivetrain.profiles.model import Column
from drivetrain.profiles.sketch import below, quantiles, weighted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Counts = npt.NDArray[np.int64]

Numeric = Literal["wasserstein", "ks", "psi", "jensen_shannon"]
Categorical = Literal["jensen_shannon", "psi", "chi_square", "total_variation"]
BINS = 10
LEAST_REFERENCE = 10
_LEAST_SHARE = 1e-4
_LEAST_EXPECTED = 5.0


class Found(NamedTuple):
    """`effect` by `measure`; `expected`: its mean without drift; `p`: how often it is so great without drift."""

    measure: str
    effect: float
    expected: float
    p: float


def numeric(measure: Numeric, reference: Column, live: Column) -> Found:
    """`wasserstein`: in robust standard deviations of the reference, see `distance.Ruler`; a column of two values by their shares
    (`proportion`). `ks`: the greatest distance of the distribution functions. `psi`, `jensen_shannon`: over the reference's deciles."""
    two = _proportion(reference, live)
    if measure == "wasserstein":
        return two or _wasserstein(reference, live)
    found = kolmogorov(reference, live) if measure == "ks" else _shared(measure, *_binned(reference, live))
    return found if two is None else found._replace(p=two.p)


def categorical(measure: Categorical, reference: Column, live: Column) -> Found:
    """`jensen_shannon`: of the categories that windows can tell apart, see `chance.apart`; of two values by their shares (`proportion`).
    `chi_square`: Cramér's V. `total_variation`: half the sum of the differences of the shares."""
    import numpy as np

    if reference.kind == "words":
        return _words(reference, live)
    two = _proportion(reference, live)
    if measure == "jensen_shannon" and two is not None:
        return two
    names = list(reference.counts | live.counts)
    before, now = (np.array([side.counts.get(name, 0) for name in names], dtype=np.int64) for side in (reference, live))
    if measure == "jensen_shannon":
        split = chance.of_categories(before, now, (reference.other, live.other))
        return Found(measure, split.effect, split.expected, _known(reference, split.p))
    found = _shared(measure, np.append(before, reference.other).astype(np.float64), np.append(now, live.other).astype(np.float64))
    return found if two is None else found._replace(p=two.p)


def _proportion(reference: Column, live: Column) -> Found | None:
    pair = proportions.shares(reference, live)
    if pair is None:
        return None
    n, m = (side.present if side.sketch is None else side.sketch.count for side in (reference, live))
    effect, usual = proportions.effect(pair[0] / n, pair[1] / m), proportions.expected(n, m)
    return Found("proportion", effect, usual, _known(reference, proportions.chance(pair[0], n, pair[1], m)))


def _wasserstein(reference: Column, live: Column) -> Found:
    """Its chance is that of the distance, or of the ranks (Kolmogorov and Smirnov), whichever is less, twice: where tails are heavy the
    distance is mostly that of the few values furthest out, and the ranks tell of the others."""
    assert reference.sketch is not None and live.sketch is not None
    scale = ruler(reference.sketch)
    effect = wasserstein(reference.sketch, live.sketch, scale)
    splits = chance.of_numbers(reference.sketch, live.sketch, scale)
    p = 2 * min(chance.beyond(effect, splits), kolmogorov(reference, live).p)
    return Found("wasserstein", effect, float(splits.mean()), _known(reference, min(1.0, p)))


def _words(reference: Column, live: Column) -> Found:
    """Words come together: no split of counts knows their chance, and no textbook. It was learned from the texts, at several sizes of
    windows; distances shrink as sqrt(1/n + 1/N), by which the null of the nearest size is brought to this one."""
    import numpy as np

    names = sorted(reference.counts.keys() | live.counts.keys())
    before, now = (np.array([*(side.counts.get(name, 0) for name in names), side.other], dtype=np.float64) for side in (reference, live))
    effect = jensen_shannon(before, now)
    if not reference.nulls:
        return Found("jensen_shannon", effect, 0.0, 1.0)
    near = min(reference.nulls, key=lambda null: abs(math.log(null.size / max(1, live.present))))
    scale = math.sqrt((1 / max(1, live.present) + 1 / max(1, reference.present)) * near.size)
    return Found("jensen_shannon", effect, near.mean * scale, chance.heavy(effect, near.mean * scale, near.std * scale))


def _known(reference: Column, p: float) -> float:
    """Of a handful of values in the reference, nothing follows."""
    return p if reference.present >= LEAST_REFERENCE else 1.0


_KOLMOGOROV_MEAN = math.sqrt(math.pi / 2) * math.log(2)


def kolmogorov(reference: Column, live: Column) -> Found:
    """The two-sample Kolmogorov–Smirnov statistic and its asymptotic p-value, on sketches. With ties that is too great, up to blindness
    where one value is rare."""
    import numpy as np
    from scipy.special import kolmogorov

    assert reference.sketch is not None and live.sketch is not None
    points = np.concatenate([weighted(reference.sketch)[0], weighted(live.sketch)[0]])
    distance = float(np.abs(below(reference.sketch, points) - below(live.sketch, points)).max())
    size = reference.sketch.count * live.sketch.count / (reference.sketch.count + live.sketch.count)
    return Found("ks", distance, _KOLMOGOROV_MEAN / math.sqrt(size), float(kolmogorov(math.sqrt(size) * distance)))


def _binned(reference: Column, live: Column) -> tuple[Floats, Floats]:
    """The rows of both in the bins between the reference's deciles, and beyond them."""
    import numpy as np

    assert reference.sketch is not None and live.sketch is not None
    edges = np.unique(quantiles(reference.sketch, np.arange(1, BINS) / BINS))
    shares = [np.diff([0.0, *below(one, edges), 1.0]) for one in (reference.sketch, live.sketch)]
    return np.round(shares[0] * reference.sketch.count), np.round(shares[1] * live.sketch.count)


def _shared(measure: str, before: Floats, now: Floats) -> Found:
    import numpy as np

    n, m = float(before.sum()), float(now.sum())
    if not n or not m:  # deciles of a handful of values
        return Found(measure, 0.0, 0.0, 1.0)
    statistic, p, freedom = homogeneity(before, now)
    ours, theirs = before / n, now / m
    chance = freedom * (1 / n + 1 / m)
    if measure == "psi":  # on average (B − 1)(1/n + 1/N): Yurdakul and Naranjo, Journal of Risk Model Validation 14, 2020
        filled = [np.maximum(share, _LEAST_SHARE) for share in (ours, theirs)]
        return Found(measure, float(np.sum((filled[0] - filled[1]) * np.log(filled[0] / filled[1]))), chance, p)
    if measure == "jensen_shannon":
        return Found(measure, jensen_shannon(before, now), math.sqrt(chance / 8), p)
    if measure == "chi_square":
        return Found(measure, math.sqrt(statistic / (n + m)), math.sqrt(freedom / (n + m)), p)
    effect = float(np.abs(ours - theirs).sum()) / 2
    spread = np.sqrt(ours * (1 - ours) * (1 / n + 1 / m))
    return Found(measure, effect, float(spread.sum()) / math.sqrt(2 * math.pi), p)


def homogeneity(before: Floats, now: Floats) -> tuple[float, float, int]:
    """Pearson's chi-square statistic of two rows of counts, its p-value and degrees of freedom; rare columns are counted together, so that
    at least five are expected in each (Cochran, Biometrics 10, 1954)."""
    import numpy as np
    from scipy.special import chdtrc

    n, m = float(before.sum()), float(now.sum())
    both = before + now
    rare = both * min(n, m) / (n + m) < _LEAST_EXPECTED
    rows = [np.append(one[~rare], one[rare].sum()) for one in (before, now)]
    both = rows[0] + rows[1]
    there = both > 0
    freedom = int(there.sum()) - 1
    if freedom < 1:
        return 0.0, 1.0, 0
    expected = [both[there] * share / (n + m) for share in (n, m)]
    statistic = float(sum(((row[there] - mean) ** 2 / mean).sum() for row, mean in zip(rows, expected, strict=True)))
    return statistic, float(chdtrc(freedom, statistic)), freedom
