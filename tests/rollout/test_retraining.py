"""Policies and retrainings on both databases: when one begins, what is done once, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage.model import Thing
from drivetrain.lineage.service import Lineage
from drivetrain.retraining.model import Gate, Retraining, Stage, State, Trigger
from drivetrain.store.ids import uuid7
from tests.rollout.parts import ME, OTHER, plan
from tests.rollout.retraining import QUICK, REFUSED, Scene


def test_a_policy_says_what_is_run_and_pins_it(scene: Scene) -> None:
    made = scene.policy()
    assert made.model == "digits" and made.entry == "train.py" and made.created_by == "ann"
    later = scene.push("training", "artifact", {"train.py": b"print(2)"})
    assert scene.retrainings.policy(ME, "live").script == made.script != f"training@{later}"
    assert scene.policy().script == f"training@{later}"
    assert [one.deployment for one in scene.retrainings.policies(ME)] == ["live"]
    scene.retrainings.delete_policy(ME, "live")
    with pytest.raises(NotFound, match="retrain policy live"):
        scene.retrainings.policy(ME, "live")


def test_a_policy_that_could_not_be_run_is_refused(scene: Scene) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"script": "nothing"}, "nothing"),
        ({"entry": "other.py"}, "has no file 'other.py'"),
        ({"base": "no-data"}, "no-data"),
        ({"base": "runs:/" + "0" * 32 + "/data"}, "run"),
        ({"plan": "hasty"}, "no plan 'hasty'"),
        ({"days": 0.0}, "days"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"gate": Gate(held_out=0.0)}, "held_out"),
        ({"gate": Gate(recent=20, min_rows=30)}, "min_rows"),
        ({"trigger": Trigger(min_labels=-1)}, "not negative"),
        ({"trigger": Trigger(alerts=())}, "needs alerts"),
        ({"model": "unknown"}, "unknown"),
    ]
    for changes, told in cases:
        with pytest.raises((Invalid, NotFound), match=told):
            scene.policy(**changes)
    assert scene.retrainings.policies(ME) == []


def test_another_workspace_sees_and_touches_nothing(scene: Scene) -> None:
    scene.policy()
    one = scene.retrainings.start(ME, "live")
    assert not scene.retrainings.policies(OTHER) and not scene.retrainings.list(OTHER)
    ask: list[Callable[[], object]] = [
        lambda: scene.retrainings.get(OTHER, one.id),
        lambda: scene.retrainings.recipe(OTHER, one.id),
        lambda: scene.retrainings.cancel(OTHER, one.id),
        lambda: list(scene.retrainings.labelled(OTHER, one.id)),
        lambda: scene.retrainings.roll_out(OTHER, one.id),
        lambda: scene.retrainings.advance(OTHER, one.id, Stage.training_set, words="", facts={}),
        lambda: scene.retrainings.start(OTHER, "live"),
        lambda: scene.retrainings.pause(OTHER, "live"),
    ]
    for act in ask:
        with pytest.raises(NotFound):
            act()
    reader = Context(user_id="u3", user_name="cy", workspace_id="w1", workspace="default", scopes=frozenset({Scope.read}))
    with pytest.raises(Forbidden):
        scene.retrainings.start(reader, "live")


def test_an_alert_labels_and_the_cool_down_begin_one(scene: Scene) -> None:
    scene.policy()
    scene.pass_time(10)
    assert not scene.all() and "waits for an alert of drift or quality" in scene.retrainings.policy(ME, "live").words
    scene.alarm()
    scene.pass_time(5)
    assert not scene.all() and "for 30 new labels (0 have come)" in scene.words()
    scene.answers()
    scene.pass_time(5)
    (one,) = scene.all()
    assert one.cause == "alert" and one.created_by == "drivetrain" and one.trigger["new_labels"] == 30
    assert "It drifts: a lot" in one.why and one.trigger["alerts"][0]["source"] == "drift"
    assert one.job_id is not None and scene.jobs.get(ME, one.job_id).spec == {"retraining": one.id}
    assert scene.jobs.get(ME, one.job_id).user_name == "ann"

    scene.finish(REFUSED)
    scene.answers()
    scene.pass_time(90)
    assert len(scene.all()) == 1 and "to cool down since the last time" in scene.words()
    scene.pass_time(15)
    assert len(scene.all()) == 2


def test_an_alert_of_something_else_begins_nothing(scene: Scene) -> None:
    scene.policy()
    scene.answers()
    scene.alarm("latency")
    scene.pass_time(30)
    assert not scene.all()


def test_an_alert_must_last(scene: Scene) -> None:
    scene.policy(trigger=msgspec.structs.replace(QUICK, sustained_seconds=60))
    scene.answers()
    scene.alarm()
    scene.pass_time(40)
    scene.alerts.resolve_key(ME.workspace_id, "drift")
    scene.pass_time(40)
    scene.alarm()
    scene.pass_time(40)
    assert not scene.all()
    scene.pass_time(40)
    assert len(scene.all()) == 1


def test_a_schedule_begins_one_without_an_alert(scene: Scene) -> None:
    scene.policy(trigger=Trigger(alerts=(), min_labels=1, every_seconds=60))
    scene.answers()
    scene.pass_time(50)
    assert not scene.all() and "passed" in scene.retrainings.policy(ME, "live").words
    scene.pass_time(20)
    assert [one.cause for one in scene.all()] == ["schedule"]


def test_time_in_which_nobody_looked_begins_nothing(scene: Scene) -> None:
    scene.policy(trigger=Trigger(alerts=(), min_labels=0, every_seconds=3600))
    scene.loop.step()
    scene.now += 1_000_000.0
    scene.loop.step()
    assert not scene.all()


def test_a_paused_policy_begins_nothing(scene: Scene) -> None:
    scene.policy()
    scene.retrainings.pause(ME, "live")
    scene.answers()
    scene.alarm()
    scene.pass_time(20)
    assert not scene.all() and scene.retrainings.policy(ME, "live").words == "ann paused it"
    scene.retrainings.resume(ME, "live")
    scene.pass_time(20)
    assert len(scene.all()) == 1


def test_while_a_rollout_goes_on_nothing_begins(scene: Scene) -> None:
    scene.policy()
    scene.answers()
    scene.alarm()
    scene.world.rollouts.start(ME, "live", "digits@3", plan())
    scene.pass_time(20)
    assert not scene.all() and "end of the deployment's rollout" in scene.retrainings.policy(ME, "live").words


def test_one_at_a_time(scene: Scene) -> None:
    scene.policy()
    one = scene.retrainings.start(ME, "live", why="I want to")
    assert one.why == "I want to" and one.cause == "ann" and one.state is State.queued and one.stage is Stage.training_set
    with pytest.raises(Conflict, match=f"retrain show {one.id}"):
        scene.retrainings.start(ME, "live")
    with pytest.raises(Conflict, match="being trained again"):
        scene.retrainings.delete_policy(ME, "live")
    assert scene.retrainings.cancel(ME, one.id, why="no").state is State.cancelled
    assert scene.retrainings.start(ME, "live").id != one.id


def test_stages_are_done_once_and_in_their_order(scene: Scene) -> None:
    scene.policy()
    one = scene.retrainings.start(ME, "live")
    with pytest.raises(Conflict, match="training_set"):
        scene.retrainings.advance(ME, one.id, Stage.run, words="", facts={"run_id": "x"})
    first = scene.retrainings.advance(ME, one.id, Stage.training_set, words="first", facts={"rows": 1, "held_out_rows": 1, "digest": "a"})
    again = scene.retrainings.advance(ME, one.id, Stage.training_set, words="again", facts={"rows": 9, "held_out_rows": 9, "digest": "b"})
    assert first.state is State.running and again.stages == first.stages and again.stages[0].words == "first"
    assert again.training_set is not None and again.training_set.rows == 1


def test_what_passes_the_gate_is_rolled_out_once(scene: Scene) -> None:
    scene.policy(plan={"preset": "fast", "name": "mine"})
    scene.retrainings.start(ME, "live")
    with pytest.raises(Conflict, match="gate"):
        scene.retrainings.roll_out(ME, scene.all()[0].id)
    one = scene.finish()
    done = scene.retrainings.roll_out(ME, one.id)
    assert done.state is State.rolled_out and done.ended_ms is not None and done.stage is None
    assert scene.retrainings.roll_out(ME, one.id) == done
    (rollout,) = scene.world.rollouts.list(ME, deployment="live")
    assert rollout.id == done.rollout_id and rollout.origin["retraining"] == one.id and rollout.plan.name == "mine"
    told = Lineage(scene.world.db)
    version = scene.world.registry.get_version(ME, "digits", 2)
    assert told.subjects(ME, Thing("version", version.id), "made", "retraining") == [one.id]
    assert told.subjects(ME, Thing("rollout", rollout.id), "began", "retraining") == [one.id]
    assert told.objects(ME, Thing("rollout", rollout.id), "brought", "variant") == [rollout.canary]
    assert version.id in told.objects(ME, Thing("deployment", rollout.deployment_id), "serves", "version")
    assert rollout.canary_name == "v2" and done.stages[-1].undo == "drivetrain rollout abort live"


def test_a_rollout_that_began_before_the_process_died_is_found_again(scene: Scene) -> None:
    """Between the rollout and the note of it: the same key gives the same rollout."""
    scene.policy()
    scene.retrainings.start(ME, "live")
    one = scene.finish()
    begun = scene.world.rollouts.start(ME, "live", "models:/digits/2", plan(), key=f"retraining:{one.id}")
    assert scene.retrainings.roll_out(ME, one.id).rollout_id == begun.id
    assert len(scene.world.rollouts.list(ME, deployment="live")) == 1


def test_guardrails_are_those_of_the_last_rollout(scene: Scene) -> None:
    scene.policy()
    last = scene.world.rollouts.start(ME, "live", "digits@3", plan("errors", "label_error"))
    scene.world.rollouts.abort(ME, last.id)
    scene.retrainings.start(ME, "live")
    done = scene.retrainings.roll_out(ME, scene.finish().id)
    assert scene.world.rollouts.get(ME, done.rollout_id or "").plan == last.plan


def test_it_waits_for_the_open_rollout_and_then_goes_on_by_itself(scene: Scene) -> None:
    scene.policy()
    first = scene.world.rollouts.start(ME, "live", "digits@3", plan())
    scene.retrainings.start(ME, "live")
    one = scene.retrainings.roll_out(ME, scene.finish().id)
    assert one.state is State.waiting and "is in a rollout already" in one.why
    scene.pass_time(10)
    assert scene.all()[0].state is State.waiting
    scene.world.rollouts.abort(ME, first.id)
    scene.pass_time(5)
    done = scene.all()[0]
    assert done.state is State.rolled_out and done.rollout_id not in (None, first.id)


def test_what_does_not_pass_the_gate_gets_no_traffic(scene: Scene) -> None:
    scene.policy()
    scene.retrainings.start(ME, "live")
    one = scene.finish(REFUSED)
    assert one.state is State.refused and one.why == "it is no better" and one.version == 2
    with pytest.raises(Conflict, match="has ended"):
        scene.retrainings.roll_out(ME, one.id)
    assert not scene.world.rollouts.list(ME)
    scene.pass_time(5)
    (alert,) = [each for each in scene.alerts.lasting(ME.workspace_id, "live") if each.source == "retraining"]
    assert alert.severity == "warn" and alert.text == "it is no better" and alert.evidence["retraining"] == one.id


def test_a_cancelled_one_takes_no_further_stage(scene: Scene) -> None:
    scene.policy()
    one = scene.retrainings.start(ME, "live")
    scene.loop.step()
    scene.retrainings.cancel(ME, one.id)
    assert scene.jobs.get(ME, scene.all()[0].job_id or "").state == "cancelled"
    with pytest.raises(Conflict, match="cancelled"):
        scene.retrainings.advance(ME, one.id, Stage.training_set, words="", facts={})
    scene.pass_time(5)
    assert scene.all()[0].state is State.cancelled
    assert not [each for each in scene.alerts.lasting(ME.workspace_id, "live") if each.source == "retraining"]


def test_a_retraining_whose_job_was_not_noted_gets_the_same_job(scene: Scene) -> None:
    scene.policy()
    one = scene.retrainings.start(ME, "live")
    job = scene.jobs.submit(ME, "retrain", {"retraining": one.id}, key=f"retraining:{one.id}")
    scene.loop.step()
    assert scene.all()[0].job_id == job.id and len(scene.jobs.list(ME)) == 1


def test_the_training_set_is_what_was_labelled_until_then(scene: Scene) -> None:
    kept = [scene.answer(n) for n in range(4)]
    scene.answer(error="internal")
    scene.answer(shadow=kept[0])
    scene.answer(input=None)
    scene.answer(deployment=uuid7())
    named = scene.answer(name="other")
    scene.policy(label="label")
    one = scene.retrainings.start(ME, "live")
    scene.answer()  # too late
    found = rows(scene, one)
    assert {row["id"]: row["label"] for row in found} == {id_: n for n, id_ in enumerate(kept)}
    scene.retrainings.cancel(ME, one.id)
    scene.policy()
    any_name = scene.retrainings.start(ME, "live")
    assert named in {row["id"] for row in rows(scene, any_name)}


def rows(scene: Scene, one: Retraining) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in b"".join(scene.retrainings.labelled(ME, one.id)).splitlines()]


def test_the_policy_of_a_deleted_deployment_begins_nothing(scene: Scene) -> None:
    scene.policy()
    scene.answers()
    scene.alarm()
    scene.world.serving.delete(ME, "live")
    scene.pass_time(10)
    assert not scene.all()
