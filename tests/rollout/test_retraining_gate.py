"""The gate between a new version and traffic: a judgement on held-out answers, pair by pair, with an interval."""

from __future__ import annotations

import random

import numpy as np
import pytest

from drivetrain.retraining.gate import compare, judge, score, spread
from drivetrain.retraining.model import Gate, held_out
from drivetrain.store.ids import uuid7

NAMES = ("digits version 2", "digits version 1")


def scores(rng: random.Random, rows: int, share: float) -> list[float]:
    return [float(rng.random() < share) for _ in range(rows)]


def test_a_better_version_passes_and_the_gate_says_by_how_much() -> None:
    rng = random.Random(7)
    found = judge(Gate(), scores(rng, 300, 0.95), scores(rng, 300, 0.6), quantities=False, names=NAMES)
    assert found.passed and found.recent is not None and found.recent.low > 0
    assert found.recent.low < found.recent.difference < found.recent.high
    assert "digits version 2 was right on 9" in found.words and "better, with 95% certainty between +" in found.words


@pytest.mark.parametrize("share", [0.6, 0.5], ids=["as good", "worse"])
def test_a_version_that_is_no_better_does_not_pass(share: float) -> None:
    rng = random.Random(7)
    found = judge(Gate(), scores(rng, 300, share), scores(rng, 300, 0.6), quantities=False, names=NAMES)
    assert not found.passed and "digits version 1 goes on" in found.words


def test_too_few_rows_decide_nothing() -> None:
    found = judge(Gate(min_rows=50), [1.0] * 49, [0.0] * 49, quantities=False, names=NAMES)
    assert not found.passed and found.recent is None and "takes 50" in found.words


def test_a_margin_is_asked_for() -> None:
    rng = random.Random(3)
    new, old = scores(rng, 400, 0.95), scores(rng, 400, 0.7)
    assert judge(Gate(margin=0.1), new, old, quantities=False, names=NAMES).passed
    refused = judge(Gate(margin=0.3), new, old, quantities=False, names=NAMES)
    assert not refused.passed and "more than 30.0 points better" in refused.words


def test_what_is_better_lately_must_not_have_forgotten_the_rest() -> None:
    """2,000 older answers that the challenger gets wrong more often, 500 newer ones that it gets right more often."""
    rng = random.Random(5)
    new = scores(rng, 2000, 0.7) + scores(rng, 500, 0.9)
    old = scores(rng, 2000, 0.9) + scores(rng, 500, 0.5)
    found = judge(Gate(recent=500), new, old, quantities=False, names=NAMES)
    assert found.recent is not None and found.recent.low > 0
    assert not found.passed and "may have lost more than 2.0 points" in found.words


@pytest.mark.slow
def test_equal_versions_pass_in_no_more_than_their_share_of_tries() -> None:
    """One side of a 95 % interval, which is conservative besides: well below 5 % of 400 tries."""
    rng = random.Random(1)
    passed = sum(compare(scores(rng, 100, 0.8), scores(rng, 100, 0.8), 0.05).low > 0 for _ in range(400))
    assert passed <= 20


def test_pairs_tell_more_than_two_shares() -> None:
    """The same rows are hard for both: 3 points of difference are seen in 1,000 pairs of which few differ."""
    rng = random.Random(9)
    old = scores(rng, 1000, 0.8)
    new = [1.0 if not right and rng.random() < 0.15 else right for right in old]
    assert compare(new, old, 0.05).low > 0


def test_quantities_are_judged_by_their_distance() -> None:
    labels = np.random.default_rng(7).normal(100, 20, 500).tolist()
    scale = spread(labels)
    assert scale is not None and scale > 80
    new = [score(label + 1, label, scale) for label in labels]
    old = [score(label + 10, label, scale) for label in labels]
    found = judge(Gate(), new, old, quantities=True, names=NAMES)
    assert found.passed and found.metric == "closeness"
    assert score(None, 5.0, scale) == 0.0 and score(float("nan"), 5.0, scale) == 0.0


@pytest.mark.parametrize(
    ("labels", "quantity"),
    [([0, 1, 2, 3], False), (["a", "b"], False), ([True, False], False), ([0.5, 1.5], True), (list(range(100)), True), ([], False)],
    ids=["digits", "words", "yes or no", "fractions", "many numbers", "none"],
)
def test_which_labels_are_quantities(labels: list[object], quantity: bool) -> None:
    assert (spread(labels) is not None) is quantity


def test_labels_of_either_type_are_the_same_answer() -> None:
    assert score(3, "3", None) == score(3.0, 3, None) == score("cat", "cat", None) == 1.0
    assert score(None, 3, None) == score("cat", "dog", None) == 0.0


def test_what_is_held_out_stays_so_and_is_as_much_as_was_asked_for() -> None:
    ids = [uuid7() for _ in range(5000)]
    out = {each for each in ids if held_out(each, 0.2)}
    assert 0.17 < len(out) / len(ids) < 0.23
    assert out <= {each for each in ids if held_out(each, 0.3)}
    assert out == {each for each in ids if held_out(each, 0.2)}
