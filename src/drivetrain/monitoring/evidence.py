"""Evidence that something has changed, which may be looked at all the time.

An e-detector in the form of Shiryaev and Roberts (Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change
detection, 2023, arXiv 2203.03532, definition 2.2 and equation 4): M ← (M + 1)·L, where L is a bet whose expectation is at most 1 while
nothing has changed, whatever came before. Then E[M at τ] ≤ E[τ] for every time τ of stopping, so until M first reaches N it takes N
observations on average, or more: the run length to a false alarm. It does not matter how often one looks. Several bets are averaged,
which is an e-detector again.

Beside each sum runs a CUSUM (Page, Biometrika 41, 1954) of the same bet: when it last began anew is the estimate of when things changed.
It decides nothing.

Two kinds of bets are here. `counts`: the share of bad ones is at most (or at least) a line that is known. `Usual`: the share is what it
was, though nobody knows what that is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

from msgspec import Struct

MORE = (1.25, 1.6, 2.2, 3.5, 8.0, 60.0)
"""Odds ratios against the line that `counts` bets on, where bad ones are more than they should be."""
FEWER = (0.75, 0.5, 0.25, 0.05)
"""The same, where they are fewer."""
WORSE = (1.5, 2.2, 4.0, 12.0)
"""Odds ratios against the usual share."""
NEAR = (0.7, 1.0, 1.5)
"""What the usual share is taken for, in parts of what was learned: that was learned from few."""
_MUCH_WORSE = tuple((q, ratio) for q in (0.08, 0.2, 0.45) for ratio in (2.5, 6.0, 20.0))
"""Besides, for great changes after few observations, which soon raise what is usual: shares and odds ratios, with a tenth of the weight."""
_WEIGHTS = (0.9 / (len(NEAR) * len(WORSE)),) * (len(NEAR) * len(WORSE)) + (0.1 / len(_MUCH_WORSE),) * len(_MUCH_WORSE)
_MOST = 690.0  # the logarithm of what a float still holds


class Bet(Struct, array_like=True):
    """One bet: `total`, the sum M; `best`, the logarithm of the CUSUM; and of the time since that began anew: when it began (`at`), how
    many there were (`count`), how many of them bad."""

    total: float = 0.0
    best: float = 0.0
    at: int = 0
    count: int = 0
    bad: int = 0

    def add(self, gain: float, *, at: int, count: int, bad: int) -> None:
        """Observations with the likelihood ratio exp(`gain`)."""
        total = math.log1p(self.total) + gain
        self.total = math.exp(total if total < _MOST else _MOST)  # noqa: FURB136 - each label takes this step for each bet
        if self.best <= 0.0:
            self.best, self.at, self.count, self.bad = 0.0, at, 0, 0
        self.best += gain
        self.count += count
        self.bad += bad


def evidence(bets: Sequence[Bet]) -> float:
    """The e-detector: an alarm at N has a run length of N or more."""
    return sum(bet.total for bet in bets) / len(bets) if bets else 0.0


def strongest(bets: Sequence[Bet]) -> Bet:
    """The bet that has won most: its `at` is the estimate of when the change was."""
    return max(bets, key=lambda bet: bet.best)


def counts(bets: list[Bet], line: float, ratios: Sequence[float], *, at: int, count: int, bad: int) -> None:
    """Of `count` observations `bad` were bad. The null: each is bad with a probability of at most `line`, given what came before (with
    `ratios` below 1: at least). L is the likelihood ratio of Bernoulli trials at the odds ratios against the line; within one call one
    may look after each observation, as the product of those so far is a supermartingale. `bets` is made where it is empty."""
    if not bets:
        bets.extend(Bet() for _ in ratios)
    for bet, ratio in zip(bets, ratios, strict=True):
        scale = 1.0 + line * (ratio - 1.0)
        bet.add(bad * math.log(ratio / scale) - (count - bad) * math.log(scale), at=at, count=count, bad=bad)


class Usual(Struct):
    """The share of bad ones is what it was: of a stream whose share nobody knows.

    A conformal test (Vovk, Testing randomness online, Statistical Science 36, 2021; Volkhonskiy et al., Inductive conformal martingales for
    change-point detection, COPA 2017). While the stream is exchangeable, as of independent answers of one quality, the smoothed p-values

        p = (u·k)/n of a bad one,   p = (k + u·(n − k))/n of a good one      (k bad ones among n, this one included; u uniform)

    are independent and uniform, whatever the share is. So a bet f(p) with ∫f = 1 has expectation 1. Here f is the likelihood ratio of an
    odds ratio, as if p < q said that it was bad: f = r/(1 + q(r − 1)) below q, and 1/(1 + q(r − 1)) above. A bet must not depend on the
    observations that make the p-values (on earlier p-values it might); therefore q is learned from the first `least` observations, which
    the p-values then leave out. `u` is a hash of the position, so that the same stream gives the same answer.
    """

    learned: int = 0
    learned_bad: int = 0
    count: int = 0
    bad: int = 0
    bets: list[Bet] = []

    @property
    def evidence(self) -> float:
        """The e-detector: an alarm at N has a run length of N or more."""
        return math.fsum(weight * bet.total for weight, bet in zip(_WEIGHTS, self.bets, strict=True)) if self.bets else 0.0

    @property
    def known(self) -> int:
        """All observations that say what is usual."""
        return self.learned + self.count

    def add(self, wrong: bool, *, least: int, seed: str, at: int) -> None:
        """One more observation. `seed`: its position, in a text that is this stream's alone."""
        if self.learned < least and not self.count:
            self.learned += 1
            self.learned_bad += wrong
            return
        self.count += 1
        self.bad += wrong
        place = uniform(seed)
        p = (place * self.bad if wrong else self.bad + place * (self.count - self.bad)) / self.count
        share = (self.learned_bad + 1) / (self.learned + 2)
        if not self.bets:
            self.bets = [Bet() for _ in _WEIGHTS]
        bad = int(wrong)
        for bet, (q, lost, won) in zip(self.bets, _stakes(share), strict=True):
            bet.add(won if p < q else lost, at=at, count=1, bad=bad)

    def since(self) -> tuple[Bet, float, float]:
        """The change, if there is one: its bet, and the share of bad ones before and since."""
        bet = strongest(self.bets)
        before = (self.learned_bad + self.bad - bet.bad) / max(1, self.known - bet.count)
        return bet, before, bet.bad / max(1, bet.count)

    def forget(self, bet: Bet) -> None:
        """Take what came since the change out of what is usual, and begin anew."""
        self.count -= bet.count
        self.bad -= bet.bad
        self.bets = []


@lru_cache(maxsize=256)
def _stakes(share: float) -> tuple[tuple[float, float, float], ...]:
    """Of each bet about a stream with this usual share: below which p it wins, and its gains (logarithms of f) where it loses and wins."""
    near = ((min(0.9, max(0.001, part * share)), ratio) for part in NEAR for ratio in WORSE)
    lines = [(q, ratio, -math.log1p(q * (ratio - 1.0))) for q, ratio in (*near, *_MUCH_WORSE)]
    return tuple((q, lost, lost + math.log(ratio)) for q, ratio, lost in lines)


def uniform(seed: str) -> float:
    """A number in [0, 1) that looks drawn."""
    return int.from_bytes(blake2b(seed.encode(), digest_size=8, person=b"conformal").digest(), "big") / (1 << 64)
