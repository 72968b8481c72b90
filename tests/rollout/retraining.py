"""A deployment that may be trained again, with the loop that sees to it, on a clock of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from drivetrain.feedback.model import About
from drivetrain.jobs.kinds import KINDS
from drivetrain.jobs.service import Jobs
from drivetrain.loops.loop import Loop
from drivetrain.loops.retraining import RetrainingKeeper
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.model import Alert
from drivetrain.retraining.model import Gate, GateResult, Policy, Retraining, Stage, Trigger, held_out
from drivetrain.retraining.service import Retrainings
from drivetrain.retraining.watch import Watch
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.model import Event
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from drivetrain.tracking.service import Tracking
from tests.rollout.parts import ME, World

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
        tracking = Tracking.of(db, self.blobs)
        self.jobs = Jobs(db, KINDS, lambda _: None)
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
        keeper = RetrainingKeeper(self.watch, self.alerts, clock=lambda: self.now)
        self.loop = Loop("retraining", keeper.step, interval=1.0, leases=Leases(db, "s1"), lease=15.0)
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


def wait_a_millisecond() -> None:
    at = now_ms()
    while now_ms() <= at:
        pass
