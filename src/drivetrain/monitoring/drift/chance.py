"""How far windows without drift are from the reference: the null, learned by putting reference and window together and splitting them anew.

Without drift the rows of both come from one source, so that any split of all of them into parts of these sizes was as likely as the one
that was seen (the permutation test: Fisher 1935; Pitman, Supplement to JRSS 4, 1937; Good, *Permutation, Parametric and Bootstrap Tests of
Hypotheses*, 2005). Whatever a finite reference does not know of its source, rare categories and long tails, it does not know in the splits
either; and no reference is too small for a window to be drawn from it. Where reference is far larger than the window, this is the same as
drawing windows from the reference.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from drivetrain.profiles.distance import Ruler, divergence
from drivetrain.profiles.sketch import Sketch, quantiles, weighted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Counts = npt.NDArray[np.int64]

SPLITS = 300
LEAST_SPLITS = 100
MOST_COUNTS = 2_000_000
MOST_POINTS = 1_000
"""A side of more numbers takes part with so many of its quantiles; distances are brought to its real size, as 1/sqrt(rows)."""
MOST_DRAWN = 5_000
LEAST_EXPECTED = 5.0
MOST_POOL = 2_000_000
_SEEN = 5


def of_numbers(reference: Sketch, live: Sketch, scale: Ruler) -> Floats:
    """The Wasserstein distances of random splits of the values of both, [SPLITS].

    The distance is Σ |F(u_i) − G(u_i)| (u_{i+1} − u_i) over the merged values in order; the first factor depends on the split alone, the
    second on the values alone: all columns of a window share the first.
    """
    import numpy as np

    ours, theirs = (_points(side) for side in (reference, live))
    gaps = np.diff(np.sort(scale.marks(np.concatenate([ours, theirs]))))
    distances: Floats = _apart(len(ours), len(theirs)) @ gaps
    real = 1 / reference.count + 1 / live.count
    return distances * math.sqrt(real / (1 / len(ours) + 1 / len(theirs)))


class Split(NamedTuple):
    """A distance as it was seen, its mean without drift, and how often chance goes so far."""

    effect: float
    expected: float
    p: float


def of_categories(before: Counts, now: Counts, others: tuple[int, int]) -> Split:
    """The Jensen–Shannon distance of two rows of counts over the same names, beside those of random splits of all rows.

    `others`: the rows of either whose category is not among the names. What is compared is said at `apart`. The chance is that of the
    whole distance, or of what the reference does not know alone, whichever is less, twice: a newcomer is not to drown among many others.
    """
    import numpy as np

    ours, theirs = np.append(before, others[0]), np.append(now, others[1])
    n, m = int(ours.sum()), int(theirs.sum())
    drawn = min(n, m, MOST_DRAWN)
    pool = ours + theirs
    if n + m > MOST_POOL:  # so many times what is drawn that one cannot tell them from infinitely many
        pool = pool * MOST_POOL // (n + m)
    whole = int(pool.sum())
    size = min(SPLITS, max(LEAST_SPLITS, MOST_COUNTS // len(pool)))
    random = np.random.default_rng(0)
    part = random.multivariate_hypergeometric(pool, drawn, size=size, method="count" if len(pool) > drawn else "marginals")
    # What is drawn is the live window, unless the reference is the smaller one and can be drawn as a whole.
    first, second = (part, pool - part) if n < m and n == drawn else (pool - part, part)
    seen, chance = apart(ours[None], theirs[None], drawn), apart(first, second, drawn)
    scale = math.sqrt((1 / n + 1 / m) / (1 / drawn + 1 / (whole - drawn)))
    p = min(beyond(float(one[0]), splits * scale, squared=True) for one, splits in zip(seen, chance, strict=True))
    return Split(float(seen[0][0]), float(chance[0].mean()) * scale, min(1.0, 2 * p))


def apart(before: Counts, now: Counts, window: int) -> tuple[Floats, Floats]:
    """The Jensen–Shannon distance of each pair of rows of counts, [pairs, names + 1], over what a window of so many rows can tell apart;
    and that over two classes only, of what the reference knows and what it does not.

    Compared are the head, each category by itself (those of which the reference leads to expect five in a window, and those of which live
    data show ten); all other known ones as one; and all others that the reference does not know as one: the last column and the names
    that only live data have. What the reference leads to expect of these is the share of its rows whose category it has seen once (Good,
    Biometrika 40, 1953: the probability of what has not been seen, as Turing had it).
    """
    import numpy as np

    n, m = before.sum(axis=1), now.sum(axis=1)
    known, fresh = before[:, :-1], now[:, :-1]
    least = LEAST_EXPECTED * n / window
    often = 2 * LEAST_EXPECTED * m / window
    unseen = known == 0
    head = (known >= least[:, None]) | (fresh >= often[:, None])
    once = (known == 1) & ~head
    at, column = np.nonzero(head)

    def summed(values: npt.NDArray[Any]) -> Floats:
        return np.bincount(at, weights=values, minlength=len(before)).astype(np.float64)

    found = summed(divergence(known[at, column] / n[at], fresh[at, column] / m[at]))
    in_head = summed(known[at, column]), summed(fresh[at, column])
    unknown = before[:, -1] + once.sum(axis=1), now[:, -1] + np.where(unseen & ~head, fresh, 0).sum(axis=1)
    found += divergence((n - in_head[0] - unknown[0]) / n, (m - in_head[1] - unknown[1]) / m)
    found += divergence(unknown[0] / n, unknown[1] / m)
    new = unknown[0] / n, (now[:, -1] + np.where(unseen, fresh, 0).sum(axis=1)) / m
    two = divergence(*new) + divergence(1 - new[0], 1 - new[1])
    return np.sqrt(np.maximum(found, 0.0)), np.sqrt(np.maximum(two, 0.0))


def beyond(effect: float, chance: Floats, *, squared: bool = False) -> float:
    """How often chance goes so far. Its tail is a gamma or a lognormal distribution with the mean and variance of the splits, whichever is
    heavier; of squared distances of categories, which are sums of squares of nearly normal numbers, a gamma distribution (Box, Annals of
    Mathematical Statistics 25, 1954, theorem 3.1). Where many splits went so far themselves, their share counts too."""
    import numpy as np
    from scipy.special import gammaincc

    share = float(np.mean(chance >= effect * (1 - 1e-9)))
    if effect <= 0 or not len(chance):
        return 1.0
    if squared:
        mean, variance = float(np.mean(chance**2)), float(np.var(chance**2, ddof=1))
        p = float(gammaincc(mean**2 / variance, effect**2 * mean / variance)) if variance > 0 else float(effect**2 <= mean)
    else:
        p = heavy(effect, float(chance.mean()), float(chance.std(ddof=1)))
    return max(p, share) if share * len(chance) >= _SEEN else p


def heavy(effect: float, mean: float, std: float) -> float:
    """How often a distance of this mean and standard deviation is at least so great."""
    from scipy.special import gammaincc

    if mean <= 0 or std <= 0:
        return 0.0 if effect > mean else 1.0
    shape = (mean / std) ** 2
    spread = math.log1p(1 / shape)
    lognormal = math.erfc((math.log(max(effect, 1e-300) / mean) + spread / 2) / math.sqrt(2 * spread)) / 2
    return max(float(gammaincc(shape, effect * shape / mean)), lognormal)


def _points(sketch: Sketch) -> Floats:
    import numpy as np

    if sketch.count <= MOST_POINTS and len(sketch.packed) == 1:
        return weighted(sketch)[0]
    points = min(sketch.count, MOST_POINTS)
    return quantiles(sketch, (np.arange(points) + 0.5) / points)


@lru_cache(maxsize=8)
def _apart(ours: int, theirs: int) -> npt.NDArray[Any]:
    """|F − G| between the values of a merged sample in order, of random splits, [SPLITS, ours + theirs − 1]."""
    import numpy as np

    sides = np.repeat(np.array([1 / ours, -1 / theirs]), (ours, theirs))
    splits = np.tile(sides, (SPLITS, 1))
    np.random.default_rng(0).permuted(splits, axis=1, out=splits)
    found: npt.NDArray[Any] = np.abs(np.cumsum(splits, axis=1))[:, :-1]
    return found
