"""Drift reports: silent where nothing has changed, and loud where it has."""

from __future__ import annotations

from itertools import islice
from typing import Any, get_args

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

from drivetrain.monitoring.drift.measures import Categorical, Numeric, homogeneity
from drivetrain.monitoring.drift.model import Report
from drivetrain.monitoring.drift.report import Options, adjusted, compare
from drivetrain.profiles.build import merge, profile
from drivetrain.profiles.model import Profile

WINDOWS = 200


def mixed(random: np.random.Generator, rows: int, *, shift: float = 0.0, odd: float = 0.3) -> dict[str, Any]:
    """Columns of all kinds, some of them awkward: heavy tails, many categories, missing values, constants."""
    numbers = random.normal(shift, 1, (rows, 8))
    table: dict[str, Any] = {f"n{i}": numbers[:, i] for i in range(8)}
    table["income"] = random.lognormal(10, 1.2, rows)
    table["gap"] = np.where(random.random(rows) < 0.2, np.nan, random.exponential(1, rows))
    table["constant"] = np.ones(rows)
    table["count"] = random.poisson(3, rows)
    table["city"] = random.choice([f"c{i}" for i in range(40)], rows)
    table["answer"] = random.choice(["yes", "no"], rows, p=[odd, 1 - odd])
    return table


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 300, 1500])
def test_windows_without_drift_seldom_alarm(rows: int) -> None:
    random = np.random.default_rng(rows)
    reference = profile(mixed(random, 4000))
    alarms = sum(bool(compare(reference, profile(mixed(random, rows), like=reference, nulls=False)).drifted) for _ in range(WINDOWS))
    assert alarms <= 0.05 * WINDOWS


@pytest.mark.slow
def test_real_windows_without_drift_seldom_alarm() -> None:
    digits = load_digits(as_frame=True).frame
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(10):
        order = random.permutation(len(digits))
        reference = profile(digits.iloc[order[:1200]], target="target")
        live = digits.iloc[order[1200:]]
        for _ in range(20):
            window = live.sample(200, random_state=int(random.integers(1 << 31)))
            alarms += bool(compare(reference, profile(window, like=reference, nulls=False)).drifted)
    assert alarms <= 0.05 * WINDOWS


@pytest.mark.parametrize("rows", [100, 2000])
def test_what_has_changed_is_found_and_nothing_else(rows: int) -> None:
    random = np.random.default_rng(rows)
    reference = profile(mixed(random, 5000))
    live = mixed(random, rows)
    live["n3"] = live["n3"] + 1.0
    live["answer"] = np.where(random.random(rows) < 0.75, "yes", "no")
    live["gap"] = np.where(random.random(rows) < 0.7, np.nan, live["gap"])
    report = compare(reference, profile(live, like=reference, nulls=False))
    assert {feature.name for feature in report.drifted} == {"n3", "answer", "gap · missing"}
    assert report.features[0].drifted
    shown = next(feature for feature in report.features if feature.name == "n3")
    assert sum(bar.reference for bar in shown.bars) == pytest.approx(1)
    assert sum(bar.live for bar in shown.bars) == pytest.approx(1)


def test_the_known_drift_of_a_stream_is_found() -> None:
    from river.datasets import synth

    def rows(seed: int, variant: int) -> pl.DataFrame:
        stream = synth.Hyperplane(seed=seed, n_features=5, n_drift_features=0)
        frame = pl.DataFrame([{f"x{i}": value for i, value in x.items()} for x, _ in islice(stream, 1500)])
        return frame.with_columns(x2=frame["x2"] ** 2) if variant else frame

    reference = profile(rows(1, 0))
    assert not compare(reference, profile(rows(2, 0), like=reference, nulls=False)).drifted
    assert [feature.name for feature in compare(reference, profile(rows(3, 1), like=reference, nulls=False)).drifted] == ["x2"]


def test_a_change_of_concept_in_a_real_stream_is_found() -> None:
    """River's electricity prices: what is traded between the states changes when the market is widened."""
    from river.datasets import Elec2, ImageSegments

    images = list(ImageSegments())
    order = np.random.default_rng(0).permutation(len(images))
    frame = pd.DataFrame([images[i][0] for i in order]).assign(category=[images[i][1] for i in order])
    reference = profile(frame.iloc[:1500], target="category")
    assert not compare(reference, profile(frame.iloc[1500:], like=reference, nulls=False)).drifted
    grass = frame[frame.category == "grass"]
    found = compare(reference, profile(grass, like=reference, nulls=False)).drifted
    assert "category" in {feature.name for feature in found}
    assert Elec2.__doc__  # its data must be downloaded, which tests do not do


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
def test_the_classes_of_known_data_differ(load: Any) -> None:
    frame = load(as_frame=True).frame
    reference = profile(frame, target="target")
    half = frame.sample(frac=0.5, random_state=1)
    assert not compare(reference, profile(half, like=reference, nulls=False)).drifted
    one = frame[frame.target == 0]
    assert len(compare(reference, profile(one, like=reference, nulls=False)).drifted) > 5


WORDS = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("l", "n", "r", "s", "nt", "ck", "ff", "mp", "rd", "tt")])


def texts(random: np.random.Generator, count: int, *, topic: int = 0) -> Any:
    """Texts of a topic whose words are distributed as in languages: a few are in all, most are rare."""
    order = np.random.default_rng(topic).permutation(len(WORDS) - 20)
    words = np.concatenate([WORDS[:20], WORDS[20:][order]])
    weights = 1 / np.arange(1, len(words) + 1)
    lengths = random.poisson(25, count) + 8
    return np.array([" ".join(random.choice(words, size, p=weights / weights.sum())) for size in lengths], dtype=object)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [60, 300])
def test_texts_without_drift_seldom_alarm(rows: int) -> None:
    random = np.random.default_rng(rows)
    reference = profile({"prompt": texts(random, 1000)})
    assert [column.name for column in reference.columns][-1] == "prompt · wording"
    pool = texts(random, 20_000)
    windows = (random.choice(pool, rows, replace=False) for _ in range(WINDOWS))
    alarms = sum(bool(compare(reference, profile({"prompt": window}, like=reference, nulls=False)).drifted) for window in windows)
    assert alarms <= 0.05 * WINDOWS


def test_another_topic_of_known_words_is_found_and_told() -> None:
    random = np.random.default_rng(0)
    reference = profile({"prompt": texts(random, 1000)})
    live = profile({"prompt": texts(random, 150, topic=1)}, like=reference, nulls=False)
    found = {feature.name: feature for feature in compare(reference, live).drifted}
    assert "prompt · wording" in found and "prompt · length" not in found
    assert "of the texts" in found["prompt · wording"].words
    assert len(found["prompt · wording"].bars) > 5


def test_another_language_is_found() -> None:
    random = np.random.default_rng(0)
    reference = profile({"prompt": texts(random, 600)})
    foreign = np.array(["почему буксует сцепление и что делать с коробкой передач сегодня утром"] * 200, dtype=object)
    found = {feature.name for feature in compare(reference, profile({"prompt": foreign}, like=reference, nulls=False)).drifted}
    assert {"prompt · non_latin", "prompt · unknown_words", "prompt · wording"} <= found


def test_a_text_that_is_no_more_is_one_note() -> None:
    reference = profile({"prompt": texts(np.random.default_rng(0), 500), "x": np.arange(500.0)})
    assert compare(reference, profile({"x": np.arange(50.0)}, like=reference)).notes == ["prompt: not among the live inputs."]


MEASURES = [
    *(Options(numeric=name) for name in get_args(Numeric)),
    *(Options(categorical=name) for name in get_args(Categorical)[1:]),
]


@pytest.mark.slow
@pytest.mark.parametrize("options", MEASURES, ids=lambda one: f"{one.numeric} {one.categorical}")
def test_every_measure_finds_drift_and_keeps_silent_without(options: Options) -> None:
    random = np.random.default_rng(7)
    reference = profile(mixed(random, 4000))
    alarms = 0
    for _ in range(WINDOWS):
        alarms += bool(compare(reference, profile(mixed(random, 200), like=reference, nulls=False), options).drifted)
    assert alarms <= 0.05 * WINDOWS
    live = mixed(random, 600, shift=0.7, odd=0.8)
    drifted = compare(reference, profile(live, like=reference, nulls=False), options).drifted
    assert {feature.name for feature in drifted} == {*(f"n{i}" for i in range(8)), "answer"}
    two = "proportion" if options.categorical == Options().categorical else options.categorical
    assert {feature.measure for feature in drifted} == {options.numeric, two}
    assert all(feature.expected < feature.effect for feature in drifted)


CELLS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("a long text, " * 9))


@settings(max_examples=150, deadline=None)
@given(st.lists(CELLS, max_size=40), st.lists(CELLS, max_size=40), st.sampled_from(MEASURES))
def test_whatever_comes_makes_a_report_that_can_be_kept(before: list[Any], now: list[Any], options: Options) -> None:
    def column(values: list[Any]) -> dict[str, Any]:
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return {"x": array}

    reference = msgspec.json.decode(msgspec.json.encode(profile(column(before))), type=Profile)
    live = profile(column(now), like=reference, nulls=False)
    report = compare(reference, merge(live, live), options)
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_homogeneity_is_scipys() -> None:
    from scipy.stats import chi2_contingency

    before, now = np.array([300.0, 500.0, 200.0]), np.array([40.0, 45.0, 15.0])
    theirs = chi2_contingency(np.stack([before, now]), correction=False)
    statistic, p, freedom = homogeneity(before, now)
    assert [statistic, p] == pytest.approx([theirs.statistic, theirs.pvalue])
    assert freedom == theirs.dof
    assert homogeneity(np.array([5.0, 0.0]), np.array([3.0, 0.0])) == (0.0, 1.0, 0)


def test_a_window_that_is_too_small_says_so() -> None:
    random = np.random.default_rng(0)
    reference = profile(mixed(random, 500))
    report = compare(reference, profile(mixed(random, 10, shift=9), like=reference, nulls=False), Options(least_rows=30))
    assert not report.enough
    assert not report.drifted


def test_false_discoveries_are_corrected_as_scipy_does() -> None:
    from scipy.stats import false_discovery_control

    values = np.random.default_rng(0).random(30) ** 3
    assert adjusted(list(values)) == pytest.approx(list(false_discovery_control(values)))
