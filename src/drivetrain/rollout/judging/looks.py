"""Looks: evidence of harm from people who come back, from the randomness of the assignment alone.

At a look, a unit u has asked c_u = min(n_u, `CAP`) times (so that nobody's many requests drown the others'), and r_u in [0, 1] of them, or
the mean of their values, was bad. With A_u = 1 for the canary and w its share, e_u = (r_u − ρ) c_u / max|·| and ρ = Σ r_u c_u / Σ c_u:

    E = mean over λ of exp(λ Σ A_u e_u − Σ log(1 − w + w exp(λ e_u)))

Nothing but the A_u is random here: they are independent with P(A_u = 1) = w, by the hash of the assignment. The second sum is the exact
logarithm of the moment generating function of the first, so E has expectation 1 as long as outcomes do not depend on the assignment,
however unequal, correlated or changing they are (randomisation inference: Fisher, The Design of Experiments, 1935; the exponential form is
that of a Chernoff bound, with a mixture over λ in place of its best value).

Looks depend on each other, so they are not multiplied. The j-th look may spend 1/(j (j + 1)) of α: these add up to 1, and by Markov's
inequality P(E_j / (j (j + 1)) ≥ 1/α for any j) ≤ α. When a phase begins depends a little on what was seen, and so on the hash: that this
does no harm rests on simulation, not on this argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CAP = 5
"""Requests of one unit that count in a look."""
GRID = 600
"""Parts in which the share of a unit's bad requests is kept: all shares of up to `CAP` requests are exact (60 would do), and small ones of
many requests keep their size."""
OCTAVE = 16
"""Parts of an octave in which a unit's mean value is kept: each is 4.4 % wide."""
LAMBDAS = tuple(0.05 * (4.0 / 0.05) ** (i / 11) for i in range(12))
BEYOND = 0.98
"""Values are capped where so much of all requests lies below: a look needs bounded ones."""

Cell = tuple[int, int]
"""Capped requests, and the bucket of the share or the mean: units in one cell are alike."""


@dataclass(frozen=True, slots=True)
class Alike:
    """Units that are alike: their weight c, their value r, and how many of them each arm has (or is to be expected to have)."""

    weight: int
    value: float
    canary: float
    stable: float


def share_cell(requests: int, bad: int) -> Cell:
    """The cell of a unit with so many requests, and so many bad ones among them."""
    return min(requests, CAP), round(GRID * bad / requests)


def mean_cell(requests: int, total: float) -> Cell:
    """The cell of a unit whose values add up to `total` (not negative)."""
    mean = total / requests
    return min(requests, CAP), round(OCTAVE * math.log2(mean)) if mean > 0 else _NOTHING


_NOTHING = -(1 << 20)


def shares(canary: Mapping[Cell, int], stable: Mapping[Cell, int]) -> list[Alike]:
    """Cells of shares, as a look takes them."""
    return [Alike(cell[0], cell[1] / GRID, canary.get(cell, 0), stable.get(cell, 0)) for cell in canary.keys() | stable.keys()]


def means(canary: Mapping[Cell, int], stable: Mapping[Cell, int]) -> list[Alike]:
    """Cells of means, capped (by what both arms show together, so that it does not depend on the assignment)."""
    cells = sorted(canary.keys() | stable.keys(), key=lambda cell: cell[1])
    weights = [cell[0] * (canary.get(cell, 0) + stable.get(cell, 0)) for cell in cells]
    left, cap = BEYOND * sum(weights), _NOTHING
    for cell, weight in zip(cells, weights, strict=True):
        cap = cell[1]
        left -= weight
        if left <= 0:
            break
    return [Alike(cell[0], _value(min(cell[1], cap)), canary.get(cell, 0), stable.get(cell, 0)) for cell in cells]


def _value(bucket: int) -> float:
    return float(2.0 ** (bucket / OCTAVE)) if bucket != _NOTHING else 0.0


def log_e(units: Sequence[Alike], share: float, *, tolerance: float = 1.0) -> float:
    """log E of one look: evidence that the canary's units have larger values than `tolerance` times stable's.

    With a tolerance above 1 the canary's values are divided by it. If its rate is at most so many times stable's, that makes E no larger:
    for outcomes of 0 and 1, E exp(λ y / τ) = 1 + τp (exp(λ/τ) − 1) ≤ 1 + p (exp(λ) − 1), exp being convex. Below 1 it is taken for 1:
    who is worse than stable is worse than a part of it, too.
    """
    if not 0.0 < share < 1.0:
        return 0.0
    scale = max(tolerance, 1.0)
    arms = [(one.weight, one.value / scale, one.canary, True) for one in units if one.canary]
    arms += [(one.weight, one.value, one.stable, False) for one in units if one.stable]
    weight = sum(c * count for c, _, count, _ in arms)
    if not weight:
        return 0.0
    middle = math.fsum(c * count * value for c, value, count, _ in arms) / weight
    away = [((value - middle) * c, count, canary) for c, value, count, canary in arms]
    widest = max(abs(one) for one, _, _ in away)
    if widest <= 1e-12 * max(1.0, abs(middle)):
        return 0.0
    scaled = [(one / widest, count, canary) for one, count, canary in away]
    sum_canary = math.fsum(e * count for e, count, canary in scaled if canary)
    merged: dict[float, float] = {}
    for e, count, _ in scaled:
        merged[e] = merged.get(e, 0) + count
    logs = [by * sum_canary - math.fsum(count * math.log1p(share * math.expm1(by * e)) for e, count in merged.items()) for by in LAMBDAS]
    return _mean(logs)


def _mean(logs: Sequence[float]) -> float:
    """log of the mean of numbers that are given by their logarithms."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(one - top) for one in logs) / len(logs))


def together(logs: Iterable[float]) -> float:
    """Several looks at one moment (windows, directions) as one: the mean of their E."""
    some = list(logs)
    return _mean(some) if some else 0.0


def spent(number: int) -> float:
    """What is taken off log E at the `number`-th look (from 1 on), for having looked before and looking again."""
    return math.log(number * (number + 1))


def failing(units: Sequence[Alike], worst: float) -> list[Alike]:
    """The same units, had the canary given them all this value: what a look could then see."""
    return [
        *(Alike(one.weight, worst, one.canary, 0) for one in units if one.canary),
        *(Alike(one.weight, one.value, 0, one.stable) for one in units if one.stable),
    ]


def effective(weight: float, squares: float) -> float:
    """(Σ c)² / Σ c²: how many units of equal weight tell as much (Kish, Survey Sampling, 1965, section 11.7)."""
    return weight * weight / squares if squares else 0.0
