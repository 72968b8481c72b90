"""The checklist and the provenance of a real deployment, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from drivetrain.checklist.model import Line
from drivetrain.checklist.service import Checklists
from drivetrain.config import Settings
from drivetrain.errors import Forbidden, NotFound
from drivetrain.identity.audit import Audit
from drivetrain.identity.secrets import Secrets
from drivetrain.jobs.kinds import KINDS
from drivetrain.jobs.service import Jobs
from drivetrain.lineage.service import Lineage
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.reference import References
from drivetrain.monitoring.service import Monitors
from drivetrain.profiles.model import FILE
from drivetrain.retraining.provenance import Provenances
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout.model import State
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.model import Event
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.tracking.model import Dataset, Input, Owner
from drivetrain.tracking.service import Tracking
from tests.rollout.parts import ME, OTHER, World


class Checked:
    """A world with all that the checklist asks."""

    def __init__(self, world: World, home: Home) -> None:
        self.world = world
        db, blobs = world.db, world.registry.blobs
        self.tracking = Tracking.of(db, blobs)
        self.events = Events(db, blobs, home)
        self.spool = Spool(home.spool / uuid7())
        self.alerts = Alerts(db, world.nudges.append)
        self.channels = Channels(db, Secrets(db, bytes(32), Audit(db)), world.nudges.append)
        self.monitors = Monitors(db, world.serving, References(db, world.registry, self.tracking))
        self.retrainings = Retrainings(
            db,
            world.registry,
            self.tracking,
            world.serving,
            world.feedback,
            world.rollouts,
            Jobs(db, KINDS, world.nudges.append),
            self.events,
            world.nudges.append,
        )
        self.backed_up: int | None = None
        self.checklists = Checklists(
            Settings(),
            serving=world.serving,
            lineage=Lineage(world.db),
            registry=world.registry,
            tracking=self.tracking,
            feedback=world.feedback,
            events=self.events,
            monitors=self.monitors,
            alerts=self.alerts,
            channels=self.channels,
            rollouts=world.rollouts,
            retrainings=self.retrainings,
            auth=lambda: "open",
            backed_up=lambda: self.backed_up,
        )
        self.provenances = Provenances(world.rollouts, self.retrainings, Lineage(world.db))

    def lines(self) -> dict[str, Line]:
        return {line.name: line for line in self.checklists.of(ME, "live").lines}

    def states(self) -> dict[str, str]:
        return {name: line.state.value for name, line in self.lines().items()}

    def run_with_everything(self) -> str:
        run = self.tracking.runs.create(ME, name="forest", tags={"mlflow.source.git.commit": "abc"})
        self.tracking.metrics.log(ME, run.id, params={"seed": "7"})
        self.tracking.inputs.log(ME, run.id, [Input(Dataset(name="iris", digest="d"))])
        blob = self.world.registry.blobs.put([b"{}"])
        self.tracking.artifacts.put(ME, Owner.run, run.id, FILE, blob)
        return run.id


@pytest.fixture
def checked(world: World, home: Home) -> Iterator[Checked]:
    made = Checked(world, home)
    yield made
    made.spool.close()


def test_a_deployment_grows_ready(checked: Checked) -> None:
    first = checked.checklists.of(ME, "live")
    assert not first.ready
    missing = {line.name for line in first.lines if line.required and line.state == "missing"}
    assert missing == {"drift reference", "alert channel", "backup"}
    assert checked.states()["units"] == "warn"

    checked.backed_up = now_ms()
    checked.channels.add(ME, "team", "webhook", "https://hooks.example/abc")
    assert checked.states()["alert channel"] == "warn"
    delivery = checked.channels.test(ME, "team")
    checked.channels.settled([delivery.id])
    event = Event(id=uuid7(), t=now_ms() * 1_000_000, workspace="w1", deployment=checked.world.deployment.id, unit="ann")
    checked.spool.append(event)

    # A version with a history comes by a rollout.
    commit = checked.world.registry.commits(ME, "digits", limit=1)[0]
    version = checked.world.registry.register(ME, "digits", commit.id, run_id=checked.run_with_everything())
    rollout = checked.world.begun(f"digits@{version.number}")
    checked.world.rollouts.promote(ME, rollout.id)
    states = checked.states()
    found = checked.checklists.of(ME, "live")
    assert found.ready, [line for line in found.lines if line.state == "missing"]
    expected = ("lineage", "drift reference", "alert channel", "backup", "units", "way back", "monitors", "open alerts")
    assert {name: states[name] for name in expected} == dict.fromkeys(expected, "ok")
    assert "drivetrain rollout rollback live" in checked.lines()["way back"].what
    checked.world.rollouts.close(ME, rollout.id)
    assert checked.lines()["way back"].what.endswith("drivetrain deploy live digits@1")


def test_what_was_taken_back_is_no_way_back(checked: Checked) -> None:
    rollout = checked.world.begun()
    checked.world.rollouts.abort(ME, rollout.id)
    assert checked.states()["way back"] == "missing"


def test_only_one_s_own(checked: Checked) -> None:
    with pytest.raises(NotFound):
        checked.checklists.of(OTHER, "live")
    with pytest.raises(Forbidden):
        checked.checklists.of(replace(ME, scopes=frozenset()), "live")


def test_where_a_version_came_from(checked: Checked) -> None:
    first = checked.world.variant("v1")
    assert checked.provenances.of(ME, first.id).rollout is None
    assert checked.provenances.of(ME, "").rollout is None
    rollout = checked.world.start(origin={"retraining": "0" * 32})
    found = checked.provenances.of(ME, rollout.canary)
    assert found.rollout is not None and found.rollout.state is State.starting
    assert [one.action for one in found.decisions] == ["started"]
    assert found.retraining is None  # it was deleted
    assert checked.provenances.of(OTHER, rollout.canary).rollout is None
