"""Numbers in words."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.words import span, spelled

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


@given(st.floats())
def test_every_number_has_a_form_in_strict_json(value: float) -> None:
    back = float(json.loads(json.dumps(spelled(value), allow_nan=False)))
    assert back == value or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (0.2, "1 second"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (3600, "60 minutes"),
        (24_000, "6.7 hours"),
        (129_600, "36 hours"),
        (30 * 86_400, "30 days"),
        (86_400e6, "1,000,000 days"),
    ],
)
def test_a_time_is_counted_in_what_people_count_in(seconds: float, words: str) -> None:
    assert span(seconds) == words


def told(seconds: float) -> float:
    count, unit = span(seconds).split()
    return float(count.replace(",", "")) * UNITS[unit.removesuffix("s")]


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_no_time_is_told_to_be_shorter_than_it_is(one: float, other: float) -> None:
    short, long = sorted((one, other))
    assert told(short) >= short - 0.01
    assert told(short) <= told(long) + 0.01
