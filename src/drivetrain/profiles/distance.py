"""How far two columns are from each other: effect sizes, computed from sketches and counts."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from drivetrain.profiles.sketch import Sketch, quantiles, weighted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_TAILS = (0.25, 0.1, 0.05, 0.025, 0.01)
"""The range between quantiles that measures the spread: the quartiles, or where they are one value, the nearest that are not."""
_LINEAR = 3.0
_MOST = 1e300


class Ruler(NamedTuple):
    """Numbers in robust standard deviations from the middle of a column; beyond about three of them on a logarithmic scale.

    `spread` is the interquartile range over that of a standard normal distribution (1.349); of a column of which more than half is one
    value, the same of quantiles further out, and at last the standard deviation; 0 of a constant. With z = (x − centre)/spread the mark is
    3 asinh(z/3): the inverse hyperbolic sine (Johnson, Biometrika 36, 1949; Burbidge, Magee and Robb, JASA 83, 1988) is linear near the
    middle and keeps a heavy tail, or a value out of all bounds, from drowning the rest. No length in absolute numbers is in it.
    """

    centre: float
    spread: float

    def marks(self, values: Floats) -> Floats:
        import numpy as np

        with np.errstate(over="ignore"):
            away = (values - self.centre) / self.spread
        found: Floats = _LINEAR * np.arcsinh(np.clip(away, -_MOST, _MOST) / _LINEAR)
        return found


def ruler(sketch: Sketch) -> Ruler:
    """The ruler of a column that is not empty."""
    import numpy as np

    shares = np.array([0.5, *_TAILS, *(1 - tail for tail in _TAILS)])
    middle, *ends = quantiles(sketch, shares).tolist()
    for tail, low, high in zip(_TAILS, ends[: len(_TAILS)], ends[len(_TAILS) :], strict=True):
        spread = (high - low) / (2 * NormalDist().inv_cdf(1 - tail))
        if spread > 0:
            return Ruler(middle, spread)
    whole = sketch.high - sketch.low
    return Ruler(middle, (sketch.std or whole) if whole > 0 else 0.0)


def wasserstein(reference: Sketch, live: Sketch, scale: Ruler | None = None) -> float:
    """The first Wasserstein distance, ∫ |F − G|, on the reference's `ruler`. NaN if one is empty; infinite if the reference is constant
    and live is something else."""
    import numpy as np

    if not reference.count or not live.count:
        return float("nan")
    scale = scale or ruler(reference)
    if not scale.spread:
        return 0.0 if (reference.low, reference.high) == (live.low, live.high) else float("inf")
    x, f = weighted(reference)
    y, g = weighted(live)
    x, y = scale.marks(x), scale.marks(y)
    points = np.sort(np.concatenate([x, y]), kind="stable")
    f_at = np.concatenate([[0.0], f])[np.searchsorted(x, points[:-1], side="right")]
    g_at = np.concatenate([[0.0], g])[np.searchsorted(y, points[:-1], side="right")]
    return float(np.sum(np.abs(f_at - g_at) * np.diff(points)))


def jensen_shannon(reference: npt.NDArray[Any], live: npt.NDArray[Any]) -> float:
    """The Jensen–Shannon distance of two rows of counts over the same categories: the square root of the divergence in nats (Lin, IEEE
    Trans. Inf. Theory 1991; the metric of Endres and Schindelin 2003). NaN if one is empty."""
    import numpy as np

    if not reference.sum() or not live.sum():
        return float("nan")
    return float(np.sqrt(max(0.0, float(divergence(reference / reference.sum(), live / live.sum()).sum()))))


def divergence(p: npt.NDArray[Any], q: npt.NDArray[Any]) -> Floats:
    """What each pair of shares adds to the Jensen–Shannon divergence, in nats."""
    import numpy as np

    middle = (p + q) / 2

    def relative(a: npt.NDArray[Any]) -> Floats:
        parts: Floats = np.zeros(np.shape(a))
        np.divide(a, middle, out=parts, where=a > 0)
        np.log(parts, out=parts, where=a > 0)
        return a * parts

    return (relative(p) + relative(q)) / 2
