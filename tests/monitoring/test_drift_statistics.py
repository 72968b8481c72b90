"""The tests of drift: the same statistics as Evidently's, on the same columns."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.monitoring.drift import tests as ours

RANDOM = np.random.default_rng(3)
COLUMNS: dict[str, tuple[Any, Any]] = {
    "shifted": (RANDOM.normal(size=3000), RANDOM.normal(0.2, 1.3, size=1200)),
    "same size": (RANDOM.normal(size=2000), RANDOM.normal(0.1, 1, size=2000)),
    "skewed": (RANDOM.lognormal(size=2500), RANDOM.lognormal(0.1, size=700)),
    "whole numbers": (RANDOM.poisson(40, size=1500), RANDOM.poisson(42, size=900)),
    "few values": (RANDOM.integers(0, 8, size=1500), RANDOM.integers(0, 7, size=400)),
    "constant": (np.full(1200, 3.0), np.full(500, 3.1)),
}
CATEGORIES: dict[str, tuple[Any, Any]] = {
    "letters": (RANDOM.choice(list("abcde"), size=1500), RANDOM.choice(list("abcd"), size=500)),
    "two": (RANDOM.choice(["yes", "no"], size=900, p=[0.4, 0.6]), RANDOM.choice(["yes", "no"], size=300, p=[0.5, 0.5])),
    "the same": (np.array(["x"] * 100), np.array(["x"] * 40)),
}


@pytest.fixture(scope="module")
def peer() -> Any:
    """Evidently is heavy: only who runs these tests waits for it, not everyone who collects them."""
    return importlib.import_module("tests.monitoring.peer")


@pytest.mark.parametrize("test", sorted(ours.NUMERIC))
@pytest.mark.parametrize("column", sorted(COLUMNS))
def test_numeric_columns(peer: Any, test: str, column: str) -> None:
    reference, live = COLUMNS[column]
    theirs = peer.numeric(test, pd.Series(reference), pd.Series(live))
    assert ours.NUMERIC[test][0](reference, live) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("column", sorted(CATEGORIES))
def test_categories(peer: Any, column: str) -> None:
    reference, live = CATEGORIES[column]
    before, now = pd.Series(reference), pd.Series(live)
    for name in ("jensenshannon", "psi", "chisquare", *(("z",) if column != "letters" else ())):
        assert ours.CATEGORICAL[name][0](reference, live) == pytest.approx(peer.categorical(name, before, now), abs=1e-6, nan_ok=True)
    assert ours.total_variation(reference, live) == pytest.approx(peer.total_variation(before, now), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=80),
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=80),
)
def test_wasserstein_is_the_same_whatever_the_columns(peer: Any, reference: list[float], live: list[float]) -> None:
    theirs = peer.numeric("wasserstein", pd.Series(reference), pd.Series(live))
    assert ours.wasserstein(np.array(reference), np.array(live)) == pytest.approx(theirs, rel=1e-6, abs=1e-6)


def test_a_classifier_tells_other_texts_apart_and_not_the_same() -> None:
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    cars = ["the car has a gear and a clutch and an engine", "wheels turn on the road", "the engine drives the wheels", "a gear box"]
    food = ["the soup is hot and the bread is fresh", "salt and pepper on the table", "bake the bread in the oven", "a bowl of soup"]
    before, same = list(random.choice(cars, 200)), list(random.choice(cars, 200))
    other = list(random.choice(food, 200))
    for tells in (ours.domain_auc, ours.hashed_domain_auc):
        assert tells(before, other) > 0.95
        assert abs(tells(before, same) - 0.5) < 0.1
    truth, scores = random.integers(0, 2, 300), random.normal(size=300).round(1)
    assert ours.auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))


def test_texts_are_told_apart_as_evidently_does(peer: Any) -> None:
    random = np.random.default_rng(1)
    words = [f"word{i}" for i in range(60)]
    before = [" ".join(random.choice(words[:50], 9)) for _ in range(300)]
    for first in (0, 4, 10):
        now = [" ".join(random.choice(words[first:], 9)) for _ in range(200)]
        assert ours.domain_auc(before, now) == pytest.approx(peer.domain_auc(pd.Series(before), pd.Series(now)), abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.5])
def test_vectors_are_as_far_apart_as_evidently_says(peer: Any, shift: float) -> None:
    random = np.random.default_rng(2)
    before, now = random.normal(size=(150, 8)), random.normal(shift, 1, size=(110, 8))
    theirs = peer.mmd(pd.DataFrame(before), pd.DataFrame(now))
    assert max(0.0, ours.mmd(before, now, permutations=1)[0]) == pytest.approx(theirs, abs=1e-6)


def test_vectors() -> None:
    random = np.random.default_rng(0)
    before = random.normal(size=(80, 6))
    assert ours.mmd(before, random.normal(size=(60, 6)))[1] > 0.05
    assert ours.mmd(before, random.normal(0.8, 1, size=(60, 6)))[1] < 0.02
