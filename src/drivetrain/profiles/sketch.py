"""A mergeable sketch of a numeric column: quantiles of any number of values in some kilobytes.

KLL (Karnin, Lang and Liberty, Optimal quantile approximation in streams, FOCS 2016): a tower of buffers, each of whose values stands for
twice as many as one of the buffer below; a full buffer is sorted, and every other value of it moves up. The rank error is about 1.7/k
with high probability; two sketches merge by putting their buffers together.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

K = 400
_SHRINK = 2.0 / 3.0


class Sketch(Struct, kw_only=True):
    """Values by level: one of level h stands for 2^h. `low` and `high` are exact, as are `count`, `total` and `squares` (of deviations
    from `centre`, the first value, so that large numbers lose nothing). The values are kept packed: see `pack`."""

    packed: list[bytes] = []
    count: int = 0
    low: float = 0.0
    high: float = 0.0
    centre: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @property
    def levels(self) -> list[Floats]:
        return [unpack(level) for level in self.packed]

    @property
    def mean(self) -> float:
        return self.centre + self.total / self.count if self.count else math.nan

    @property
    def std(self) -> float:
        """Of the population, as Evidently's norm."""
        if not self.count:
            return math.nan
        return math.sqrt(max(0.0, self.squares / self.count - (self.total / self.count) ** 2))


def sketch(values: Floats, *, k: int = K, seed: int = 0, ordered: bool = False) -> Sketch:
    """The sketch of these finite values. `ordered`: they are in order already."""
    import numpy as np

    if not len(values):
        return Sketch()
    every = np.asarray(values, dtype=np.float64)
    every = every if ordered else np.sort(every)
    centre = float(every[0])
    away = every - centre
    # All values are at hand: one sort, and every 2^h-th of them, is the best sketch of this size; what is left over goes below.
    height = max(0, math.ceil(math.log2(len(every) / k)))
    levels: list[Floats] = [every[:0]] * height
    start = 0
    random = np.random.default_rng(seed)
    for h in range(height, -1, -1):
        size = 1 << h
        whole = (len(every) - start) // size
        chosen = start + int(random.integers(size)) + size * np.arange(whole)
        if h == height:
            levels.append(every[chosen])
        else:
            levels[h] = every[chosen]
        start += whole * size
    return Sketch(
        packed=[pack(level) for level in levels],
        count=len(every),
        low=float(every[0]),
        high=float(every[-1]),
        centre=centre,
        total=float(away.sum()),
        squares=float(np.square(away).sum()),  # not a dot product, whose last bits depend on where the numbers lie
    )


def merge(one: Sketch, other: Sketch, *, k: int = K, seed: int = 0) -> Sketch:
    """The sketch of the values of both."""
    import numpy as np

    if not one.count or not other.count:
        return one if one.count else other
    ours, theirs = one.levels, other.levels
    levels = [np.concatenate([part[h] for part in (ours, theirs) if h < len(part)]) for h in range(max(len(ours), len(theirs)))]
    _compress(levels, k, np.random.default_rng(seed))
    moved = other.centre - one.centre
    return Sketch(
        packed=[pack(level) for level in levels],
        count=one.count + other.count,
        low=min(one.low, other.low),
        high=max(one.high, other.high),
        centre=one.centre,
        total=one.total + other.total + other.count * moved,
        squares=one.squares + other.squares + 2 * moved * other.total + other.count * moved * moved,
    )


def weighted(sketch: Sketch) -> tuple[Floats, Floats]:
    """The values of a sketch in order, and the cumulated share of all values up to each."""
    import numpy as np

    levels = sketch.levels
    values = np.concatenate(levels)
    weights = np.concatenate([np.full(len(level), 2.0**h) for h, level in enumerate(levels)])
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return values[order], below / below[-1]


def quantiles(sketch: Sketch, shares: Floats) -> Floats:
    """The values below which these shares of all values are."""
    import numpy as np

    values, below = weighted(sketch)
    return values[np.minimum(np.searchsorted(below, shares), len(values) - 1)]


def below(sketch: Sketch, points: Floats) -> Floats:
    """The share of all values that are at most each of `points`."""
    import numpy as np

    values, shares = weighted(sketch)
    at = np.searchsorted(values, points, side="right")
    return np.concatenate([[0.0], shares])[at]


def pack(values: Iterable[float]) -> bytes:
    """Values in order, as 64-bit numbers byte by byte, deflated: neighbours share their first bytes. Exact; JSON shows it as base64."""
    import numpy as np

    raw = np.sort(np.asarray(values, dtype="<f8"))
    return zlib.compress(raw.view(np.uint8).reshape(-1, 8).T.tobytes(), 6) if len(raw) else b""


def unpack(packed: bytes) -> Floats:
    """The values, in order."""
    import numpy as np

    if not packed:
        return np.empty(0)
    return np.frombuffer(np.frombuffer(zlib.decompress(packed), np.uint8).reshape(8, -1).T.tobytes(), dtype="<f8")


def _compress(levels: list[Floats], k: int, random: np.random.Generator) -> None:
    """Move values up until the whole fits. In place."""
    import numpy as np

    while sum(len(level) for level in levels) > _capacity(len(levels), k):
        for h in range(len(levels)):
            if len(levels[h]) > _most(h, len(levels), k):
                ordered = np.sort(levels[h])
                kept = ordered[:1] if len(ordered) % 2 else ordered[:0]
                moving = ordered[len(ordered) % 2 :][random.integers(2) :: 2]
                levels[h] = kept
                if h + 1 == len(levels):
                    levels.append(moving)
                else:
                    levels[h + 1] = np.concatenate([levels[h + 1], moving])
                break


def _most(level: int, height: int, k: int) -> int:
    return max(8, math.ceil(k * _SHRINK ** (height - 1 - level)))


def _capacity(height: int, k: int) -> int:
    return sum(_most(level, height, k) for level in range(height))
