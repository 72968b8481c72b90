"""What a plan will do, said before it starts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.rollout.model import Forecast, Guardrail, People, Plan, Role, Step
from drivetrain.rollout.planning.planner import people_of, plan_rollout, shared_alpha
from drivetrain.rollout.planning.plans import PRESETS, parse_plan

GUARDS = (Guardrail(measure="errors"),)


def forecast(plan: Plan | str = "safe", **values: Any) -> Forecast:
    made = PRESETS[plan] if isinstance(plan, str) else plan
    return plan_rollout(made, **{"units_per_second": 10.0, "base_rate": 0.02, "ratio": 2.0, **values})


def test_a_good_version_takes_as_long_as_its_steps() -> None:
    found = forecast(units_per_second=100.0)
    assert [one.seconds for one in found.steps] == [300, 300, 600, 600, 0]  # by time
    assert [one.units for one in found.steps] == [300, 1_500, 15_000, 30_000, 0]
    assert found.seconds == 1_800
    found = forecast(units_per_second=1.0)
    assert [one.seconds for one in found.steps] == [10_000, 6_000, 4_000, 4_000, 0]  # by units
    assert "all traffic after 6.7 hours" in found.words


def test_a_worse_version_is_seen_and_what_it_costs_until_then() -> None:
    found = forecast(base_rate=0.05, ratio=4.0).detected
    assert found is not None
    assert (found.step, found.share) == (0, 100)
    assert found.bad == pytest.approx(found.units * 0.2)
    assert found.extra == pytest.approx(found.bad * 0.75)
    assert found.seconds == pytest.approx(found.units / 0.1)


def test_what_was_seen_in_earlier_steps_counts() -> None:
    found = forecast().detected
    assert found is not None
    assert found.step == 2
    alone = forecast(
        Plan(name="one", steps=(Step(share=2_500, min_units=10_000), Step(share=10_000)), guardrails=PRESETS["safe"].guardrails)
    )
    assert alone.detected is not None
    assert found.seconds - 1_600 < alone.detected.seconds  # the first two steps take 1,600 s


def test_what_gets_through_and_what_it_would_take() -> None:
    found = forecast("fast")
    assert found.detected is None
    assert found.missing is not None
    assert "gets through unseen" in found.words
    steps = tuple(
        Step(share=one.share, min_units=round(found.missing * 1.01) if one.share == 5_000 else one.min_units)
        for one in PRESETS["fast"].steps
    )
    assert (
        forecast(parse_plan({"preset": "fast", "steps": [{"share": s.share, "min_units": s.min_units} for s in steps]})).detected
        is not None
    )


def test_in_the_shadow_nobody_gets_a_bad_answer() -> None:
    found = forecast("shadow").detected
    assert found is not None
    assert (found.step, found.share, found.bad) == (0, 0, 0.0)


def test_without_traffic_it_stays_where_it_is() -> None:
    found = forecast(units_per_second=0.0)
    assert found.seconds is None
    assert found.detected is None
    assert "stays in its first step" in found.words


def test_people_are_counted_and_not_their_requests() -> None:
    """Three hundred people ask ten times a second. Counted by request, the last step of 2,000 units would take seconds."""
    found = forecast(units_per_second=0.0, known=300.0, requests_per_second=10.0)
    assert found.steps[0].seconds is None  # 1 % of 300 people are 3, and at most 15 units
    assert "300 people" in found.words.replace(",", "") or "about 300" in found.words
    assert "--unit request" in found.words
    fitting = Plan(
        name="x", steps=(Step(share=1_000, min_units=100), Step(share=5_000, min_units=500), Step(share=10_000)), guardrails=GUARDS
    )
    found = forecast(fitting, units_per_second=0.0, known=300.0, requests_per_second=10.0)
    assert found.seconds is not None
    slower = forecast(fitting, units_per_second=0.0, known=300.0, requests_per_second=5.0)
    assert slower.seconds == pytest.approx(2 * found.seconds, rel=0.01)


def test_harm_to_people_who_come_back_is_foreseen() -> None:
    """60 people in a step of 50 %, half of whose requests the canary spoils: seen within some hundreds (STATISTICS, section 5)."""
    one = Plan(name="x", steps=(Step(share=5_000, min_units=150, min_seconds=10**6), Step(share=10_000)), guardrails=GUARDS)
    found = forecast(one, units_per_second=0.0, known=60.0, requests_per_second=1.0, base_rate=0.1, ratio=5.0).detected
    assert found is not None
    assert 20 < found.seconds / 2 < 300  # requests of the canary
    milder = forecast(one, units_per_second=0.0, known=60.0, requests_per_second=1.0, base_rate=0.1, ratio=2.0).detected
    assert milder is None or milder.seconds > found.seconds


def test_who_asks_is_read_from_the_newest_requests() -> None:
    assert people_of([""] * 50, 10.0) == People(fresh=10.0)
    assert people_of(["ann", "bob"] * 50, 10.0) == People(fresh=0.0, known=2.0, requests=10.0)
    assert people_of(["ann", "bob"] * 50, 10.0, by_request=True) == People(fresh=10.0)
    found = people_of([*(["ann", "bob"] * 40), *(f"once-{i}" for i in range(20))], 10.0)
    assert [found.fresh, found.known, found.requests] == pytest.approx([2.0, 2.0, 8.0])


def test_nothing_is_worse_than_nothing() -> None:
    found = forecast(base_rate=0.0)
    assert found.detected is None
    assert found.missing is None
    assert "give one" in found.words


def test_a_rate_cannot_be_over_all() -> None:
    found = forecast(base_rate=0.8, ratio=2.0).detected
    assert found is not None
    assert found.bad <= found.units * 1.000001


def test_what_must_be_certified_takes_longer() -> None:
    plain, certified = forecast(parse_plan({"guardrails": ["errors"]})), forecast(parse_plan({"guardrails": ["errors~1.5"]}))
    assert plain.seconds is not None
    assert certified.seconds is not None
    assert certified.seconds > 3 * plain.seconds
    never = forecast(parse_plan({"guardrails": ["errors~1.2"]}), base_rate=0.0)
    assert never.seconds is None
    assert "does not get beyond step 1" in never.words


def test_who_waits_for_somebody_says_so() -> None:
    found = forecast(parse_plan({"steps": "5,50", "auto_promote": False}))
    assert found.seconds is None
    assert "waits for somebody after" in found.words


def test_more_guardrails_share_what_may_be_spent() -> None:
    guards = [Guardrail(measure="errors"), Guardrail(measure="label_error"), Guardrail(measure="cost", role=Role.signal)]
    assert shared_alpha(Plan(name="x", steps=(), guardrails=tuple(guards))) == 0.025
    few, many = forecast(alpha=0.05).detected, forecast(alpha=0.001).detected
    assert few is not None
    assert many is not None
    assert few.seconds < many.seconds


@pytest.mark.slow
@settings(deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.floats(0.01, 1000.0), st.floats(1e-5, 0.3), st.floats(1.05, 30.0), st.floats(1.05, 3.0))
def test_the_worse_the_sooner(plan: str, rate: float, base: float, ratio: float, more: float) -> None:
    milder, worse = (forecast(plan, units_per_second=rate, base_rate=base, ratio=one) for one in (ratio, ratio * more))
    assert milder.seconds == worse.seconds
    if milder.detected is not None and base * ratio * more < 1.0:
        assert worse.detected is not None
        assert worse.detected.seconds <= milder.detected.seconds * 1.001
    for one in (milder, worse):
        assert (one.detected is None) != (one.missing is None) or one.missing is None
        assert one.words.endswith(".")


@settings(deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.floats(0.1, 100.0), st.floats(1e-4, 0.3))
def test_more_traffic_is_never_slower(plan: str, rate: float, base: float) -> None:
    slow, fast = (forecast(plan, units_per_second=one, base_rate=base) for one in (rate, rate * 2))
    assert slow.seconds is not None
    assert fast.seconds is not None
    assert fast.seconds <= slow.seconds
