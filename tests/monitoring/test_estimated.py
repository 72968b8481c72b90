"""Quality without labels: right while only the inputs change, and no more than that is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from drivetrain.monitoring.drift.estimated import accuracy
from drivetrain.profiles.calibration import MOST_STEPS, believed, calibrate, confidence_of


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.booleans()), min_size=1, max_size=60))
def test_calibration_is_isotonic_regression(rows: list[tuple[float, bool]]) -> None:
    scores, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, right.astype(float)).predict(scores)
    assert believed(calibrate(scores, right), scores) == pytest.approx(theirs, abs=1e-9)


def test_calibration_is_bounded_and_rises() -> None:
    random = np.random.default_rng(0)
    scores = random.random(50_000)
    made = calibrate(scores, random.random(50_000) < scores**2)
    assert len(made.scores) <= MOST_STEPS
    assert made.right == sorted(made.right)
    assert believed(made, [0.5, 0.9]) == pytest.approx([0.25, 0.81], abs=0.05)
    assert believed(made, [-1.0, 2.0]) == pytest.approx([made.right[0], made.right[-1]])


def test_accuracy_is_estimated_under_a_change_of_inputs() -> None:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, held, live = order[:500], order[500:1100], order[1100:]
    model = LogisticRegression(C=0.001, max_iter=5000, tol=0.01).fit(x[train], y[train])
    calibration = calibrate(*confidence_of(model.predict_proba(x[held]), y[held]))
    for _ in range(2):
        told = model.predict_proba(x[live])
        estimate = accuracy(told.max(axis=1), calibration)
        assert estimate is not None and estimate.calibrated
        assert estimate.value == pytest.approx(float((told.argmax(axis=1) == y[live]).mean()), abs=0.03)
        assert estimate.low <= estimate.value <= estimate.high
        assert "Estimated without labels" in estimate.words
        live = live[told.max(axis=1) < np.median(told.max(axis=1))]  # then only what is hard comes in


def test_the_interval_covers_what_happens() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        p = random.beta(6, 2, 200)
        estimate = accuracy(p, None)
        assert estimate is not None and not estimate.calibrated
        covered += estimate.low <= (random.random(200) < p).mean() <= estimate.high
    assert covered >= 0.92 * 300
    assert accuracy([], None) is None


def test_what_cannot_be_used_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="as many answers"):
        calibrate([0.5], [])
    with pytest.raises(ValueError, match="from 0 to 1"):
        confidence_of([[2.0, 3.0]], [1])
    with pytest.raises(ValueError, match="2 right answers"):
        confidence_of([[0.5, 0.5]], [1, 0])
