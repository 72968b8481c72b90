"""The statistics of rollouts: pure functions of counts, valid at every moment, however often one looks.

Bad units are judged by the count e-process of Lindon and Malek (Anytime-valid inference for multinomial count data, NeurIPS 2022,
arXiv 2011.03567): if the canary is no worse, each bad unit is the canary's with the probability of its share of the traffic, whatever
the traffic does. Means are judged by asymptotic and betting confidence sequences.

An e-value is evidence: under the null hypothesis it exceeds 1/α at any time with a probability of at most α (Ville's inequality).
Everything is computed in natural logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SPREAD = ((1.15, 1.4, 3, 0.05), (1.5, 7.0, 16, 0.75), (10.0, 150.0, 10, 0.2))
RATIOS = tuple(low * (high / low) ** (i / (count - 1)) for low, high, count, _ in _SPREAD for i in range(count))
"""The alternatives: how many times worse the canary may be, in three parts evenly spaced in logarithm."""
WEIGHTS = tuple(mass / count for _, _, count, mass in _SPREAD for _ in range(count))
"""What is bet on each. Most of it is on 1.5 to 7 times: so half of α sees what is twice or four times as bad about as soon as all of it
does on 40 ratios of equal weight from 1.1 to 20."""

CERTIFIABLE = tuple(1.0 + 0.05 * i for i in range(1, 81))
"""The ratios of which `certified_ratio` finds the smallest."""

LEAST_PER_ARM = 100
"""Units in each arm from which on an asymptotic confidence sequence may be trusted."""


@dataclass(frozen=True, slots=True)
class PhaseCounts:
    """Bad units (or exposures) of each arm while the canary's share of the traffic was `share` (0 to 1); those to be expected, too."""

    share: float
    canary: float
    stable: float


@dataclass(frozen=True, slots=True)
class ArmSums:
    """What is kept of the values of an arm's units: how many, their sum, the sum of their squares."""

    units: int
    total: float
    squares: float


@dataclass(frozen=True, slots=True)
class MeanPhase:
    """The values of both arms while the canary's share was `share` (0 to 1)."""

    share: float
    canary: ArmSums
    stable: ArmSums


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float
    point: float


def odds_share(share: float, ratio: float) -> float:
    """θ_r = w·r / (w·r + 1 − w): the canary's share of bad units if its rate is `ratio` times stable's (arXiv 2011.03567, section 4)."""
    return share * ratio / (share * ratio + 1.0 - share)


def log_e(phases: Sequence[PhaseCounts], *, tolerance: float = 1.0) -> float:
    """Evidence that the canary's rate of bad units is more than `tolerance` times stable's.

    log of E = Σ over r of its weight times Π over phases of (θ_r / θ_0)^k_c · ((1 − θ_r) / (1 − θ_0))^k_s, with θ_0 = θ_tolerance and r
    relative to the tolerance. Harm when E ≥ 1/α. Phases in which one arm had all the traffic say nothing.
    """
    return _mixture(phases, tolerance, [tolerance * ratio for ratio in RATIOS], WEIGHTS)


def log_e_certify(phases: Sequence[PhaseCounts], *, ratio: float) -> float:
    """Evidence that the canary's rate of bad units is less than `ratio` times stable's: the mirror image of `log_e`."""
    return _mixture(phases, ratio, [ratio / other for other in RATIOS], WEIGHTS)


def certified_ratio(phases: Sequence[PhaseCounts], alpha: float) -> float | None:
    """The smallest ratio of `CERTIFIABLE` than which the canary is certified no worse; None where none is."""
    need = -math.log(alpha)
    low, high = 0, len(CERTIFIABLE)
    while low < high:  # evidence grows with the ratio
        middle = (low + high) // 2
        if log_e_certify(phases, ratio=CERTIFIABLE[middle]) >= need:
            high = middle
        else:
            low = middle + 1
    return CERTIFIABLE[low] if low < len(CERTIFIABLE) else None


def log_e_mismatch(phases: Sequence[PhaseCounts]) -> float:
    """Evidence that units do not come to the arms in the proportion of the shares (sample-ratio mismatch), to either side.

    The test of `log_e` on exposures in place of bad units, with ratios on both sides of 1 (arXiv 2011.03567, section 5), finer near 1:
    there are many more exposures than bad units.
    """
    ratios = [math.exp(sign * math.log(4.0) * (i / 20) ** 2) for i in range(1, 21) for sign in (-1, 1)]
    return _mixture(phases, 1.0, ratios)


def _mixture(phases: Sequence[PhaseCounts], null: float, ratios: Sequence[float], weights: Sequence[float] = ()) -> float:
    told = [phase for phase in phases if 0.0 < phase.share < 1.0 and (phase.canary or phase.stable)]
    if not told:
        return 0.0
    logs = []
    for ratio, weight in zip(ratios, weights or [1.0 / len(ratios)] * len(ratios), strict=True):
        total = math.log(weight)
        for phase in told:
            null_share, share = odds_share(phase.share, null), odds_share(phase.share, ratio)
            total += phase.canary * math.log(share / null_share) + phase.stable * math.log((1.0 - share) / (1.0 - null_share))
        logs.append(total)
    top = max(logs)
    return top + math.log(math.fsum(math.exp(one - top) for one in logs))


def difference(phases: Sequence[MeanPhase], *, alpha: float, tolerance: float = 1.0) -> Interval | None:
    """Bounds of μ_canary − tolerance · μ_stable, each of which holds at all times with a probability of 1 − α; None before
    `LEAST_PER_ARM` units in each arm.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (Time-uniform central limit theory and
    asymptotic confidence sequences, Annals of Statistics 2024, arXiv 2103.06476, Theorem 2.2) of the mean of the contrasts, weighted by
    inverse probability, φ = A (x − m)/w − tolerance (1 − A)(x − m)/(1 − w) + (1 − tolerance) m, where A says whether the unit was the
    canary's, w was the canary's share, and m is stable's mean, which takes the variance out that the weights would add.
    """
    told = [phase for phase in phases if 0.0 < phase.share < 1.0 and phase.canary.units + phase.stable.units]
    canary, stable = sum(phase.canary.units for phase in told), sum(phase.stable.units for phase in told)
    if min(canary, stable) < LEAST_PER_ARM:
        return None
    m = math.fsum(phase.stable.total for phase in told) / stable
    count = canary + stable
    first = second = 0.0
    for phase in told:
        for arm, factor in ((phase.canary, 1.0 / phase.share), (phase.stable, -tolerance / (1.0 - phase.share))):
            first += factor * (arm.total - m * arm.units)
            second += factor * factor * (arm.squares - 2.0 * m * arm.total + m * m * arm.units)
    mean = first / count
    variance = max(0.0, second / count - mean * mean)
    half = math.sqrt(variance) * boundary(count, alpha)
    point = mean + (1.0 - tolerance) * m
    return Interval(point - half, point + half, point)


def boundary(count: int, alpha: float, *, best_at: int = 10_000) -> float:
    """How far a bound is from the mean, in standard deviations, after `count` values:
    sqrt(2 (nρ² + 1)/(n²ρ²) · log(1 + sqrt(nρ² + 1)/(2α))), the one-sided form of arXiv 2103.06476 (its appendix on one-sided sequences;
    equation 6 is the two-sided one). ρ makes it about as tight as can be at `best_at` values: what
    a ramp sees."""
    spent = -2.0 * math.log(min(2.0 * alpha, 0.5))
    rho2 = (spent + math.log(spent + 1.0)) / best_at
    grown = count * rho2 + 1.0
    return math.sqrt(2.0 * grown / (count * count * rho2) * math.log1p(math.sqrt(grown) / (2.0 * alpha)))


class BettingSequence:
    """The hedged-capital confidence sequence of the mean of values in [0, 1] (Waudby-Smith and Ramdas, Estimating means of bounded random
    variables by betting, JRSS-B 2023, Theorem 3, with the predictable plug-in bets of equation 26).

    A mean m is refused when the capital of one who bets against it reaches 1/α. Means on a grid; the interval only ever shrinks.
    """

    def __init__(self, alpha: float, *, grid: int = 500) -> None:
        self._alpha = alpha
        self._means = [(i + 0.5) / grid for i in range(grid)]
        self._up = [0.0] * grid
        self._down = [0.0] * grid
        self._low, self._high = 0, grid - 1
        self._count = 0
        self._sum = 0.5
        self._deviations = 0.25
        self._grid = grid

    def add(self, x: float) -> None:
        """One more value. Raises ValueError outside [0, 1]."""
        if not 0.0 <= x <= 1.0:
            raise ValueError(f"a value between 0 and 1 is needed, not {x}")
        self._count += 1
        t = self._count
        variance = self._deviations / t
        bet = math.sqrt(2.0 * math.log(2.0 / self._alpha) / (variance * t * math.log(1.0 + t)))
        refuse = math.log(1.0 / self._alpha)
        for i in range(self._low, self._high + 1):
            m = self._means[i]
            self._up[i] += math.log1p(min(bet, 0.5 / m) * (x - m))
            self._down[i] += math.log1p(-min(bet, 0.5 / (1.0 - m)) * (x - m))
        half = math.log(0.5)
        while self._low < self._high and max(self._up[self._low], self._down[self._low]) + half >= refuse:
            self._low += 1
        while self._high > self._low and max(self._up[self._high], self._down[self._high]) + half >= refuse:
            self._high -= 1
        self._sum += x
        mean = self._sum / (t + 1)
        self._deviations += (x - mean) ** 2

    @property
    def interval(self) -> Interval:
        """The means that are not refused, out to the nearest of the grid that are; `point` is the values' own mean."""
        point = (self._sum - 0.5) / self._count if self._count else 0.5
        low = self._means[self._low - 1] if self._low > 0 else 0.0
        high = self._means[self._high + 1] if self._high < self._grid - 1 else 1.0
        return Interval(low, high, point)


def mean_interval(values: Iterable[float], alpha: float) -> Interval:
    """The betting confidence interval of the mean of `values` in [0, 1]."""
    sequence = BettingSequence(alpha)
    for value in values:
        sequence.add(value)
    return sequence.interval
