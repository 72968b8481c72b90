"""The judge: from counts to verdicts, in words, and to what is to be done."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from drivetrain.rollout.judging.case import exposed
from drivetrain.rollout.judging.judge import Action, Judgement, judge
from drivetrain.rollout.ledger import Book, GuardState
from drivetrain.rollout.model import Count, Guardrail, Looked, Phase, Plan, Role, Rollout, State, Step, Tallied, Verdict

SAFE = (Step(share=1_000, min_units=50, min_seconds=10), Step(share=5_000, min_units=50, min_seconds=10), Step(share=10_000))


def rollout(*guardrails: Guardrail, **changes: Any) -> Rollout:
    of = Plan(name="test", steps=changes.pop("steps", SAFE), guardrails=guardrails or (Guardrail(measure="errors"),))
    of = msgspec.structs.replace(of, **changes.pop("plan", {}))
    values: dict[str, Any] = {"state": State.running, "step": 0, "phase": 1, "elapsed_ms": 10_000, "revision": 1, "why": "as it was"}
    names = {"stable": "s", "canary": "c", "stable_name": "v1", "canary_name": "v2", "deployment": "live", "deployment_id": "d"}
    owner = {"id": "r", "workspace_id": "w", "workspace": "default", "created_ms": 0, "created_by": "ann"}
    return Rollout(plan=of, **{**names, **owner, **values, **changes})


def arms(phase: int, canary: tuple[int, int], stable: tuple[int, int]) -> list[Count]:
    """(units, bad) of each arm."""
    return [once(phase, arm, *counts) for arm, counts in (("canary", canary), ("stable", stable))]


def once(phase: int, arm: str, units: int, bad: int = 0, **more: Any) -> Count:
    """Units that asked once each."""
    return Count(phase=phase, arm=arm, units=units, bad=bad, requests=units, bad_requests=bad, weight=units, weights=units, **more)


def book(
    of: Rollout,
    *counts: list[Count],
    exposures: list[Count] | None = None,
    phases: list[Phase] | None = None,
    guards: list[GuardState] | None = None,
) -> Book:
    """`counts`: of each guardrail. Without more: one phase at the first step's share, exposures as of the first guardrail."""
    first = of.plan.steps[0]
    return Book(
        rollout=of,
        phases=tuple(phases or [Phase(number=1, step=0, share=first.share, shadow=first.shadow, started_ms=0)]),
        guards=tuple(guards or [GuardState(number=i, from_phase=1) for i in range(len(of.plan.guardrails))]),
        tallied=Tallied(counts={-1: exposures if exposures is not None else counts[0] if counts else [], **dict(enumerate(counts))}),
    )


def of(judgement: Judgement, measure: str) -> Verdict:
    return next(one.verdict for one in judgement.evidence if one.measure == measure)


def test_nothing_is_decided_before_the_least_exposure_and_time() -> None:
    early = judge(book(rollout(elapsed_ms=0), arms(1, (100, 0), (900, 0))))
    assert (early.action, early.ripe) == (Action.hold, False)
    assert "10 s" in early.why
    few = judge(book(rollout(), arms(1, (30, 0), (270, 0))))
    assert few.action is Action.hold
    assert "20 more units (30 of 50 so far)" in few.why


def test_a_good_version_advances() -> None:
    judgement = judge(book(rollout(), arms(1, (60, 1), (540, 9))))
    assert judgement.action is Action.advance
    assert "on to 50 %" in judgement.why
    assert of(judgement, "errors") is Verdict.safe


def test_harm_is_seen_before_anything_else() -> None:
    judgement = judge(book(rollout(elapsed_ms=0), arms(1, (12, 12), (100, 0))))
    assert judgement.action is Action.roll_back
    assert of(judgement, "errors") is Verdict.harm
    assert "v2 12 of 12 units (100 %), v1 0 of 100 units (0 %)" in judgement.why
    (evidence, _) = judgement.evidence
    assert evidence.threshold == pytest.approx(40)  # α = 0.05, in halves
    assert evidence.value is not None
    assert evidence.value > 20
    assert (evidence.canary_bad, evidence.stable_bad) == (12, 0)


@pytest.mark.parametrize("state", [State.running, State.paused, State.promoted])
def test_harm_takes_it_back_in_any_state(state: State) -> None:
    assert judge(book(rollout(state=state), arms(1, (12, 12), (100, 0)))).action is Action.roll_back


def test_the_last_step_promotes() -> None:
    phases = [Phase(number=1, step=0, share=1_000, shadow=0, started_ms=0), Phase(number=2, step=1, share=5_000, shadow=0, started_ms=0)]
    counts = [*arms(1, (60, 0), (540, 0)), *arms(2, (60, 0), (60, 0))]
    judgement = judge(book(rollout(step=1, phase=2), counts, phases=phases))
    assert judgement.action is Action.promote
    waits = judge(book(rollout(step=1, phase=2, plan={"auto_promote": False}), counts, phases=phases))
    assert (waits.action, waits.ripe) == (Action.hold, True)
    assert "drivetrain rollout promote live" in waits.why


def test_units_of_earlier_steps_do_not_count_for_a_step_s_least_exposure() -> None:
    phases = [Phase(number=1, step=0, share=1_000, shadow=0, started_ms=0), Phase(number=2, step=1, share=5_000, shadow=0, started_ms=0)]
    made = book(rollout(step=1, phase=2), [*arms(1, (60, 0), (540, 0)), *arms(2, (10, 0), (12, 0))], phases=phases)
    assert exposed(made) == 10
    assert "40 more units" in judge(made).why


def test_evidence_adds_up_over_phases_of_different_shares() -> None:
    phases = [Phase(number=1, step=0, share=1_000, shadow=0, started_ms=0), Phase(number=2, step=1, share=5_000, shadow=0, started_ms=0)]
    one = [*arms(1, (100, 4), (900, 10)), *arms(2, (0, 0), (0, 0))]
    both = [*arms(1, (100, 4), (900, 10)), *arms(2, (100, 9), (100, 1))]
    before, after = (judge(book(rollout(step=1, phase=2), counts, phases=phases)).evidence[0] for counts in (one, both))
    assert before.verdict is not Verdict.harm
    assert after.verdict is Verdict.harm


def test_signals_only_pause_and_can_be_overruled() -> None:
    signal = rollout(Guardrail(measure="errors"), Guardrail(measure="cost>1", role=Role.signal))
    good, bad = arms(1, (60, 0), (540, 0)), arms(1, (60, 40), (540, 0))
    judgement = judge(book(signal, good, bad))
    assert judgement.action is Action.pause
    assert "cost>1: harm." in judgement.why
    overruled = [GuardState(number=0, from_phase=1), GuardState(number=1, from_phase=1, overruled=True)]
    assert judge(book(signal, good, bad, guards=overruled)).action is Action.advance


def test_alpha_is_shared_among_guardrails_not_with_signals() -> None:
    guardrails = Guardrail(measure="errors"), Guardrail(measure="timeouts"), Guardrail(measure="label_error", role=Role.signal)
    shared = judge(book(rollout(*guardrails), [], [], []))
    assert [one.threshold for one in shared.evidence[:3]] == [pytest.approx(80), pytest.approx(80), pytest.approx(40)]


def test_a_guardrail_without_data_holds_and_says_so() -> None:
    judgement = judge(book(rollout(Guardrail(measure="errors"), Guardrail(measure="label_error")), arms(1, (60, 0), (540, 0)), []))
    assert (judgement.action, judgement.ripe) == (Action.hold, True)
    assert of(judgement, "label_error") is Verdict.not_enough_data
    assert "label_error: not enough data" in judgement.why


def test_a_misspelt_measure_holds_and_says_what_was_meant() -> None:
    made = book(rollout(Guardrail(measure="label_eror")), [], exposures=arms(1, (60, 0), (540, 0)))
    judgement = judge(made, lambda _: False)
    assert judgement.action is Action.hold
    assert of(judgement, "label_eror") is Verdict.no_measure
    assert "Did you mean label_error?" in judgement.why


def test_an_outcome_that_somebody_has_told_of_is_a_measure() -> None:
    made = book(rollout(Guardrail(measure="resolved")), [], exposures=arms(1, (60, 0), (540, 0)))
    assert of(judge(made, lambda name: name == "resolved"), "resolved") is Verdict.not_enough_data


def test_a_guardrail_that_does_not_count_yet_holds() -> None:
    latency = rollout(Guardrail(measure="latency_p95"), elapsed_ms=60_000)
    made = book(latency, [], exposures=arms(1, (60, 0), (540, 0)), guards=[GuardState(number=0)])
    assert "its line is not fixed yet" in judge(made).why


def test_a_mismatch_pauses_and_never_promotes() -> None:
    good = arms(1, (300, 0), (540, 0))
    made = book(rollout(), good, exposures=arms(1, (300, 0), (540, 0)))
    judgement = judge(made)
    assert judgement.action is Action.pause
    assert of(judgement, "assignment") is Verdict.mismatch
    assert "by the shares it would be about 84" in judgement.why


def test_labels_that_come_for_one_arm_only_are_a_mismatch() -> None:
    guarded = rollout(Guardrail(measure="errors"), Guardrail(measure="label_error"))
    judgement = judge(book(guarded, arms(1, (100, 0), (900, 0)), arms(1, (100, 1), (50, 1))))
    assert of(judgement, "label_error") is Verdict.mismatch
    assert judgement.action is Action.pause


def test_shadow_phases_compare_one_to_one() -> None:
    steps = (Step(share=0, shadow=10_000, min_units=50, min_seconds=1), *SAFE[1:])
    shadowed = rollout(steps=steps)
    good = judge(book(shadowed, arms(1, (500, 5), (500, 5)), exposures=[]))
    assert good.action is Action.advance
    assert of(good, "assignment") is Verdict.not_enough_data
    assert judge(book(shadowed, arms(1, (500, 30), (500, 2)), exposures=[])).action is Action.roll_back


@pytest.mark.parametrize("measure", ["thumbs_down", "label_error"])
def test_a_step_whose_answers_nobody_sees_does_not_wait_for_what_people_say_of_them(measure: str) -> None:
    steps = (Step(share=0, shadow=10_000, min_units=50, min_seconds=1), *SAFE[1:])
    guards = Guardrail(measure="errors"), Guardrail(measure=measure)
    shadowed = rollout(*guards, steps=steps)
    assert judge(book(shadowed, arms(1, (500, 5), (500, 5)), [], exposures=[])).action is Action.advance
    assert judge(book(rollout(*guards), arms(1, (100, 0), (900, 0)), [])).action is Action.hold


@pytest.mark.parametrize(("phase", "verdict"), [(1, Verdict.blind), (2, Verdict.safe)])
def test_a_step_is_safe_by_what_it_could_have_seen_itself(phase: int, verdict: Verdict) -> None:
    """What looks at an earlier step could see counts for that step."""
    phases = [Phase(number=number, step=number - 1, share=5_000, shadow=0, started_ms=0) for number in (1, 2)]
    counted = book(rollout(step=1, phase=2), arms(2, (100, 100), (100, 100)), phases=phases)
    looked = {0: Looked(number=9, best=-5.0, last=-1.0, could=50.0, phase=phase)}
    judgement = judge(msgspec.structs.replace(counted, tallied=msgspec.structs.replace(counted.tallied, looked=looked)))
    assert of(judgement, "errors") is verdict
    assert (verdict is Verdict.blind) is ("Nearly all of v1's own are bad" in judgement.evidence[0].words)


def test_what_is_to_be_certified_holds_until_it_is() -> None:
    careful = rollout(Guardrail(measure="errors", certify=2.0))
    unsure = judge(book(careful, arms(1, (60, 1), (540, 9))))
    assert (unsure.action, unsure.ripe) == (Action.hold, True)
    assert "not yet certain" in unsure.why
    sure = judge(book(careful, arms(1, (6_000, 60), (54_000, 540))))
    assert sure.action is Action.advance
    assert of(sure, "errors") is Verdict.certified


def test_tolerance_allows_a_little_harm() -> None:
    counts = arms(1, (6_000, 780), (54_000, 5_400))  # 1.3 times
    assert judge(book(rollout(), counts)).action is Action.roll_back
    assert judge(book(rollout(Guardrail(measure="errors", tolerance=1.5)), counts)).action is not Action.roll_back


def means(canary: float, stable: float, units: int = 400) -> list[Count]:
    found = []
    for arm, mean, count in (("canary", canary, units // 10), ("stable", stable, units)):
        squares = count * (mean * mean + 0.01)
        found.append(once(1, arm, count, total=mean * count * 1e9, squares=squares * 1e18))
    return found


def test_means_are_judged_by_their_difference() -> None:
    costly = rollout(Guardrail(measure="cost_mean"))
    exposures = arms(1, (200, 0), (1_800, 0))
    worse = judge(book(costly, means(2.0, 1.0, 2_000), exposures=exposures))
    assert worse.action is Action.roll_back
    assert "On average v2 2, v1 1" in worse.why
    (evidence, _) = worse.evidence
    assert evidence.threshold == 1.0
    assert evidence.value is not None
    assert evidence.value > 1.0
    assert judge(book(costly, means(1.0, 1.0, 2_000), exposures=exposures)).action is Action.advance
    few = judge(book(costly, means(2.0, 1.0, 300), exposures=exposures))
    assert of(few, "cost_mean") is Verdict.not_enough_data


def test_evidence_beyond_all_bounds_can_still_be_written_down() -> None:
    judgement = judge(book(rollout(), arms(1, (100_000, 100_000), (900_000, 0))))
    assert judgement.action is Action.roll_back
    assert math.isfinite(judgement.evidence[0].value or math.inf)
    assert msgspec.json.decode(msgspec.json.encode(judgement.evidence))


def test_a_paused_rollout_stays_where_it_is() -> None:
    judgement = judge(book(rollout(state=State.paused), arms(1, (60, 0), (540, 0))))
    assert (judgement.action, judgement.why) == (Action.hold, "as it was")
