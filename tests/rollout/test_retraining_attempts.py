"""Attempts of retraining on both databases: what is given back, what is tried again, what is told, and what is found before one begins."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from drivetrain.retraining.model import Stage, State, Trigger
from drivetrain.store.ids import now_ms
from tests.rollout.parts import ME, plan
from tests.rollout.retraining import ENOUGH, PASSED, QUICK, REFUSED, Scene, wait_a_millisecond


def test_a_job_that_failed_ends_its_retraining_and_gives_the_trigger_back(scene: Scene) -> None:
    scene.policy()
    scene.answers()
    scene.alarm()
    scene.pass_time(5)
    scene.fail()
    assert (scene.all()[0].state, scene.all()[0].why) == (State.failed, "the script is broken")
    # The labels are still new, nothing cools down; only the next attempt waits, for five minutes by the loop's own clock.
    scene.pass_time(280)
    assert len(scene.all()) == 1 and "since 1 attempt before ended without a version" in scene.words()
    assert "30 labels have come since the last time" in scene.words() and not scene.alerts_of_retraining()
    scene.pass_time(30)
    assert len(scene.all()) == 2 and scene.all()[0].trigger["new_labels"] == ENOUGH
    scene.finish(REFUSED)
    # That has used it up.
    scene.pass_time(90)
    assert len(scene.all()) == 2 and "to cool down" in scene.words() and "30 new labels (0 have come)" in scene.words()


def test_after_three_failures_one_alert_and_nothing_more_by_itself(scene: Scene) -> None:
    scene.policy()
    scene.answers()
    scene.alarm()
    scene.pass_time(5)
    for wait in (310, 1810):
        scene.fail()
        assert not scene.failures()
        scene.pass_long(wait)
    scene.fail("train.py ended with status 1. Its last words: no such column")
    (alert,) = scene.failures()
    last = scene.all()[0]
    assert alert.severity == "bad" and "3 times in a row" in alert.title and "no such column" in alert.text
    assert f"drivetrain retrain show {last.id}" in alert.text and "drivetrain retrain now live" in alert.undo
    scene.pass_long(100_000)
    assert len(scene.all()) == 3 and "tries no more by itself" in scene.words() and scene.retrainings.policy(ME, "live").failures == 3
    # By hand it may be tried; the alert grows.
    scene.retrainings.start(ME, "live")
    scene.fail()
    assert [(one.id, one.count) for one in scene.failures()] == [(alert.id, 2)]
    # What ends well ends it.
    scene.retrainings.start(ME, "live")
    scene.finish(REFUSED)
    scene.pass_time(5)
    assert not scene.failures() and scene.retrainings.policy(ME, "live").failures == 0


@pytest.mark.parametrize("change", ["policy", "resume"])
def test_a_new_policy_or_a_resume_lets_it_try_again(scene: Scene, change: str) -> None:
    scene.policy()
    scene.answers()
    scene.alarm()
    for wait in (310, 310, 1810):
        scene.pass_long(wait)
        scene.fail()
    assert scene.failures()
    if change == "policy":
        scene.policy()
    else:
        scene.retrainings.resume(ME, "live")
    scene.pass_time(10)
    assert not scene.failures() and len(scene.all()) == 4


def test_an_attempt_of_an_older_policy_is_no_failure_of_the_new_one(scene: Scene) -> None:
    scene.policy()
    scene.retrainings.start(ME, "live")
    wait_a_millisecond()
    scene.policy()
    scene.fail()
    assert scene.all()[0].state is State.failed and scene.retrainings.policy(ME, "live").failures == 0


def test_who_cancels_has_quiet_for_a_while_and_no_alert(scene: Scene) -> None:
    scene.policy()
    scene.answers()
    scene.alarm()
    scene.pass_time(5)
    for attempts in range(1, 5):
        assert len(scene.all()) == attempts
        scene.retrainings.cancel(ME, scene.all()[0].id)
        scene.pass_long((300, 1800, 7200, 28_800)[attempts - 1] - 20)
        assert len(scene.all()) == attempts
        scene.pass_long(40)
    assert len(scene.all()) == 5 and not scene.alerts_of_retraining()


def test_too_few_held_out_labels_are_found_before_it_begins(scene: Scene) -> None:
    scene.policy(trigger=msgspec.structs.replace(QUICK, min_labels=5))
    scene.alarm()
    scene.answers(18)
    scene.pass_time(5)
    assert not scene.all()
    assert (
        "for 10 labelled answers that are held out, to judge by (9 so far)" in scene.words()
        and "10 labelled answers to train" in scene.words()
    )
    scene.answers(2)
    scene.pass_time(5)
    assert len(scene.all()) == 1 and "Met: 20 labels have come" in scene.all()[0].why


def test_the_labels_must_be_of_the_new_world(scene: Scene) -> None:
    scene.policy()
    scene.answers()
    wait_a_millisecond()
    scene.alarm(since_ms=now_ms())
    scene.pass_time(5)
    assert not scene.all() and "30 labels of answers since what is wrong began (0 so far)" in scene.words()
    scene.answers()
    scene.pass_time(5)
    assert len(scene.all()) == 1 and scene.all()[0].trigger["labels_since_alert"] == ENOUGH


def test_by_default_an_alert_must_last_for_ten_minutes(scene: Scene) -> None:
    scene.policy(trigger=Trigger(min_labels=ENOUGH))
    scene.answers()
    scene.alarm()
    scene.pass_time(300)
    assert not scene.all() and "the alert to last for 10 minutes (5 minutes so far)" in scene.words()
    scene.pass_time(310)
    assert len(scene.all()) == 1 and "the alert has lasted for 1" in scene.all()[0].why


def test_what_runs_is_told_apart_from_what_waits(scene: Scene) -> None:
    scene.policy(time_limit=7200.0)
    one = scene.retrainings.start(ME, "live")
    assert "waits for its turn among the jobs" in one.doing
    scene.loop.step()
    assert scene.jobs.claim("s1") is not None
    assert "fetches the labelled answers" in scene.all()[0].doing
    facts: dict[str, Any] = {"rows": 10, "held_out_rows": 2, "digest": "d"}
    scene.retrainings.advance(ME, one.id, Stage.training_set, words="", facts=facts)
    one = scene.retrainings.advance(ME, one.id, Stage.run, words="", facts={"run_id": "r" * 32})
    assert one.doing.startswith("train.py is running, for ") and "may take 2 hours" in one.doing
    first = scene.world.rollouts.start(ME, "live", "digits@3", plan())
    ahead: list[tuple[Stage, dict[str, Any]]] = [(Stage.training, {}), (Stage.version, {"version": 2}), (Stage.gate, PASSED)]
    for stage, facts in ahead:
        scene.retrainings.advance(ME, one.id, stage, words="", facts=facts)
    one = scene.retrainings.roll_out(ME, one.id)
    assert "waits to be rolled out" in one.doing
    scene.world.rollouts.abort(ME, first.id)
    scene.pass_time(5)
    assert scene.all()[0].doing == ""
