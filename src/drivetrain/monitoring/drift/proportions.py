"""Columns of two values, or of one: their shares. Exact at any size and however rare a value is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drivetrain.profiles.model import Column
from drivetrain.profiles.sketch import Sketch, weighted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_ROUNDING = 1e-6
"""Numbers so near to each other, relatively, are one: 32-bit floats and their decimals are."""


def shares(reference: Column, live: Column) -> tuple[int, int] | None:
    """Of a column that has at most two values, the rows of reference and live with one of them; of one that was constant, those with its
    value. None of any other column."""
    if reference.sketch is not None and live.sketch is not None:
        return _of_numbers(reference.sketch, live.sketch)
    names = reference.counts.keys() | live.counts.keys()
    if reference.other or live.other or not reference.counts or (len(names) > 2 and len(reference.counts) > 1):
        return None
    name = next(iter(reference.counts))
    return reference.counts[name], live.counts.get(name, 0)


def effect(before: float, now: float) -> float:
    """Cohen's h, the difference of two shares on a scale on which chance is the same everywhere, between 0 and π: 2 asin √p − 2 asin √q
    (Cohen, *Statistical Power Analysis for the Behavioral Sciences*, 1988, equation 6.2.1). Of small changes it is the difference in
    standard deviations of the column; 1 % → 2 % is 0.08, 1 % → 5 % is 0.25, 30 % → 35 % is 0.11."""
    return abs(2 * math.asin(math.sqrt(before)) - 2 * math.asin(math.sqrt(now)))


def expected(rows: int, window: int) -> float:
    """The mean effect without drift: √(2/π) of its standard deviation, √(1/n + 1/m)."""
    return math.sqrt(2 / math.pi * (1 / rows + 1 / window))


def chance(k: int, n: int, j: int, m: int) -> float:
    """How often shares as different as j of m and k of n come of one source: Fisher's exact test, twice the smaller tail, by mid-p
    (Lancaster, JASA 56, 1961). What hangs on a single row of the window is no drift: the window is taken with one row of the odd ones
    less."""
    import numpy as np
    from scipy.special import gammaln

    if j * n > k * m:
        j -= 1
    elif j * n < k * m:
        j += 1
    whole = k + j
    low, high = max(0, whole - n), min(m, whole)
    at = np.arange(low, high + 1)

    def ways(total: int, some: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = gammaln(total + 1) - gammaln(some + 1) - gammaln(total - some + 1)
        return found

    logs = ways(m, at) + ways(n, whole - at)
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    seen = float(weights[j - low])
    above, below = float(weights[j - low :].sum()), float(weights[: j - low + 1].sum())
    return min(1.0, 2 * (min(above, below) - seen / 2))


def _of_numbers(reference: Sketch, live: Sketch) -> tuple[int, int] | None:
    low, high = reference.low, reference.high
    if not reference.count or not live.count:
        return None
    near = _ROUNDING * max(abs(low), abs(high))
    if high - low <= near:
        return reference.count, live.count - _odd(live, low, near)
    near = min(near, (high - low) / 4)
    for side in (reference, live):
        if _away(side, (low, high), near).any():
            return None
    ours, theirs = ((high - side.mean) / (high - low) for side in (reference, live))  # the mean is exact, and tells the share
    return _rows(ours, reference.count), _rows(theirs, live.count)


def _away(side: Sketch, values: tuple[float, ...], near: float) -> npt.NDArray[np.bool_]:
    import numpy as np

    points = np.append(weighted(side)[0], [side.low, side.high])
    found: npt.NDArray[np.bool_] = np.all([np.abs(points - value) > near for value in values], axis=0)
    return found


def _odd(side: Sketch, value: float, near: float) -> int:
    """How many rows have another value, at least: in a sketch one value may stand for several rows."""
    import numpy as np

    levels = side.levels
    found = sum(int((np.abs(level - value) > near).sum()) << height for height, level in enumerate(levels))
    return max(0, found - (1 << (len(levels) - 1)) + 1)


def _rows(share: float, rows: int) -> int:
    return round(min(1.0, max(0.0, share)) * rows)
