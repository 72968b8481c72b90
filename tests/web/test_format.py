"""Numbers, sizes and times as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.web import format as fmt
from drivetrain.web.svg import Node, fit, lineage, spark


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (3.0, "3"),
        (1234567, "1\u202f234\u202f567"),
        (0.123456, "0.1235"),
        (-0.5, "−0.5"),
        (math.nan, "NaN"),
        (-math.inf, "−∞"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert fmt.number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_is_near_what_it_says(value: float) -> None:
    text = fmt.number(value, 6).replace("−", "-").replace("\u202f", "")
    assert float(text) == pytest.approx(value, rel=1e-5, abs=1e-300)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0.42, "0.42 ms"), (999.6, "1 s"), (1400, "1.4 s"), (200_000, "3 min 20 s"), (7_500_000, "2 h 5 min"), (3e8, "3 d 11 h"), (None, "–")],
)
def test_duration(ms: float | None, text: str) -> None:
    assert fmt.duration(ms).replace("\u00a0", " ") == text


def test_size() -> None:
    assert fmt.size(0) == "0\u00a0B"
    assert fmt.size(1536) == "1.5\u00a0KiB"
    assert fmt.size(145 << 20) == "145\u00a0MiB"


def test_ago_has_the_exact_moment() -> None:
    text = fmt.ago(1_700_000_000_000, now=1_700_000_090_000)
    assert "1 min ago" in text
    assert "2023-11-14 22:13:20 UTC" in text


def test_breakable_escapes() -> None:
    assert fmt.breakable("<b>/x") == "&lt;b&gt;/<wbr>x"


def test_spark_keeps_gaps_and_escapes() -> None:
    drawn = spark([1, 2, None, 3, 1], 'a"b')
    assert drawn.count("M") == 4  # two parts, each as line and area
    assert "a&#34;b" in drawn
    assert "nothing yet" in spark([0, 0, 0], "x")


@given(st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, 20), max_size=3)), max_size=20))
def test_lineage_places_without_overlap(shape: list[tuple[int, list[int]]]) -> None:
    nodes = [Node(f"n{i}", column, "k", f"n{i}", parents=tuple(f"n{p}" for p in parents)) for i, (column, parents) in enumerate(shape)]
    drawing = lineage(nodes)
    places = [(box.x, box.y) for box in drawing.boxes]
    assert len(places) == len(nodes)
    for i, (x, y) in enumerate(places):
        assert 0 <= x <= drawing.width - drawing.box_width
        assert 0 <= y <= drawing.height - drawing.box_height
        assert all(x != other_x or abs(y - other_y) >= drawing.box_height for other_x, other_y in places[i + 1 :])


@given(st.text(), st.integers(3, 30))
def test_fit(text: str, letters: int) -> None:
    assert len(fit(text, letters)) <= max(letters, 0)
    assert fit(text, len(text)) == text
