"""Joining answers with labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.feedback.labels import prediction, same
from drivetrain.monitoring.quality import quality, wilson
from drivetrain.store.events.model import Event


def answer(request_id: str, value: object, **more: object) -> Event:
    text = f'{{"outputs":[{{"name":"predict","shape":[1],"datatype":"INT64","data":[{value}]}}]}}'
    return Event(id=request_id, t=0, output=text, **more)  # type: ignore[arg-type]


def test_counts_only_what_has_a_label_and_succeeded() -> None:
    events = [answer("a", 1), answer("b", 2), answer("c", 3), answer("d", 4, error="upstream")]
    found = quality(events, {"a": 1, "b": "2", "d": 4, "gone": 9})
    assert (found.requests, found.labelled, found.right, found.accuracy) == (3, 2, 2, 1.0)


def test_without_labels_there_is_no_figure() -> None:
    assert quality([answer("a", 1)], {}).accuracy is None


@pytest.mark.parametrize("output", [None, "", "sha256:ab", "{}", '{"outputs":[]}', '{"outputs":[{"data":[1,2]}]}', '"text… (9 more)'])
def test_what_holds_no_single_value_is_no_prediction(output: str | None) -> None:
    assert prediction(output) is None


def test_labels_are_compared_as_values() -> None:
    assert same(3, "3")
    assert same(3, 3.0)
    assert same("cat", "cat")
    assert not same("cat", "dog")
    assert not same(1, None)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share(counts: tuple[int, int]) -> None:
    right, count = counts
    low, high = wilson(right, count)
    assert 0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1


def test_the_interval_of_a_textbook() -> None:
    low, high = wilson(81, 263)  # Newcombe 1998, table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
