"""The laws of the statistics: what they are by definition, computed in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from drivetrain.rollout.judging.statistics import (
    CERTIFIABLE,
    LEAST_PER_ARM,
    RATIOS,
    WEIGHTS,
    ArmSums,
    BettingSequence,
    MeanPhase,
    PhaseCounts,
    boundary,
    certified_ratio,
    difference,
    log_e,
    log_e_certify,
    log_e_mismatch,
    mean_interval,
    odds_share,
)

shares = st.floats(0.001, 0.999)
counts = st.integers(0, 400)
phases = st.lists(st.builds(PhaseCounts, shares, counts, counts), max_size=5)
tolerances = st.floats(0.5, 4.0)


def expected(share: float, total: int, ratio: float, log_of: object) -> float:
    """The expectation of an e-value over `total` bad units, if the canary's rate is `ratio` times stable's."""
    chances = binom.pmf(range(total + 1), total, odds_share(share, ratio))
    values = [math.exp(log_of([PhaseCounts(share, k, total - k)])) for k in range(total + 1)]  # type: ignore[operator]
    return float(np.dot(chances, values))


def test_it_is_the_mixture_of_the_paper() -> None:
    """Equation by equation, without logarithms, for counts that floats can hold."""
    some = [PhaseCounts(0.1, 7, 20), PhaseCounts(0.25, 3, 6)]
    naive = 0.0
    for ratio, weight in zip(RATIOS, WEIGHTS, strict=True):
        one = 1.0
        for phase in some:
            share = phase.share * ratio / (phase.share * ratio + 1 - phase.share)
            one *= (share / phase.share) ** phase.canary * ((1 - share) / (1 - phase.share)) ** phase.stable
        naive += one * weight
    assert math.exp(log_e(some)) == pytest.approx(naive, rel=1e-12)
    assert (RATIOS[0], RATIOS[-1]) == pytest.approx((1.15, 150.0))
    assert list(RATIOS) == sorted(RATIOS)
    assert sum(WEIGHTS) == pytest.approx(1.0)


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.integers(1, 60), tolerances)
def test_under_the_null_an_e_value_is_one_on_average(share: float, total: int, tolerance: float) -> None:
    assert expected(share, total, tolerance, lambda some: log_e(some, tolerance=tolerance)) == pytest.approx(1.0, rel=1e-6)
    assert expected(share, total, tolerance, lambda some: log_e_certify(some, ratio=tolerance)) == pytest.approx(1.0, rel=1e-6)
    assert expected(share, total, 1.0, log_e_mismatch) == pytest.approx(1.0, rel=1e-6)


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.integers(1, 60), st.floats(0.05, 1.0))
def test_a_better_canary_is_even_safer_than_an_equal_one(share: float, total: int, ratio: float) -> None:
    assert expected(share, total, ratio, log_e) <= 1.0 + 1e-9
    assert expected(share, total, 2.0 / ratio, lambda some: log_e_certify(some, ratio=2.0)) <= 1.0 + 1e-9


def test_under_the_null_the_product_over_a_ramp_is_one_on_average() -> None:
    first, second = 0.05, 0.5
    total = 0.0
    for i, chance in enumerate(binom.pmf(range(13), 12, first)):
        for k, other in enumerate(binom.pmf(range(16), 15, second)):
            total += chance * other * math.exp(log_e([PhaseCounts(first, i, 12 - i), PhaseCounts(second, k, 15 - k)]))
    assert total == pytest.approx(1.0, rel=1e-9)


@settings(deadline=None)
@given(phases, tolerances, st.randoms())
def test_the_order_of_phases_and_how_they_are_cut_do_not_matter(some: list[PhaseCounts], tolerance: float, random: object) -> None:
    whole = log_e(some, tolerance=tolerance)
    cut = [part for one in some for part in (PhaseCounts(one.share, one.canary, 0), PhaseCounts(one.share, 0, one.stable))]
    random.shuffle(cut)  # type: ignore[attr-defined]
    assert log_e(cut, tolerance=tolerance) == pytest.approx(whole, rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(phases, counts, counts, tolerances)
def test_phases_in_which_one_arm_has_everything_say_nothing(some: list[PhaseCounts], a: int, b: int, tolerance: float) -> None:
    more = [PhaseCounts(0.0, a, b), *some, PhaseCounts(1.0, b, a)]
    assert log_e(more, tolerance=tolerance) == log_e(some, tolerance=tolerance)
    assert log_e_mismatch(more) == log_e_mismatch(some)


@settings(deadline=None)
@given(phases, shares, tolerances)
def test_a_bad_unit_of_the_canary_speaks_against_it_and_one_of_stable_for_it(some: list[PhaseCounts], share: float, t: float) -> None:
    now = log_e(some, tolerance=t)
    assert log_e([*some, PhaseCounts(share, 1, 0)], tolerance=t) >= now - 1e-9
    assert log_e([*some, PhaseCounts(share, 0, 1)], tolerance=t) <= now + 1e-9


def test_no_evidence_without_data_and_no_overflow_with_much() -> None:
    assert log_e([]) == log_e_mismatch([]) == log_e_certify([], ratio=2.0) == 0.0
    for one in (PhaseCounts(0.0001, 10**9, 0), PhaseCounts(0.9999, 0, 10**9), PhaseCounts(0.5, 10**9, 10**9)):
        for value in (log_e([one]), log_e_mismatch([one]), log_e_certify([one], ratio=1.5)):
            assert math.isfinite(value)


@settings(deadline=None)
@given(phases, st.floats(0.001, 0.2))
def test_the_ratio_that_is_certified_is_the_smallest_of_its_grid(some: list[PhaseCounts], alpha: float) -> None:
    found = certified_ratio(some, alpha)
    good = [ratio for ratio in CERTIFIABLE if log_e_certify(some, ratio=ratio) >= -math.log(alpha)]
    assert found == (good[0] if good else None)


def test_many_equal_bad_units_certify_and_condemn_nothing() -> None:
    equal = [PhaseCounts(0.5, 500, 500)]
    found = certified_ratio(equal, 0.05)
    assert found is not None
    assert 1.0 < found < 1.5
    assert log_e(equal) < 0
    assert certified_ratio([PhaseCounts(0.5, 500, 100)], 0.05) is None


@pytest.mark.parametrize(("canary", "verdict"), [(1000, False), (1100, False), (1250, True), (760, True)])
def test_a_mismatch_is_seen_on_both_sides(canary: int, verdict: bool) -> None:
    assert (log_e_mismatch([PhaseCounts(0.1, canary, 9000)]) >= math.log(1000)) == verdict


def sums(values: np.ndarray) -> ArmSums:
    return ArmSums(len(values), float(values.sum()), float((values**2).sum()))


def mean_phases(rng: np.random.Generator, *of: tuple[float, int]) -> list[MeanPhase]:
    made = []
    for share, units in of:
        canary = rng.random(units) < share
        values = rng.gamma(2.0, 3.0, units)
        made.append(MeanPhase(share, sums(values[canary]), sums(values[~canary])))
    return made


def test_the_difference_is_that_of_the_values_one_by_one() -> None:
    """The same from the values themselves, as the paper writes it, in place of their sums."""
    rng = np.random.default_rng(5)
    canary, values, share, tolerance = rng.random(3000) < 0.2, rng.gamma(2.0, 3.0, 3000), 0.2, 1.3
    m = values[~canary].mean()
    contrast = canary * (values - m) / share - tolerance * ~canary * (values - m) / (1 - share) + (1 - tolerance) * m
    half = contrast.std() * boundary(3000, 0.05)
    found = difference([MeanPhase(share, sums(values[canary]), sums(values[~canary]))], alpha=0.05, tolerance=tolerance)
    assert found is not None
    assert (found.point, found.low, found.high) == pytest.approx((contrast.mean(), contrast.mean() - half, contrast.mean() + half))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 1000.0), st.floats(-50.0, 50.0))
def test_the_difference_has_the_units_of_the_values_and_no_zero_of_its_own(seed: int, scale: float, shift: float) -> None:
    share, units = 0.3, 1200
    rng = np.random.default_rng(seed)
    canary, values = rng.random(units) < share, rng.gamma(2.0, 3.0, units)
    found = difference([MeanPhase(share, sums(values[canary]), sums(values[~canary]))], alpha=0.05)
    moved = values * scale + shift
    other = difference([MeanPhase(share, sums(moved[canary]), sums(moved[~canary]))], alpha=0.05)
    assert found is not None
    assert other is not None
    assert (other.low, other.high) == pytest.approx((found.low * scale, found.high * scale), rel=1e-5, abs=1e-5)


def test_no_difference_before_a_hundred_units_of_each() -> None:
    few, enough = ArmSums(LEAST_PER_ARM - 1, 5.0, 5.0), ArmSums(LEAST_PER_ARM, 5.0, 5.0)
    assert difference([], alpha=0.05) is None
    assert difference([MeanPhase(0.5, few, enough)], alpha=0.05) is None
    assert difference([MeanPhase(0.5, enough, few)], alpha=0.05) is None
    assert difference([MeanPhase(0.5, enough, enough)], alpha=0.05) is not None
    assert difference([MeanPhase(1.0, enough, enough)], alpha=0.05) is None


def test_phases_add_up_and_values_that_are_all_the_same_leave_no_doubt() -> None:
    rng = np.random.default_rng(3)
    found = difference(mean_phases(rng, (0.05, 4000), (0.5, 4000)), alpha=0.05)
    assert found is not None
    assert found.low < 0 < found.high
    same = ArmSums(200, 400.0, 800.0)
    exact = difference([MeanPhase(0.5, same, same)], alpha=0.05)
    assert exact is not None
    assert (exact.low, exact.point, exact.high) == pytest.approx((0.0, 0.0, 0.0))


def test_the_boundary_is_nearly_as_tight_as_any_where_it_is_tuned() -> None:
    for alpha in (0.05, 0.005):
        best = min(boundary(10_000, alpha, best_at=at) for at in range(1000, 50_000, 100))
        assert boundary(10_000, alpha) == pytest.approx(best, rel=2e-3)
    assert math.isfinite(boundary(1, 0.5))


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), max_size=60), st.floats(0.01, 0.2))
def test_an_interval_of_bets_only_shrinks_and_holds_no_nonsense(values: list[float], alpha: float) -> None:
    sequence = BettingSequence(alpha, grid=50)
    before = sequence.interval
    assert (before.low, before.high) == (0.0, 1.0)
    for value in values:
        sequence.add(value)
        now = sequence.interval
        assert before.low <= now.low < now.high <= before.high
        before = now
    if values:
        assert before.point == pytest.approx(sum(values) / len(values))


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=200))
def test_bets_on_the_mirror_image_give_the_mirror_image(values: list[float]) -> None:
    found, mirrored = mean_interval(values, 0.05), mean_interval([1.0 - value for value in values], 0.05)
    assert (1.0 - mirrored.high, 1.0 - mirrored.low) == pytest.approx((found.low, found.high), abs=1 / 500 + 1e-9)


def test_bets_refuse_what_the_capital_of_the_paper_refuses() -> None:
    """Theorem 3 and equation 26 of Waudby-Smith and Ramdas, on the whole grid at once."""
    rng = np.random.default_rng(11)
    values, alpha = rng.beta(2.0, 5.0, 400), 0.05
    means = (np.arange(500) + 0.5) / 500
    up, down, alive = np.zeros(500), np.zeros(500), np.ones(500, dtype=bool)
    for t in range(1, len(values) + 1):
        past = values[: t - 1]
        running = (0.5 + np.cumsum(past)) / (np.arange(1, t) + 1)
        variance = (0.25 + ((past - running) ** 2).sum()) / t
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t)))
        up += np.log1p(np.minimum(bet, 0.5 / means) * (values[t - 1] - means))
        down += np.log1p(-np.minimum(bet, 0.5 / (1 - means)) * (values[t - 1] - means))
        alive &= np.maximum(up, down) + math.log(0.5) < math.log(1 / alpha)
    found = mean_interval(values, alpha)
    kept = means[alive]
    assert (found.low, found.high) == pytest.approx((kept[0] - 1 / 500, kept[-1] + 1 / 500))


def test_a_value_that_is_none_is_refused() -> None:
    for value in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="between 0 and 1"):
            BettingSequence(0.05).add(value)
