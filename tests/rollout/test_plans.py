"""Plans as people write them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.errors import Invalid
from drivetrain.rollout.counting.measures import parse
from drivetrain.rollout.model import Guardrail, Plan, Role
from drivetrain.rollout.planning.plans import PRESETS, checked, guardrail, parse_plan, preset, with_guardrails


def shares(plan: Plan) -> list[int]:
    return [step.share for step in plan.steps]


def test_the_presets() -> None:
    assert shares(PRESETS["safe"]) == [100, 500, 2_500, 5_000, 10_000]
    assert shares(PRESETS["fast"]) == [1_000, 5_000, 10_000]
    assert [(step.share, step.shadow) for step in PRESETS["shadow"].steps] == [(0, 10_000), (500, 0), (5_000, 0), (10_000, 0)]
    for name, plan in PRESETS.items():
        assert (plan.name, parse_plan(name), checked(plan)) == (name, plan, plan)
        assert [one.measure for one in plan.guardrails] == ["errors", "latency_p95", "invalid_output", "predictions"]
        assert all(step.min_units and step.min_seconds for step in plan.steps[:-1])


def test_a_preset_with_changes() -> None:
    assert preset("safe", alpha=0.01).alpha == 0.01
    plan = parse_plan({"preset": "fast", "warm_seconds": 5, "guardrails": ["errors", "cost!signal"]})
    assert (plan.name, shares(plan), plan.warm_seconds) == ("fast", [1_000, 5_000, 10_000], 5)
    assert plan.guardrails[1] == Guardrail(measure="cost", role=Role.signal)


@pytest.mark.parametrize("text", ["1,10,50,100", "1%, 10 %, 50%, 100%", "1, 10, 50, 100,"])
def test_steps_in_percent(text: str) -> None:
    assert shares(parse_plan(text)) == shares(parse_plan({"steps": text})) == [100, 1_000, 5_000, 10_000]


def test_steps_as_a_list_of_percents() -> None:
    assert shares(parse_plan({"steps": [0.5, 20, 100]})) == [50, 2_000, 10_000]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("errors", Guardrail(measure="errors")),
        ("latency_p95@1.5", Guardrail(measure="latency_p95", tolerance=1.5)),
        ("cost!signal", Guardrail(measure="cost", role=Role.signal)),
        ("label_error~1.2", Guardrail(measure="label_error", certify=1.2)),
        ("thumbs_down@2!signal~3", Guardrail(measure="thumbs_down", tolerance=2.0, role=Role.signal, certify=3.0)),
        ("latency>250", Guardrail(measure="latency>250")),
        ("invalid_output:matches=^a@b.*!$", Guardrail(measure="invalid_output:matches=^a@b.*!$")),
    ],
)
def test_guardrails_as_people_write_them(text: str, meant: Guardrail) -> None:
    assert guardrail(text) == meant


def test_another_guardrail_of_the_same_measure_takes_the_place() -> None:
    plan = with_guardrails(PRESETS["safe"], [guardrail("errors@2"), guardrail("label_error")])
    found = [(one.measure, one.tolerance) for one in plan.guardrails if not parse(one.measure).looks_at_outputs]
    assert found == [("errors", 2.0), ("latency_p95", 1.5), ("label_error", 1.0)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("slow", "There is no plan 'slow'; there are: safe, fast, shadow"),
        ("", "There is no plan ''"),
        ("50,10,100", "larger share"),
        ("10,10,100", "larger share"),
        ("0,100", "some traffic"),
        ("10,50", "The last step is 100 %"),
        ("10,200", "between 0 and 100"),
        ("9" * 400, "between 0 and 100"),
        (",", "1 to 50 steps"),
        ("1.2.3,100", "percents"),
        ({"steps": []}, "1 to 50 steps"),
        ({"guardrails": []}, "nothing goes live unwatched"),
        ({"guardrails": ["errors", "errors@2"]}, "guards once"),
        ({"guardrails": ["errors@0"]}, "tolerance"),
        ({"guardrails": ["errors~1"]}, "to certify"),
        ({"guardrails": ["latency<5"]}, "more is worse"),
        ({"alpha": 0.9}, "alpha"),
        ({"alpha": "much"}, "cannot be read"),
        ({"warm_seconds": -1}, "not negative"),
        ({"colour": "red"}, "no field 'colour'"),
        ({"preset": "slow"}, "There is no plan"),
        ({"steps": [{"share": 10_000, "min_units": -1}]}, "not negative"),
        ({"steps": [{"shares": 10_000}]}, "cannot be read"),
        ({"steps": 5}, "cannot be read"),
        ({"steps": None}, "cannot be read"),
        ({"guardrails": 5}, "cannot be read"),
        ({"guardrails": [7]}, "cannot be read"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_the_reason(given: Any, says: str) -> None:
    with pytest.raises(Invalid) as error:
        parse_plan(given)
    assert says in error.value.message


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
fields = st.sampled_from(["preset", "name", "steps", "guardrails", "alpha", "settle_seconds", "warm_seconds", "auto_promote"])


@settings(deadline=None)
@given(st.text(max_size=30) | st.dictionaries(fields, json_like, max_size=4))
def test_whatever_is_given_is_a_plan_or_refused(given: Any) -> None:
    try:
        plan = parse_plan(given)
    except Invalid:
        return
    assert checked(plan) == plan
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
