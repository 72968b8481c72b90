"""What the statistics promise, in thousands of simulated rollouts: few false alarms however often one looks, and quick detection.

The sequence of bad units is all that the e-process sees, so it is what is simulated: each is the canary's with the chance that its share
and its rate give it. Seeds are fixed; the bounds leave room for the error of the simulation (three standard errors).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from drivetrain.rollout.judging.case import STREAMS
from drivetrain.rollout.judging.statistics import (
    RATIOS,
    WEIGHTS,
    ArmSums,
    BettingSequence,
    MeanPhase,
    PhaseCounts,
    difference,
    log_e,
    log_e_mismatch,
    odds_share,
)
from drivetrain.rollout.model import Guardrail, Plan, Step
from drivetrain.rollout.planning.planner import plan_rollout

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ALPHA = 0.05
RAMP = (0.01, 0.05, 0.25, 0.5)


def within(rate: float, runs: int, of: float = ALPHA) -> bool:
    """Whether a rate of false alarms is at most `of`, up to the error of the simulation."""
    return rate <= of + 3 * math.sqrt(of * (1 - of) / runs)


def evidence(shares: Floats, canary: Bools, tolerance: float = 1.0) -> Floats:
    """`log_e` after each bad unit: `shares` of the traffic and `canary`, each (bad units, runs)."""
    logs: Floats = np.zeros((len(RATIOS), *canary.shape))
    weights = np.array(WEIGHTS).reshape(-1, *[1] * canary.ndim)
    null = shares * tolerance / (shares * tolerance + 1 - shares)
    for i, ratio in enumerate(RATIOS):
        odds = shares * ratio * tolerance
        share: Floats = odds / (odds + 1 - shares)
        up: Floats = np.log(share / null)
        down: Floats = np.log((1 - share) / (1 - null))
        logs[i] = np.where(canary, up, down).cumsum(axis=0)
    top = logs.max(axis=0)
    mixed: Floats = top + np.log((weights * np.exp(logs - top)).sum(axis=0))
    return mixed


def bad_units(rng: np.random.Generator, units: int, runs: int, share: float, base: float, ratio: float = 1.0) -> tuple[Floats, Bools]:
    """When the bad units come (as numbers of units of the canary), and whose they are."""
    chance = base * (share * ratio + 1 - share)
    most = int(units * chance + 6 * math.sqrt(units * chance) + 10)
    when: Floats = rng.geometric(chance, (most, runs)).cumsum(axis=0) * share
    return when, rng.random((most, runs)) < odds_share(share, ratio)


def first(when: Floats, found: Floats, alpha: float = ALPHA) -> Floats:
    """When the evidence first crosses, of each run; infinity if never."""
    hit = found >= -math.log(alpha)
    at = hit.argmax(axis=0)
    return np.where(hit.any(axis=0), np.take_along_axis(when, at[None], axis=0)[0], np.inf)


def test_the_fast_form_is_that_of_the_product() -> None:
    rng = np.random.default_rng(1)
    shares = np.repeat([0.05, 0.5], 40)[:, None] * np.ones(3)
    canary = rng.random(shares.shape) < 0.3
    found = evidence(shares, canary, 1.5)
    for run in range(3):
        for until in (1, 40, 55, 80):
            seen = [PhaseCounts(share, int((canary[:until, run] & (shares[:until, run] == share)).sum()), 0) for share in (0.05, 0.5)] + [
                PhaseCounts(share, 0, int((~canary[:until, run] & (shares[:until, run] == share)).sum())) for share in (0.05, 0.5)
            ]
            assert found[until - 1, run] == pytest.approx(log_e(seen, tolerance=1.5))


@pytest.mark.parametrize("share", [0.5, 0.1, 0.05])
def test_equal_versions_are_rarely_taken_back(share: float) -> None:
    """40,000 to 100,000 units with 0.5 % errors, a look at each."""
    runs = 1000
    when, canary = bad_units(np.random.default_rng(2), 60_000, runs, share, 0.005)
    assert within(float(np.isfinite(first(when, evidence(np.full(canary.shape, share), canary))).mean()), runs)


@pytest.mark.slow
def test_equal_versions_are_rarely_taken_back_over_a_whole_ramp_while_the_rate_swings() -> None:
    """Errors come in bursts and at three times the rate by day: what the traffic does changes nothing, since stable has it too."""
    runs, rng = 2000, np.random.default_rng(3)
    each = 90
    swings = (0.5, 3.0, 1.0, 3.0)
    shares = np.concatenate([np.full((int(each * swing), runs), share) for share, swing in zip(RAMP, swings, strict=True)])
    assert within(float((evidence(shares, rng.random(shares.shape) < shares) >= math.log(20)).any(axis=0).mean()), runs)


@pytest.mark.slow
def test_a_tolerance_is_kept() -> None:
    """A version that is 1.5 times worse is taken back in at most 5 % where that is tolerated, and nearly always where it is not."""
    runs, rng = 800, np.random.default_rng(4)
    shares = np.full((800, runs), 0.3)
    canary = rng.random(shares.shape) < odds_share(0.3, 1.5)
    assert within(float((evidence(shares, canary, 1.5) >= math.log(20)).any(axis=0).mean()), runs)
    assert (evidence(shares, canary) >= math.log(20)).any(axis=0).mean() > 0.95


@pytest.mark.parametrize(
    ("share", "rate", "low", "high"),
    [(0.1, 0.01, 1_700, 2_600), (0.1, 0.02, 240, 364), (0.05, 0.1, 18, 32.5), (0.05, 0.5, 2, 5.2)],  # up to 1.3 times the table
    ids=["0.5-to-1", "0.5-to-2", "0.5-to-10", "0.5-to-50"],
)
def test_a_worse_version_is_seen_soon(share: float, rate: float, low: float, high: float) -> None:
    """From 0.5 % errors: the median number of the canary's units until then, which the planner foretells. Half of α is for looks."""
    runs = 500
    when, canary = bad_units(np.random.default_rng(5), int(6 * high / share), runs, share, 0.005, rate / 0.005)
    median = float(np.median(first(when, evidence(np.full(canary.shape, share), canary), ALPHA / STREAMS)))
    assert low <= median <= high
    step = Step(share=round(share * 10_000), min_units=10**7)
    plan = Plan(name="one", steps=(step,), guardrails=(Guardrail(measure="errors"),), auto_promote=False)
    told = plan_rollout(plan, units_per_second=1.0, base_rate=0.005, ratio=rate / 0.005, alpha=ALPHA).detected
    assert told is not None
    assert told.units == pytest.approx(median, rel=0.4)


def test_looking_again_and_again_with_a_test_for_one_look_fires_falsely() -> None:
    """What this is for: a z-test of equal arms, looked at every 50 requests, fires in a third of all canaries and more."""
    runs, looks, every, rate = 600, 800, 50, 0.005
    rng = np.random.default_rng(6)
    each = every // 2
    canary = rng.binomial(each, rate, (looks, runs)).cumsum(axis=0)
    stable = rng.binomial(each, rate, (looks, runs)).cumsum(axis=0)
    n = (np.arange(1, looks + 1) * each)[:, None]
    pooled = (canary + stable) / (2 * n)
    spread = np.sqrt(np.maximum(pooled * (1 - pooled) * 2 / n, 1e-12))
    z = np.abs(canary - stable) / n / spread
    fired = (z[canary.sum(axis=1) > 0] > 1.96).any(axis=0).mean()
    assert fired > 0.3


def sticky(runs: int, seed: int) -> tuple[float, float]:
    """How often whole ramps of a version that is exactly as good are taken back: counted by unit, and by request.

    Users come back (some a lot), and keep their own error rates (one in forty has half of the requests fail). Who has come to the
    canary stays. A unit counts once in the whole rollout, at its first bad request, wherever it is then.
    """
    rng = np.random.default_rng(seed)
    users, requests = 2500, 3000
    by_unit = by_request = 0
    for _ in range(runs):
        hashes = rng.random(users)
        activity = rng.pareto(1.2, users) + 0.2
        rates = np.where(rng.random(users) < 0.025, 0.5, 0.002)
        who = rng.choice(users, (len(RAMP), requests), p=activity / activity.sum())
        share = np.repeat(np.array(RAMP)[:, None], requests, axis=1)
        bad = rng.random(who.shape) < rates[who]
        who_bad, share_bad = who[bad], share[bad]
        canary = hashes[who_bad] < share_bad
        firsts = np.unique(who_bad, return_index=True)[1]
        firsts.sort()
        by_unit += bool((evidence(share_bad[firsts, None], canary[firsts, None]) >= math.log(20)).any())
        by_request += bool((evidence(share_bad[:, None], canary[:, None]) >= math.log(20)).any())
    return by_unit / runs, by_request / runs


def test_people_with_unequal_error_rates_count_once() -> None:
    runs = 400
    by_unit, by_request = sticky(runs, 7)
    assert within(by_unit, runs)
    assert by_request > 0.12  # one unlucky user who comes back is taken for a bad version


@pytest.mark.slow
def test_people_with_unequal_error_rates_count_once_in_many_rollouts() -> None:
    runs = 4000
    by_unit, by_request = sticky(runs, 8)
    assert by_unit <= ALPHA
    assert by_request > 0.12


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.1, 0.05])
def test_equal_versions_are_rarely_taken_back_in_many_rollouts(share: float) -> None:
    fired, runs, rng = 0, 12_000, np.random.default_rng(9)
    for _ in range(runs // 2000):
        when, canary = bad_units(rng, 80_000, 2000, share, 0.005)
        fired += int(np.isfinite(first(when, evidence(np.full(canary.shape, share), canary))).sum())
    assert fired / runs <= ALPHA


def test_right_assignment_is_rarely_called_a_mismatch_and_a_wrong_one_is_found() -> None:
    """α = 0.001. At 10 %, an arm that gets a tenth too few units is found within some 10,000."""
    rng, runs, looks, each = np.random.default_rng(10), 200, 100, 200

    def alarms(share: float) -> float:
        canary = rng.binomial(each, share, (runs, looks)).cumsum(axis=1)
        total = np.arange(1, looks + 1) * each
        seen = ([PhaseCounts(0.1, int(k), int(n - k)) for k, n in zip(row, total, strict=True)] for row in canary)
        return sum(any(log_e_mismatch([one]) >= math.log(1000) for one in row) for row in seen) / runs

    assert alarms(0.1) <= 0.01
    assert alarms(0.08) > 0.95


def _sums(values: Floats, of: Bools) -> ArmSums:
    chosen = values[of]
    return ArmSums(len(chosen), float(chosen.sum()), float((chosen**2).sum()))


def _mean_ramp(rng: np.random.Generator, draw_canary: float, each: int, looks: int, tolerance: float) -> bool:
    """Whether a ramp is taken back for a mean; looked at `looks` times in each step."""
    before: list[MeanPhase] = []
    for share in (0.05, 0.25, 0.5):
        canary = rng.random(each) < share
        values = rng.gamma(2.0, 1.0, each) * np.where(canary, draw_canary, 1.0)
        for until in np.linspace(each // looks, each, looks, dtype=int):
            now = MeanPhase(share, _sums(values[:until], canary[:until]), _sums(values[:until], ~canary[:until]))
            found = difference([*before, now], alpha=ALPHA, tolerance=tolerance)
            if found is not None and found.low > 0:
                return True
        before.append(now)
    return False


@pytest.mark.parametrize("tolerance", [1.0, 1.2])
def test_equal_means_are_rarely_taken_back_and_higher_ones_are(tolerance: float) -> None:
    runs, rng = 300, np.random.default_rng(11)
    equal = sum(_mean_ramp(rng, tolerance, 4000, 30, tolerance) for _ in range(runs)) / runs
    higher = sum(_mean_ramp(rng, tolerance * 1.3, 4000, 30, tolerance) for _ in range(100)) / 100
    assert within(equal, runs)
    assert higher > 0.95


@pytest.mark.slow
def test_small_changes_of_frequent_events_are_seen_sooner_as_means() -> None:
    """5 % → 6 % at a share of 10 %."""
    rng, runs, share, every = np.random.default_rng(12), 160, 0.1, 2_000
    found = []
    for _ in range(runs):
        came = rng.binomial(every, share, 80)
        counts = np.array([came, every - came, rng.binomial(came, 0.06), rng.binomial(every - came, 0.05)]).cumsum(axis=1)
        seen = (int(now[0]) for now in counts.T if _binary(share, now.tolist()))
        found.append(next(seen, math.inf))
    when, canary = bad_units(rng, 120_000, runs, share, 0.05, 1.2)
    counted = float(np.median(first(when, evidence(np.full(canary.shape, share), canary))))
    assert 4_800 < counted < 7_000
    assert float(np.median(found)) < counted


def _binary(share: float, seen: Sequence[int]) -> bool:
    """Whether units and bad units of canary and stable, taken as means, are harm."""
    canary, stable, bad_canary, bad_stable = seen
    arms = ArmSums(canary, bad_canary, bad_canary), ArmSums(stable, bad_stable, bad_stable)
    found = difference([MeanPhase(share, *arms)], alpha=ALPHA)
    return found is not None and found.low > 0


def _cover(values: Sequence[float], mean: float) -> bool:
    sequence = BettingSequence(ALPHA, grid=200)
    for value in values:
        sequence.add(value)
        if not sequence.interval.low <= mean <= sequence.interval.high:
            return False
    return True


def test_bets_hold_the_mean_at_every_moment() -> None:
    runs, rng = 150, np.random.default_rng(13)
    for a, b in ((0.5, 0.5), (1.0, 20.0)):
        kept = sum(_cover(rng.beta(a, b, 200).tolist(), a / (a + b)) for _ in range(runs))
        assert within(1 - kept / runs, runs)
