"""Columns that make drift cry wolf: many categories, identifiers, times, heavy tails, tiny and huge scales, rare and constant values, and
references that are too small. Silent where nothing has changed, and loud where it has."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.monitoring.drift import chance, proportions
from drivetrain.monitoring.drift.measures import Categorical, Numeric
from drivetrain.monitoring.drift.model import Report
from drivetrain.monitoring.drift.report import Options, compare
from drivetrain.profiles import sketch as kll
from drivetrain.profiles.build import MOST_CATEGORIES, merge, profile
from drivetrain.profiles.distance import ruler, wasserstein
from drivetrain.profiles.model import Profile

WINDOWS = 200
REFERENCES = 8
DAY = 86_400

Draw = Callable[[np.random.Generator, int], Any]


def categories(count: int, *, zipf: bool) -> Draw:
    names = np.array([f"name {i}" for i in range(count)], dtype=object)
    below = np.cumsum(1 / np.arange(1, count + 1)) if zipf else np.arange(1.0, count + 1)
    return lambda random, rows: names[np.searchsorted(below, random.random(rows) * below[-1])]


def identifiers(random: np.random.Generator, rows: int) -> Any:
    return np.array([str(uuid.UUID(bytes=random.bytes(16))) for _ in range(rows)], dtype=object)


def moments(random: np.random.Generator, rows: int) -> Any:
    return np.datetime64("2024-01-01T00:00:00") + random.integers(28 * DAY, size=rows).astype("timedelta64[s]")


def mostly(zero: float) -> Draw:
    return lambda random, rows: np.where(random.random(rows) < zero, 0.0, np.exp(2 * random.normal(size=rows)))


KINDS: dict[str, Draw] = {
    **{
        f"{count} {'Zipf' if zipf else 'uniform'}": categories(count, zipf=zipf) for count in (300, 2_000, 10_000) for zipf in (False, True)
    },
    "some rare": lambda random, rows: np.array(list("abcdef"), dtype=object)[np.minimum(random.geometric(0.9, rows), 6) - 1],
    "identifiers": identifiers,
    "numbered": lambda random, rows: int(random.integers(1, 9)) * 100_000 + np.arange(rows),
    "datetimes": moments,
    "texts of times": lambda random, rows: moments(random, rows).astype(str).astype(object),
    "log-normal, σ 3": lambda random, rows: np.exp(3 * random.normal(size=rows)),
    "Cauchy": lambda random, rows: random.standard_cauchy(rows),
    "scale 1e-9": lambda random, rows: 3e-9 + 1e-9 * random.normal(size=rows),
    "scale 1e9": lambda random, rows: 1e9 * random.normal(size=rows),
    "constant": lambda random, rows: np.full(rows, 0.1),
    "one category": lambda random, rows: np.array(["a"] * rows, dtype=object),
    "boolean, 1 %": lambda random, rows: random.random(rows) < 0.01,
    "0 and 1, 1 %": lambda random, rows: (random.random(rows) < 0.01).astype(float),
    "mostly zero": mostly(0.9),
    "nearly all zero": mostly(0.99),
    "rare counts": lambda random, rows: random.poisson(0.05, rows).astype(float),
}


def of(values: Any) -> Profile:
    return profile({"x": values})


def seen(reference: Profile, values: Any, *, at: float = 0) -> Report:
    live = profile({"x": values}, like=reference, nulls=False)
    live.from_ms = live.to_ms = int(1000 * at)
    return compare(reference, live)


def found(reference: Profile, values: Any, *, at: float = 0) -> set[str]:
    return {feature.name for feature in seen(reference, values, at=at).drifted}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [50, 200, 1_000])
@pytest.mark.parametrize("known", [200, 2_000])
@pytest.mark.parametrize("kind", KINDS)
def test_windows_without_drift_seldom_alarm(kind: str, known: int, rows: int) -> None:
    random = np.random.default_rng(known + rows)
    alarms = 0
    for _ in range(REFERENCES):
        reference = of(KINDS[kind](random, known))
        alarms += sum(bool(found(reference, KINDS[kind](random, rows))) for _ in range(WINDOWS // REFERENCES))
    assert alarms <= 0.05 * WINDOWS


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_of_each_kind_is_calm(kind: str) -> None:
    random = np.random.default_rng(0)
    reference = of(KINDS[kind](random, 2_000))
    assert found(reference, KINDS[kind](random, 200)) == set()


@pytest.mark.parametrize("rows", [50, 200, 1_000])
@pytest.mark.parametrize("known", [200, 2_000])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("shape", ["normal", "log-normal, σ 3", "far from zero"])
def test_a_shift_of_three_robust_deviations_is_seen_at_every_scale(shape: str, scale: float, known: int, rows: int) -> None:
    random = np.random.default_rng(known + rows)
    draw: Draw = {
        "normal": lambda random, rows: random.normal(size=rows),
        "log-normal, σ 3": KINDS["log-normal, σ 3"],
        "far from zero": lambda random, rows: 1000 + random.normal(size=rows),
    }[shape]
    for _ in range(5):
        values = scale * draw(random, known)
        away = 3 * float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 1.349
        for sign in (1, -1):
            assert found(of(values), scale * draw(random, rows) + sign * away) == {"x"}


@pytest.mark.parametrize("scale", [1e-120, 1e-9, 1e9, 1e120])
def test_the_unit_of_a_column_does_not_matter(scale: float) -> None:
    random = np.random.default_rng(1)
    values, live = random.normal(size=900), random.normal(0.5, 2, size=300)
    plain, scaled = seen(of(values), live).features[0], seen(of(scale * values), scale * live).features[0]
    assert scaled.effect == pytest.approx(plain.effect)
    assert scaled.p == pytest.approx(plain.p)
    assert plain.effect == pytest.approx(wasserstein(kll.sketch(values), kll.sketch(live)))


def test_a_log_normal_column_that_grows_fourfold_is_seen() -> None:
    random = np.random.default_rng(1)
    reference = of(np.exp(3 * random.normal(size=2_000)))
    assert found(reference, 4 * np.exp(3 * random.normal(size=500))) == {"x"}


@pytest.mark.parametrize("kind", ["300 uniform", "2000 uniform", "10000 uniform", "300 Zipf", "2000 Zipf", "10000 Zipf"])
def test_a_new_category_of_a_fifth_is_seen(kind: str) -> None:
    random = np.random.default_rng(2)
    for known in (2_000, 20_000):
        reference = of(KINDS[kind](random, known))
        for _ in range(5):
            live = KINDS[kind](random, 200)
            live[random.random(200) < 0.2] = "new"
            assert found(reference, live) == {"x"}


def test_a_rare_category_that_becomes_common_is_seen() -> None:
    random = np.random.default_rng(3)
    reference = of(KINDS["10000 Zipf"](random, 5_000))
    live = KINDS["10000 Zipf"](random, 200)
    live[random.random(200) < 0.2] = min(reference.columns[0].counts, key=lambda name: reference.columns[0].counts[name])
    assert found(reference, live) == {"x"}


@pytest.mark.parametrize(("rows", "share"), [(200, 0.1), (1_000, 0.05), (1_000, 0.1)])
@pytest.mark.parametrize("numbers", [False, True], ids=["boolean", "0 and 1"])
def test_a_rare_value_that_becomes_common_is_seen(numbers: bool, rows: int, share: float) -> None:
    random = np.random.default_rng(4)

    def draw(rows: int, share: float) -> Any:
        values = random.random(rows) < share
        return values.astype(float) if numbers else values

    for known in (500, 3_000, 100_000):
        reference = of(draw(known, 0.01))
        report = seen(reference, draw(rows, share))
        assert [feature.measure for feature in report.drifted] == ["proportion"]


@pytest.mark.parametrize("measure", get_args(Numeric))
def test_a_rare_value_is_seen_by_every_measure(measure: Numeric) -> None:
    random = np.random.default_rng(4)
    reference = of((random.random(3_000) < 0.01).astype(float))
    for share, changed in ((0.01, False), (0.3, True)):
        live = profile({"x": (random.random(300) < share).astype(float)}, like=reference, nulls=False)
        assert bool(compare(reference, live, Options(numeric=measure)).drifted) is changed


@pytest.mark.parametrize("measure", get_args(Categorical))
def test_many_categories_are_calm_by_every_measure(measure: Categorical) -> None:
    random = np.random.default_rng(4)
    reference = of(KINDS["2000 Zipf"](random, 2_000))
    for _ in range(20):
        live = profile({"x": KINDS["2000 Zipf"](random, 300)}, like=reference, nulls=False)
        assert compare(reference, live, Options(categorical=measure)).drifted == []


@pytest.mark.parametrize(
    ("value", "other"),
    [(7.0, 8.0), (0.0, 1e-12), (1e-9, 1.001e-9), (True, False), ("a", "b"), (np.float32(0.1), 0.2)],
    ids=["number", "zero", "small", "boolean", "text", "single precision"],
)
def test_a_constant_that_becomes_something_else_is_seen_and_an_odd_row_is_not(value: Any, other: Any) -> None:
    for known in (200, 3_000, 400_000):
        reference = of(np.array([value] * known, dtype=object if isinstance(value, str) else None))
        for rows in (50, 200, 1_000):
            live = np.array([value] * rows, dtype=object if isinstance(value, str) else None)
            assert found(reference, live) == set()
            live[rows // 2] = other
            assert found(reference, live) == set()
            live[:] = other
            assert found(reference, live) == {"x"}


def test_numbers_of_single_precision_are_what_people_wrote() -> None:
    reference = of(np.full(500, 0.1, dtype=np.float32))
    assert found(reference, np.full(200, 0.1)) == set()


def test_one_row_out_of_all_bounds_is_no_drift_and_many_are() -> None:
    random = np.random.default_rng(5)
    reference = of(random.normal(size=3_000))
    live = random.normal(size=200)
    live[0] = 1e12
    assert found(reference, live) == set()
    live[:20] = 1e12
    assert found(reference, live) == {"x"}


def test_identifiers_are_compared_by_their_form() -> None:
    random = np.random.default_rng(6)
    reference = of(identifiers(random, 500))
    report = seen(reference, identifiers(random, 200))
    assert reference.columns[0].kind == "identifier"
    assert report.drifted == []
    assert report.notes == ["x: identifiers, nearly all of them different. Their values are not compared, only their form."]
    assert found(reference, np.array([f"user:{i}@example.org" for i in range(200)], dtype=object)) == {"x · form"}
    assert found(reference, np.array([None] * 150 + identifiers(random, 50).tolist(), dtype=object)) == {"x · missing"}


@pytest.mark.parametrize("form", ["datetime", "text", "seconds", "milliseconds"])
def test_times_grow_by_nature(form: str) -> None:
    def column(first: float, rows: int) -> Any:
        seconds = first + np.sort(np.random.default_rng(rows).integers(28 * DAY, size=rows))
        match form:
            case "datetime":
                return (1e6 * seconds).astype("datetime64[us]")
            case "text":
                return np.array([f"{one}Z" for one in seconds.astype("datetime64[s]").astype(str)], dtype=object)
            case _:
                return (seconds * (1000 if form == "milliseconds" else 1)).astype(np.int64)

    first = 1_700_000_000.0
    reference = of(column(first, 2_000))
    assert reference.columns[0].kind == "time"
    later = column(first + 90 * DAY, 200)
    for at in (0.0, first + 100 * DAY, first + 130 * DAY):  # not known, among the values, soon after them
        report = seen(reference, later, at=at)
        assert report.drifted == []
        assert report.notes == ["x: times, which grow by nature. They are not compared, only what is missing or of another form."]
    assert found(reference, np.array(["soon"] * 100 + column(first, 100).tolist(), dtype=object)) == {"x · form"}


def test_times_that_do_not_keep_up_with_the_clock_are_compared() -> None:
    """Dates of birth, or of delivery, do not grow with the requests: where they go, something has changed."""
    random = np.random.default_rng(7)
    reference = of(moments(random, 2_000))
    now = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
    assert found(reference, moments(random, 200), at=now) == set()
    report = seen(reference, moments(random, 200) + np.timedelta64(400, "D"), at=now)
    assert [feature.name for feature in report.drifted] == ["x"]
    assert report.drifted[0].words.startswith("they were from 2024-01-01")
    assert report.notes == []


def test_a_small_reference_says_that_it_is_small() -> None:
    random = np.random.default_rng(8)
    report = seen(of(random.normal(size=200)), random.normal(size=200))
    assert report.enough
    assert report.notes == ["The reference has only 200 rows: what is rare in it is not known well, so that only large changes are seen."]
    report = seen(of(random.normal(size=20)), random.normal(size=200) + 9)
    assert not report.enough
    assert report.drifted == []
    assert report.notes == ["The reference has 20 rows: too few for a verdict."]


def test_profiles_of_format_1_are_read_and_compared() -> None:
    raw = (Path(__file__).parent.parent / "profiles" / "format-1.json").read_bytes()
    reference = msgspec.json.decode(raw, type=Profile)
    assert reference.format == 1
    random = np.random.default_rng(9)
    words = ["gear", "clutch", "engine", "wheel", "brake", "road", "hill", "winter", "morning", "car"]
    names = np.array([f"u{i}" for i in range(1200)], dtype=object)

    def window(rows: int) -> dict[str, Any]:
        return {
            "amount": random.lognormal(0, 3, rows),
            "small": random.normal(size=rows) * 1e-9,
            "constant": np.ones(rows),
            "rare": (random.random(rows) < 0.01).astype(float),
            "user": names[random.integers(1200, size=rows)],
            "colour": random.choice(np.array(["red", "green", "blue"], dtype=object), rows),
            "prompt": np.array([" ".join(random.choice(words, 14)) for _ in range(rows)], dtype=object),
        }

    def drifted(table: dict[str, Any]) -> set[str]:
        return {feature.name for feature in compare(reference, profile(table, like=reference, nulls=False)).drifted}

    assert sum(bool(drifted(window(200))) for _ in range(20)) <= 1
    changed = window(200)
    changed |= {"small": changed["small"] + 3e-9, "rare": (random.random(200) < 0.15).astype(float), "constant": np.zeros(200)}
    changed["user"] = np.where(random.random(200) < 0.5, "somebody", changed["user"])
    changed["prompt"] = np.array(["a soup with bread and butter, and salt on the table for all of us tonight"] * 200, dtype=object)
    assert drifted(changed) >= {"small", "rare", "constant", "user", "prompt · unknown_words"}


def test_of_more_categories_than_there_is_room_for_the_rest_is_one() -> None:
    random = np.random.default_rng(10)
    draw = categories(3 * MOST_CATEGORIES, zipf=False)
    reference = of(draw(random, 200_000))
    column = reference.columns[0]
    assert (column.kind, len(column.counts)) == ("categorical", MOST_CATEGORIES)
    assert column.distinct > 2.9 * MOST_CATEGORIES
    assert sum(column.counts.values()) + column.other == 200_000
    for rows in (200, 2_000):
        assert sum(bool(found(reference, draw(random, rows))) for _ in range(10)) == 0
    one = profile({"x": draw(random, 300)}, like=reference, nulls=False)
    two = profile({"x": draw(random, 300)}, like=reference, nulls=False)
    assert compare(reference, merge(one, two)).drifted == []


@pytest.mark.parametrize("sizes", [(3, 2), (40, 25), (200, 17), (900, 60)])
def test_the_exact_test_of_two_shares_is_fishers(sizes: tuple[int, int]) -> None:
    from scipy.stats import hypergeom

    n, m = sizes
    for k in {0, 1, n // 3, n}:
        for j in {0, 1, m // 2, m}:
            moved = j - (j * n > k * m) + (j * n < k * m)
            law = hypergeom(n + m, k + moved, m)
            at = law.pmf(moved) / 2
            tail = min(law.cdf(moved) - at, law.sf(moved) + at)
            assert proportions.chance(k, n, j, m) == pytest.approx(min(1.0, 2 * tail), abs=1e-9)


def test_the_null_is_what_splits_show() -> None:
    """The Wasserstein distances of splits, computed at once, are those of splits made one by one; and large samples by their quantiles."""
    random = np.random.default_rng(11)
    one, two = random.gamma(2, 1, 300), random.gamma(2, 1, 100)
    scale = ruler(kll.sketch(one))
    both = np.concatenate([one, two])
    slow = []
    for _ in range(chance.SPLITS):
        order = random.permutation(both)
        slow.append(wasserstein(kll.sketch(order[:300]), kll.sketch(order[300:]), scale))
    fast = chance.of_numbers(kll.sketch(one), kll.sketch(two), scale)
    assert fast.mean() == pytest.approx(np.mean(slow), rel=0.1)
    assert fast.std() == pytest.approx(np.std(slow), rel=0.2)
    large = random.gamma(2, 1, 40_000)
    windows = [wasserstein(kll.sketch(large), kll.sketch(random.gamma(2, 1, 3_000)), scale) for _ in range(60)]
    learned = chance.of_numbers(kll.sketch(large), kll.sketch(random.gamma(2, 1, 3_000)), scale)
    assert learned.mean() == pytest.approx(np.mean(windows), rel=0.15)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(0, 50), st.integers(0, 2**32 - 1))
def test_the_distance_of_categories_has_its_laws(counts: list[int], other: int, seed: int) -> None:
    before = np.array([[*counts, other]])
    window = np.random.default_rng(seed).permutation(before[0])[None]
    if not before.sum():
        return
    some = chance.apart(before, window, int(before.sum()))[0][0]
    assert 0 <= some <= np.sqrt(np.log(2)) + 1e-9
    order = np.random.default_rng(seed).permutation(len(counts))
    again = chance.apart(before[:, [*order, -1]], window[:, [*order, -1]], int(before.sum()))[0][0]
    assert again == pytest.approx(some, abs=1e-6)
    larger = before * 20
    assert chance.apart(larger, larger, int(larger.sum()))[0][0] == pytest.approx(0, abs=1e-6)
