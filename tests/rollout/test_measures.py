"""What each measure sees in an event or an opinion."""

from __future__ import annotations

from typing import Any

import pytest

from drivetrain.errors import Invalid
from drivetrain.feedback.model import Opinion, Scalar
from drivetrain.rollout.counting.measures import Fixed, known, nearest, parse
from drivetrain.rollout.counting.outputs import Known
from drivetrain.store.events.model import Event

GOOD: dict[str, Any] = {"id": "e", "t": 0, "latency_ms": 100.0, "ttft_ms": 10.0, "tokens_out": 50, "cost": 0.5, "output": "fine"}

KNOWN = Known(low=0.0, high=10.0, forms=("FP64[]",), edges=(2.0, 5.0))


def seen(measure: str, line: float | None = None, **more: Any) -> bool | None:
    """Whether the event is bad; None if it says nothing."""
    observe = parse(measure).observe_event
    assert observe is not None
    found = observe(Event(**(GOOD | more)), Fixed(line, KNOWN))
    return None if found is None else found.bad


def heard(measure: str, name: str, value: Scalar, *, kind: str = "feedback", correct: bool | None = None) -> bool | None:
    observe = parse(measure).observe_opinion
    assert observe is not None
    said = Opinion(id="o", request_id="r", kind=kind, name=name, value=value, source="", comment="", user="", created_ms=0, correct=correct)
    found = observe(said, None)
    return None if found is None else found.bad


@pytest.mark.parametrize(
    ("measure", "more", "bad"),
    [
        ("errors", {}, False),
        ("errors", {"error": "upstream"}, True),
        ("errors", {"error": "timeout"}, True),
        ("errors", {"error": "cancelled"}, None),
        ("errors", {"assigned": "the one that had no replica"}, True),
        ("timeouts", {"error": "timeout"}, True),
        ("timeouts", {"error": "upstream"}, False),
        ("timeouts", {"error": "cancelled"}, None),
        ("latency_p95", {}, False),
        ("latency_p95", {"latency_ms": 120.1}, True),
        ("latency_p95", {"latency_ms": 120.1, "error": "upstream"}, None),
        ("latency_p95", {"latency_ms": 120.1, "assigned": "other"}, None),
        ("latency_p95", {"latency_ms": 30_000.0, "error": "cancelled"}, True),
        ("latency_p95", {"latency_ms": 90.0, "error": "cancelled"}, None),
        ("ttft_p99", {"ttft_ms": 121.0}, True),
        ("ttft_p99", {"ttft_ms": None}, None),
        ("ttft_p99", {"ttft_ms": None, "latency_ms": 30_000.0, "error": "cancelled"}, True),
        ("ttft_p99", {"ttft_ms": 5.0, "latency_ms": 30_000.0, "error": "cancelled"}, None),
        ("latency>99.5", {}, True),
        ("latency>100", {}, False),
        ("cost>0.4", {}, True),
        ("cost>0.4", {"cost": 0.0}, None),
        ("tokens_out_p95", {"tokens_out": 121}, True),
        ("invalid_output", {"form": "FP64[]", "said": 3.0}, False),
        ("invalid_output", {"form": "FP64[]", "wrong": "nan"}, True),
        ("invalid_output", {"form": "INT64[]", "said": 3.0}, True),
        ("invalid_output", {"form": "FP64[]", "said": 11.0}, True),
        ("invalid_output", {"form": "FP64[]", "said": 3.0, "error": "upstream"}, None),
        ("invalid_output", {}, None),
        ("invalid_output:nonempty", {"output": " \n"}, True),
        ("invalid_output:nonempty", {}, False),
        ("memory>100", {"memory_mb": 101.0}, True),
        ("memory>100", {"memory_mb": 99.0, "error": "upstream"}, False),
        ("memory>100", {}, None),
        ("invalid_output:json", {}, True),
        ("invalid_output:json", {"output": '{"a": [1]}'}, False),
        ("invalid_output:json", {"output": "sha256:00"}, None),
        ("invalid_output:json", {"output": None}, None),
        ("invalid_output:matches=^f[a-z]+$", {}, False),
        ("invalid_output:matches=^g", {}, True),
    ],
)
def test_events(measure: str, more: dict[str, Any], bad: bool | None) -> None:
    assert seen(measure, 120.0 if measure.rpartition("_p")[2] in ("95", "99") else None, **more) is bad


def test_a_measure_without_its_line_says_nothing() -> None:
    assert seen("latency_p95", None) is None
    assert parse("latency_p95").needs_line and not parse("latency>5").needs_line and not parse("errors").needs_line


@pytest.mark.parametrize(("measure", "value"), [("latency_mean", 100.0), ("tokens_out_mean", 50.0), ("cost_mean", 0.5)])
def test_means(measure: str, value: float) -> None:
    found = parse(measure)
    assert found.kind == "mean" and found.observe_event is not None
    observed = found.observe_event(Event(**GOOD), Fixed())
    assert observed is not None and (observed.value, observed.bad) == (value, False)
    assert found.observe_event(Event(**(GOOD | {"error": "upstream"})), Fixed()) is None


@pytest.mark.parametrize(
    ("measure", "name", "value", "bad"),
    [
        ("thumbs_down", "thumbs_down", True, True),
        ("thumbs_down", "thumbs_down", False, False),
        ("thumbs_down", "thumbs", "down", True),
        ("thumbs_down", "thumbs", "up", False),
        ("thumbs_down", "thumbs_up", False, True),
        ("thumbs_down", "rating", -1, True),
        ("thumbs_down", "rating", 1, False),
        ("thumbs_down", "helpful", False, None),
        ("helpful", "helpful", False, True),
        ("helpful", "helpful", "no", True),
        ("helpful", "helpful", "yes", False),
        ("helpful", "helpful", 0, True),
        ("helpful", "helpful", 3, False),
        ("helpful", "unhelpful", False, None),
        ("score<0.5", "score", 0.4, True),
        ("score<0.5", "score", 0.5, False),
        ("score<0.5", "score", "bad", None),
        ("edits>3", "edits", 4, True),
        ("edits>3", "edits", 3, False),
        ("helpful", "helpful", None, False),
    ],
)
def test_feedback(measure: str, name: str, value: Scalar, bad: bool | None) -> None:
    assert heard(measure, name, value) is bad


@pytest.mark.parametrize(("correct", "bad"), [(True, False), (False, True), (None, None)])
def test_labels(correct: bool | None, bad: bool | None) -> None:
    assert heard("label_error", "label", 3, kind="label", correct=correct) is bad
    assert heard("label_error", "label", 3, correct=correct) is None, "feedback called label is no label"


@pytest.mark.parametrize(
    "measure",
    ["", "5", "latency<5", "invalid_output:xml", "invalid_output:matches=(", "invalid_output:matches=(a+)+$", "bad$name", "<3", "x" * 200],
)
def test_what_can_be_no_measure(measure: str) -> None:
    with pytest.raises(Invalid):
        parse(measure)


def test_what_was_meant() -> None:
    assert nearest("eror") == "errors"
    assert nearest("latncy_p95") == "latency_p95"
    assert nearest("helpfull", ["helpful"]) == "helpful"
    assert nearest("qwertz") is None
    for measure in known():
        assert parse(measure).name == measure and not parse(measure).custom
