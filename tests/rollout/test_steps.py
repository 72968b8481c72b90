"""What drivetrain does to rollouts by itself, on both databases."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa

from drivetrain.rollout import tables as t
from drivetrain.rollout.model import Guardrail, Role, State, Step, Verdict
from drivetrain.rollout.steps import Steps
from tests.rollout.parts import ME, QUICK, World, plan


def actions(world: World, rollout_id: str) -> list[str]:
    return [one.action for one in world.rollouts.decisions(ME, rollout_id)]


def test_it_waits_for_the_version_to_be_ready_everywhere(world: World) -> None:
    rollout = world.start()
    world.steps.step(rollout.id, 250.0)
    assert world.now(rollout).state is State.starting
    canary = world.variant("v2")
    world.be_ready(world.variant("v1"), server="s2")
    world.be_ready(canary)
    world.steps.step(rollout.id, 250.0)
    assert world.now(rollout).state is State.starting  # s2 serves too, and has none of it
    world.be_ready(canary, server="s2")
    world.steps.step(rollout.id, 250.0)
    begun = world.now(rollout)
    assert (begun.state, begun.share, begun.phase) == (State.running, 1_000, 1)
    assert world.weights() == {"v1": 9_000, "v2": 1_000}


def test_a_server_that_is_gone_does_not_keep_it_for_ever(world: World) -> None:
    rollout = world.start()
    world.be_ready(world.variant("v1"), server="gone")
    world.be_ready(world.variant("v2"))
    assert world.pass_time(rollout, 55).state is State.starting
    begun = world.pass_time(rollout, 10)
    assert (begun.state, begun.elapsed_ms) == (State.running, 0)


@pytest.mark.parametrize(("state", "restarts"), [("failed", 1), ("restarting", 4)])
def test_a_version_that_does_not_start_is_taken_back(world: World, state: str, restarts: int) -> None:
    rollout = world.start()
    world.replica(world.variant("v2"), state, restarts=restarts, message="no module named 'sklearn'")
    world.steps.step(rollout.id, 250.0)
    ended = world.now(rollout)
    assert ended.state is State.rolled_back
    assert "no module named 'sklearn'" in ended.why
    assert world.weights() == {"v1": 10_000}


def test_a_version_that_stops_on_the_way_is_taken_back(world: World) -> None:
    rollout = world.begun()
    world.stop_replicas(world.variant("v2"))
    world.replica(world.variant("v2"), "restarting", restarts=4, message="out of memory")
    assert world.pass_time(rollout, 1).state is State.rolled_back


def test_a_good_version_climbs_to_all_traffic_and_is_closed(world: World) -> None:
    rollout = world.begun()
    now = rollout
    while now.state is State.running:
        world.traffic(now, canary=30, stable=30 * (10_000 - now.share) // now.share)
        now = world.pass_time(now, 2)
    assert now.state is State.promoted
    assert world.weights() == {"v1": 0, "v2": 10_000}
    now = world.pass_time(now, 4)
    assert now.state is State.promoted  # the version before stays warm for five seconds
    now = world.pass_time(now, 2)
    assert now.state is State.closed
    assert world.weights() == {"v2": 10_000}
    assert actions(world, rollout.id) == ["started", "advanced", "advanced", "promoted", "closed"]


def test_harm_takes_it_back_at_once(world: World) -> None:
    rollout = world.begun()
    world.traffic(rollout, canary=12, stable=108, bad_canary=10)
    assert world.steps.step(rollout.id, 0.0)
    ended = world.now(rollout)
    assert ended.state is State.rolled_back
    assert "errors: harm" in ended.why
    decision = world.rollouts.decisions(ME, rollout.id)[-1]
    assert (decision.action, decision.actor, decision.undo) == ("rolled_back", "drivetrain", "drivetrain rollout start live digits@2")
    assert decision.evidence[0].verdict is Verdict.harm
    assert world.weights() == {"v1": 10_000}
    assert world.variant("v2").withdrawn


def test_late_harm_takes_a_promoted_version_back(world: World) -> None:
    rollout = world.begun(of=plan("errors", "label_error"))
    world.traffic(rollout, canary=30, stable=270)
    world.rollouts.promote(ME, rollout.id)
    world.say(rollout, "stable", "label", 1, kind="label", times=90)
    world.say(rollout, "canary", "label", 0, kind="label", times=10)
    assert world.pass_time(rollout, 1).state is State.rolled_back
    assert world.weights() == {"v1": 10_000}


def test_a_pause_holds_but_harm_does_not_wait(world: World) -> None:
    rollout = world.begun()
    world.rollouts.pause(ME, rollout.id)
    world.traffic(rollout, canary=30, stable=270)
    assert world.pass_time(rollout, 10).state is State.paused
    world.traffic(rollout, canary=12, stable=100, bad_canary=12)
    assert world.pass_time(rollout, 1).state is State.rolled_back


def test_signals_pause_and_are_overruled(world: World) -> None:
    rollout = world.begun(of=plan("timeouts", Guardrail(measure="errors", role=Role.signal)))
    world.traffic(rollout, canary=30, stable=270, bad_canary=15)
    assert world.pass_time(rollout, 1).state is State.paused
    world.rollouts.resume(ME, rollout.id)
    on = world.pass_time(rollout, 3)
    assert (on.state, on.step) == (State.running, 1)


def test_a_mismatch_pauses(world: World) -> None:
    rollout = world.begun()
    world.traffic(rollout, canary=150, stable=150)
    paused = world.pass_time(rollout, 1)
    assert paused.state is State.paused
    assert "Mismatch: 150 of 300 units" in paused.why


def test_time_is_summed_and_survives_the_process(world: World) -> None:
    rollout = world.begun(of=plan(steps=(msgspec.structs.replace(QUICK.steps[0], min_seconds=10), *QUICK.steps[1:])))
    world.traffic(rollout, canary=30, stable=270)
    assert world.pass_time(rollout, 9).step == 0
    world.steps = Steps(world.db, world.serving, world.feedback)  # as after a restart
    assert world.now(rollout).elapsed_ms >= 8_000
    assert world.pass_time(rollout, 2.25).step == 1


def test_time_without_a_ready_replica_does_not_count(world: World) -> None:
    rollout = world.begun()
    world.stop_replicas(world.variant("v2"))
    world.traffic(rollout, canary=30, stable=270)
    assert world.pass_time(rollout, 20).elapsed_ms == 0


def test_latencies_count_from_a_phase_of_their_own(world: World) -> None:
    slow = plan("errors", "latency_p95", settle_seconds=1)
    rollout = world.begun(of=slow)
    book = world.rollouts.book(ME, rollout.id)
    assert [guard.from_phase for guard in book.guards] == [1, None]
    world.traffic(rollout, stable=270, latency_ms=20.0)
    world.traffic(rollout, canary=30, latency_ms=90.0)
    now = world.pass_time(rollout, 2)
    assert (now.phase, now.step) == (2, 0)
    book = world.rollouts.book(ME, rollout.id)
    assert [guard.from_phase for guard in book.guards] == [1, 2]
    line = book.guards[1].line
    assert line is not None
    assert 15 < line < 25  # stable's 95th percentile
    assert world.weights() == {"v1": 9_000, "v2": 1_000}
    evidence = world.rollouts.evidence(ME, rollout.id)
    assert evidence[1].verdict is Verdict.not_enough_data  # what was before does not count
    world.traffic(now, stable=270, latency_ms=20.0)
    world.traffic(now, canary=30, latency_ms=90.0)
    assert world.pass_time(now, 1).state is State.rolled_back


def test_costs_have_lines_too(world: World) -> None:
    rollout = world.begun(of=plan("cost"))
    world.traffic(rollout, stable=300, cost=0.02)
    world.traffic(rollout, canary=30, cost=0.05)
    now = world.pass_time(rollout, 1)
    line = world.rollouts.book(ME, rollout.id).guards[0].line
    assert line is not None
    assert 0.017 < line < 0.024
    world.traffic(now, stable=270, cost=0.02)
    world.traffic(now, canary=30, cost=0.05)
    assert world.pass_time(now, 1).state is State.rolled_back


def test_too_few_values_for_a_line_hold_it(world: World) -> None:
    rollout = world.begun(of=plan("errors", "latency_p95"))
    world.traffic(rollout, canary=5, stable=45, latency_ms=10.0)
    now = world.pass_time(rollout, 3)
    assert now.step == 0
    assert world.rollouts.evidence(ME, rollout.id)[1].words.endswith("for want of answers of v1.")


def test_a_hold_is_told_once_and_ends(world: World) -> None:
    rollout = world.begun(of=plan("errors", "label_error"))
    world.traffic(rollout, canary=30, stable=270)
    for _ in range(3):
        world.pass_time(rollout, 10)
    assert actions(world, rollout.id) == ["started", "advanced", "held"]
    assert "label_error: not enough data" in world.now(rollout).why
    world.say(rollout, "canary", "label", 1, kind="label", times=20)
    world.say(rollout, "stable", "label", 1, kind="label", times=180)
    assert world.pass_time(rollout, 1).step == 1


def test_a_misspelt_measure_holds(world: World) -> None:
    rollout = world.begun(of=plan("errors", "thumbs_dwon"))
    world.traffic(rollout, canary=30, stable=270)
    held = world.pass_time(rollout, 10)
    assert held.step == 0
    assert "Did you mean thumbs_down?" in held.why


def test_it_says_when_requests_do_not_say_whose_they_are(world: World) -> None:
    rollout = world.begun()
    world.traffic(rollout, canary=3, stable=27)
    assert "X-Drivetrain-Unit" in world.rollouts.evidence(ME, rollout.id)[-1].words
    world.traffic(rollout, stable=1, unit="ann")
    assert "X-Drivetrain-Unit" not in world.rollouts.evidence(ME, rollout.id)[-1].words


def test_people_who_come_back_are_data_for_the_next_step(world: World) -> None:
    """All have been at stable before; in the second phase, whether they come to the canary is left to the hash again."""
    rollout = world.begun()
    units = [f"u{i}" for i in range(300)]
    for unit in units[:270]:
        world.traffic(rollout, stable=1, unit=unit)
    for unit in units[270:]:
        world.traffic(rollout, canary=1, unit=unit)
    second = world.pass_time(rollout, 3)
    assert second.step == 1
    for unit in units[150:270]:
        world.traffic(second, canary=1, unit=unit)
    for unit in units[:150]:
        world.traffic(second, stable=1, unit=unit)
    evidence = world.rollouts.evidence(ME, rollout.id)
    assert (evidence[0].canary_units, evidence[0].stable_units) == (150, 420)  # once in each phase
    assert evidence[-1].verdict is Verdict.safe
    assert world.pass_time(second, 3).state is State.promoted


def test_few_people_who_come_back_are_blind_and_hold_it(world: World) -> None:
    """Six people meet the step's least units, by their requests; but were the canary to fail all three of its own, who could tell?"""
    rollout = world.begun(of=plan(steps=(Step(share=5_000, min_units=10, min_seconds=1), Step(share=10_000))))
    for _ in range(30):
        for unit in ("ann", "bob", "cleo"):
            world.traffic(rollout, canary=1, unit=unit)
        for unit in ("dan", "eve", "finn"):
            world.traffic(rollout, stable=1, unit=unit)
    held = world.pass_time(rollout, 10)
    assert (held.state, held.step) == (State.running, 0)
    blind = world.rollouts.evidence(ME, rollout.id)[0]
    assert blind.verdict is Verdict.blind
    assert "failed everybody" in blind.words and "more people" in blind.words
    assert held.why.startswith("It waits at 50 %: errors: blind.")
    assert actions(world, rollout.id)[-1] == "held"
    for i in range(40):  # more people come
        world.traffic(rollout, canary=1, unit=f"c{i}")
        world.traffic(rollout, stable=1, unit=f"s{i}")
    assert world.pass_time(rollout, 1).state is State.promoted


def test_a_step_that_these_people_can_never_meet_says_so_at_once(world: World) -> None:
    rollout = world.begun(
        of=plan(steps=(Step(share=1_000, min_units=500, min_seconds=1), Step(share=5_000, min_units=100), Step(share=10_000)))
    )
    for _ in range(12):
        for i in range(60):
            world.traffic(rollout, **{"canary" if i < 6 else "stable": 1}, unit=f"u{i}")
    held = world.pass_time(rollout, 8)
    assert "It will not end: 60 people have come, no new ones do, and at 10 % they are 30 units at most" in held.why
    assert "drivetrain rollout start live digits@2 --plan 10,50,100 --min-units 24" in held.why
    assert actions(world, rollout.id)[-1] == "held"


def test_a_corrected_label_corrects_the_counts_also_after_promotion(world: World) -> None:
    rollout = world.begun(of=plan("errors", "label_error"))
    world.traffic(rollout, canary=30, stable=270)
    wrong = [world.label(rollout, "canary", 0) for _ in range(2)]
    world.say(rollout, "canary", "label", 1, kind="label", times=28)
    world.say(rollout, "stable", "label", 1, kind="label", times=270)
    world.steps.step(rollout.id, 0.0)
    assert world.rollouts.evidence(ME, rollout.id)[1].canary_bad == 2
    world.rollouts.promote(ME, rollout.id)
    for request in wrong:
        world.feedback.add(ME, request, "label", 1, kind="label", about=world.about(rollout, "canary"))
    assert not world.steps.step(rollout.id, 0.0)
    evidence = world.rollouts.evidence(ME, rollout.id)[1]
    assert (evidence.canary_units, evidence.canary_bad) == (30, 0)
    assert world.now(rollout).state is State.promoted
    for request in wrong:
        world.feedback.add(ME, request, "label", 0, kind="label", about=world.about(rollout, "canary"))
    for _ in range(12):
        world.label(rollout, "canary", 0)
    assert world.pass_time(rollout, 1).state is State.rolled_back


def test_a_canary_whose_labels_take_longer_is_waiting_and_no_mismatch(world: World) -> None:
    rollout = world.begun(of=plan("errors", "label_error"))
    world.traffic(rollout, canary=30, stable=270)
    world.say(rollout, "stable", "label", 1, kind="label", times=270)
    held = world.pass_time(rollout, 10)
    evidence = world.rollouts.evidence(ME, rollout.id)[1]
    assert evidence.verdict is Verdict.waiting
    assert "those of 0 answers of v2 and 270 of v1 wait" in evidence.words
    assert held.step == 0
    world.say(rollout, "canary", "label", 1, kind="label", times=30)
    assert world.pass_time(rollout, 1).step == 1


def test_the_evidence_over_time_is_kept_thinned(world: World) -> None:
    rollout = world.begun()
    for _ in range(40):
        world.traffic(rollout, canary=1, stable=9)
        world.steps.step(rollout.id, 250.0)
        if world.now(rollout).step:
            break
    points = [one for one in world.rollouts.curves(ME, rollout.id) if one.guard == 0]
    assert 1 < len(points) <= 11  # one a second
    assert points[-1].canary_units >= points[0].canary_units
    assert all(one.threshold is not None and one.threshold == pytest.approx(3.6889, abs=1e-3) for one in points)  # ln 40


def test_nobody_overtakes_anybody(world: World) -> None:
    """A loop that has seen an older state changes nothing."""
    rollout = world.begun()
    world.traffic(rollout, canary=30, stable=270)
    stale = world.rollouts.book(ME, rollout.id)
    world.rollouts.pause(ME, rollout.id)
    with world.db.read() as c:
        standing = world.serving.standing(c, rollout.canary, beside=rollout.stable)
    late = msgspec.structs.replace(stale, rollout=msgspec.structs.replace(stale.rollout, elapsed_ms=60_000))
    with pytest.raises(Exception, match="has just changed"):
        world.steps._step(late, standing, 0.0)
    assert world.now(rollout).state is State.paused
    assert world.weights() == {"v1": 9_000, "v2": 1_000}
    with world.db.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(t.phases)) == 1
