"""The laws of assignment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from drivetrain.serving.assignment import assign, draw


@dataclass(frozen=True)
class V:
    id: str
    weight: int


UNITS = [f"unit-{i}" for i in range(2000)]
weights = st.lists(st.integers(0, 10_000), min_size=1, max_size=5).filter(any)
salts = st.text(max_size=8)


def variants(weights: list[int]) -> list[V]:
    return [V(f"v{i}", weight) for i, weight in enumerate(weights)]


def where(salt: str, vs: list[V], units: list[str] = UNITS) -> dict[str, str]:
    return {unit: chosen.id for unit in units if (chosen := assign(salt, unit, vs))}


@given(salts, weights, st.text(), st.randoms())
def test_sticky_whatever_the_order_and_never_to_a_variant_without_weight(salt: str, ws: list[int], unit: str, random: object) -> None:
    vs = variants(ws)
    chosen = assign(salt, unit, vs)
    shuffled = list(vs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert chosen is not None
    assert chosen.weight > 0
    assert assign(salt, unit, shuffled) == chosen
    assert assign(salt, unit, [v for v in vs if v.weight]) == chosen


@given(salts, weights, st.integers(0, 4), st.integers(1, 10_000))
def test_a_growing_weight_takes_and_a_shrinking_one_gives(salt: str, ws: list[int], which: int, more: int) -> None:
    which %= len(ws)
    before = variants(ws)
    after = variants([w + more * (i == which) for i, w in enumerate(ws)])
    old, new = where(salt, before, UNITS[:300]), where(salt, after, UNITS[:300])
    moved = {unit for unit in old if old[unit] != new[unit]}
    assert {new[unit] for unit in moved} <= {f"v{which}"}


@given(salts, weights)
def test_removing_a_variant_moves_its_units_only(salt: str, ws: list[int]) -> None:
    vs = variants([*ws, 5000])
    old, new = where(salt, vs, UNITS[:300]), where(salt, vs[:-1], UNITS[:300])
    assert all(old[unit] == new[unit] for unit in old if old[unit] != vs[-1].id)


def test_shares_are_the_weights() -> None:
    units = [f"u{i}" for i in range(40_000)]
    for ws in ([5000, 5000], [9900, 100], [1, 2, 3, 4], [9999, 1]):
        counts = Counter(where("s", variants(ws), units).values())
        expected = [w / sum(ws) * len(units) for w in ws]
        assert chisquare([counts[f"v{i}"] for i in range(len(ws))], expected).pvalue > 0.001


def test_a_canary_step_moves_exactly_the_difference() -> None:
    units = [f"u{i}" for i in range(20_000)]
    at_1 = where("s", variants([9900, 100]), units)
    at_5 = where("s", variants([9500, 500]), units)
    moved = sum(at_1[unit] != at_5[unit] for unit in units) / len(units)
    assert 0.035 < moved < 0.045
    assert all(at_5[unit] == "v1" for unit in units if at_1[unit] == "v1")


def test_salts_are_independent() -> None:
    vs = variants([5000, 5000])
    one, two = where("one", vs), where("two", vs)
    table = Counter((one[unit], two[unit]) for unit in UNITS)
    assert chisquare(list(table.values())).pvalue > 0.001


def test_draws_are_uniform_and_never_zero() -> None:
    buckets = Counter(int(draw("s", "v", unit) * 20 - 1e-12) for unit in UNITS)
    assert len(buckets) == 20
    assert chisquare(list(buckets.values())).pvalue > 0.001


def test_nobody_without_a_weight() -> None:
    assert assign("s", "u", []) is None
    assert assign("s", "u", variants([0, 0])) is None
