"""The laws of assignment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from drivetrain.serving.assignment import assign, draw, salt_of, stand_in
from drivetrain.serving.routes import DeploymentRoute, ReplicaRoute, RolloutRoute, VariantRoute


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


@settings(deadline=None)
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


@settings(deadline=None)
@given(salts, weights, st.integers(0, 4), st.integers(1, 10_000))
def test_a_growing_weight_takes_and_a_shrinking_one_gives(salt: str, ws: list[int], which: int, more: int) -> None:
    which %= len(ws)
    before = variants(ws)
    after = variants([w + more * (i == which) for i, w in enumerate(ws)])
    old, new = where(salt, before, UNITS[:300]), where(salt, after, UNITS[:300])
    moved = {unit for unit in old if old[unit] != new[unit]}
    assert {new[unit] for unit in moved} <= {f"v{which}"}


@settings(deadline=None)
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


def deployment(stable: int, canary: int, *, rollout: str | None = "r1", ready: tuple[str, ...] = ("stable", "canary")) -> DeploymentRoute:
    def variant(key: str, weight: int) -> VariantRoute:
        replicas = (ReplicaRoute(f"{key}-1", "unix:/nowhere", 1),) if key in ready else ()
        return VariantRoute(key, key, weight, "default/m", 1, "c", "pyfunc", ("infer",), replicas)

    at = RolloutRoute(rollout, 1, "stable", "canary") if rollout else None
    variants = (variant("stable", stable), variant("canary", canary))
    return DeploymentRoute("d", "w", "default", "live", "salt", False, "all", 1.0, variants, at)


def canaries(shares: Sequence[int], rollout: str, units: Sequence[str]) -> list[set[str]]:
    """Who comes to the canary in each step of a rollout."""
    found = []
    for share in shares:
        now = deployment(10_000 - share, share, rollout=rollout)
        found.append({unit for unit in units if (one := assign(salt_of(now), unit, now.variants)) and one.id == "canary"})
    return found


@settings(deadline=None)
@given(st.text(max_size=8), st.lists(st.integers(1, 10_000), min_size=2, max_size=6, unique=True).map(sorted))
def test_in_a_ramp_who_has_come_to_the_canary_stays(rollout: str, shares: list[int]) -> None:
    steps = canaries(shares, rollout, UNITS[:300])
    assert all(earlier <= later for earlier, later in pairwise(steps))


def test_each_rollout_draws_its_first_units_anew() -> None:
    units = [f"u{i}" for i in range(20_000)]
    one, two = (canaries([1_000], rollout, units)[0] for rollout in ("r1", "r2"))
    table = [[len(one & two), len(one - two)], [len(two - one), len(units) - len(one | two)]]
    assert chi2_contingency(table).pvalue > 0.001
    assert salt_of(deployment(1, 1, rollout=None)) == "salt"
    assert salt_of(deployment(1, 1, rollout="r1")) != salt_of(deployment(1, 1, rollout="r2"))


def test_which_rollout_a_unit_goes_first_in_says_nothing_of_its_name() -> None:
    """Units that look alike (numbers in a row, one prefix) are spread as any."""
    for name in ("user-{}", "{}", "a" * 200 + "{}", "{}@example.com"):
        units = [name.format(i) for i in range(20_000)]
        came = len(canaries([500], "r", units)[0])
        assert chisquare([came, 20_000 - came], [1_000, 19_000]).pvalue > 0.0005


def test_who_answers_where_a_variant_has_no_replica() -> None:
    now = deployment(9_000, 1_000, ready=("stable",))
    stable, canary = now.variants
    assert stand_in(now, canary) == stable
    assert stand_in(now, stable) is None  # the canary has none
    assert stand_in(deployment(10_000, 0, ready=("canary",)), stable) is None  # one without traffic is not to answer
