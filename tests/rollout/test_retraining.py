"""Policies and retrainings on both databases: when one begins, what is done once, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.jobs.service import Jobs
from drivetrain.loops.retraining import RetrainingLoop
from drivetrain.monitoring.alerts import Alerts
from drivetrain.monitoring.model import Alert
from drivetrain.rollout.retraining.model import Gate, GateResult, Policy, Retraining, Stage, State, Trigger, held_out
from drivetrain.rollout.retraining.service import Retrainings
from drivetrain.rollout.retraining.watch import Watch
from drivetrain.store.blobs import Blobs
from drivetrain.store.event import Event
from drivetrain.store.events import Events
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.leases import Leases
from drivetrain.store.spool import Spool
from drivetrain.store.sql import Database
from drivetrain.tracking.feedback import About
from drivetrain.tracking.service import Tracking
from tests.rollout.parts import ME, OTHER, World, plan

PASSED = msgspec.to_builtins(GateResult(passed=True, words="it is better"))
REFUSED = msgspec.to_builtins(GateResult(passed=False, words="it is no better"))
ENOUGH = 30
"""Labels that are enough to train on, with half of them held out, and to judge by."""
QUICK = Trigger(min_labels=ENOUGH, cool_down_seconds=100, sustained_seconds=0)
GATE = Gate(held_out=0.5, recent=10, min_rows=10)


class Scene:
    """The deployment `live`, its registry with a script, and the loop with a clock of ours."""

    def __init__(self, db: Database, folder: Path, home: Home) -> None:
        self.world = World(db, folder)
        self.blobs = Blobs(db, str(folder / "blobs"), min_free=0, scratch=folder / "scratch")
        tracking = Tracking(db, self.blobs)
        self.jobs = Jobs(db, frozenset({"retrain"}), lambda _: None)
        self.spool = Spool(home.spool / uuid7(), fsync_s=0.1)
        self.home = home
        self.retrainings = Retrainings(
            db,
            self.world.registry,
            tracking,
            self.world.serving,
            self.world.feedback,
            self.world.rollouts,
            self.jobs,
            Events(db, self.blobs, home),
            lambda _: None,
        )
        self.alerts = Alerts(db, lambda _: None)
        self.watch = Watch(db, self.retrainings, self.world.serving, self.world.feedback, self.world.rollouts, self.jobs)
        self.now = 1000.0
        self.loop = RetrainingLoop(self.watch, self.alerts, Leases(db, "s1"), clock=lambda: self.now)
        self.push("training", "artifact", {"train.py": b"print()"})

    def push(self, repo: str, kind: str, files: dict[str, bytes]) -> str:
        registry = self.world.registry
        registry.ensure_repo(ME, repo, kind=kind)
        digests = {path: self.blobs.put([content]).sha256 for path, content in files.items()}
        return registry.commit(ME, repo, digests, message="import", kind=kind).id

    def policy(self, **changes: Any) -> Policy:
        values: dict[str, Any] = {"script": "training", "trigger": QUICK, "gate": GATE, **changes}
        return self.retrainings.set_policy(ME, "live", **values)

    def answer(self, label: object = 1, *, name: str = "label", **changes: Any) -> str:
        """One answered request, with its label; its id."""
        deployment = self.world.deployment
        event = Event(
            **{
                "id": uuid7(),
                "t": now_ms() * 1_000_000,
                "workspace": ME.workspace_id,
                "deployment": deployment.id,
                "task": "infer",
                "input": '{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[0.5]}]}',
                **changes,
            }
        )
        self.spool.append(event)
        about = About(event.t // 1_000_000, event.deployment, "", "", "", 0)
        self.world.feedback.add(ME, event.id, name, label, kind="label", about=about)  # type: ignore[arg-type]
        return event.id

    def answers(self, count: int = ENOUGH) -> None:
        """As many answered requests, of which every other one is held out."""
        for i in range(count):
            id_ = uuid7()
            while held_out(id_, GATE.held_out) is not bool(i % 2):
                id_ = uuid7()
            self.answer(id=id_)

    def alarm(self, source: str = "drift", **evidence: object) -> None:
        self.alerts.raise_alert(
            workspace_id=ME.workspace_id,
            deployment="live",
            source=source,
            key=source,
            severity="warn",
            title="It drifts",
            text="a lot",
            evidence={"since_ms": 1, **evidence},
        )

    def words(self) -> str:
        """What the policy says that it waits for."""
        return self.retrainings.policy(ME, "live").words

    def fail(self, why: str = "the script is broken") -> None:
        """Let the job of the open retraining fail, and the loop see it."""
        self.loop.step()
        job = self.jobs.claim("s1")
        assert job is not None
        self.jobs.failed(job.id, why)
        self.loop.step()

    def alerts_of_retraining(self) -> list[Alert]:
        return [one for one in self.alerts.lasting(ME.workspace_id, "live") if one.source == "retraining"]

    def failures(self) -> list[Alert]:
        return [one for one in self.alerts_of_retraining() if "times in a row" in one.title]

    def pass_time(self, seconds: float) -> None:
        """Let so much time go by, as the loop sees it."""
        left = seconds
        while left > 0:
            self.now += min(5.0, left)
            left -= 5.0
            self.loop.step()

    def pass_long(self, seconds: float) -> None:
        """The same at once, while the alert lasts, as if the loop had looked all the time."""
        for policy in self.watch.policies():
            self.watch.passed(policy.id, seconds * 1000, alarmed=True)
        self.pass_time(5)

    def all(self) -> list[Retraining]:
        return self.retrainings.list(ME, deployment="live")

    def finish(self, gate: dict[str, Any] = PASSED) -> Retraining:
        """Do what the job of the open retraining does, up to the gate."""
        one = self.all()[0]
        for stage, facts in (
            (Stage.training_set, {"rows": 10, "held_out_rows": 2, "digest": "d"}),
            (Stage.run, {"run_id": "r" * 32}),
            (Stage.training, {}),
            (Stage.version, {"version": 2}),
            (Stage.gate, gate),
        ):
            one = self.retrainings.advance(ME, one.id, stage, words=str(facts.get("words", stage)), facts=facts)
        return one


@pytest.fixture
def scene(database: Database, tmp_path: Path, home: Home) -> Iterator[Scene]:
    made = Scene(database, tmp_path, home)
    yield made
    made.spool.close()


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


def wait_a_millisecond() -> None:
    at = now_ms()
    while now_ms() <= at:
        pass


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
