"""The loop of monitors on both databases: what it asks of labels and requests, what it remembers, and whom it tells."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.feedback.model import About
from drivetrain.feedback.tables import feedback
from drivetrain.lineage.service import Lineage
from drivetrain.loops.loop import Loop
from drivetrain.loops.monitors import MonitorRunner, drift_finding
from drivetrain.monitoring import checks, tables
from drivetrain.monitoring.accuracy import Memory
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.kinds import Drift
from drivetrain.monitoring.model import Alert, Monitor, Window
from drivetrain.monitoring.reference import References
from drivetrain.monitoring.service import Monitors
from drivetrain.serving.lineage import Lineages
from drivetrain.store.blobs import Blobs
from drivetrain.store.events import counters
from drivetrain.store.events.lookup import Events
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from drivetrain.tracking.service import Tracking
from tests.rollout.parts import ME, World

MINUTE_MS = 60_000


class Scene:
    """The deployment `live`, its monitors, and a loop with a clock of ours."""

    def __init__(self, db: Database, folder: Path, home: Home) -> None:
        self.db, self.home, self.folder = db, home, folder
        self.world = World(db, folder)
        self.now = now_ms()
        self.alerts = Alerts(db, lambda _: None)
        self.restart()

    def restart(self) -> None:
        """As when the supervisor is started again: nothing but the database is left."""
        db = self.db
        blobs = Blobs(db, str(self.folder / "blobs"), min_free=0, scratch=self.folder / "scratch")
        events = Events(db, blobs, self.home)
        tracking = Tracking.of(db, blobs)
        self.monitors = Monitors(db, self.world.serving, References(db, self.world.registry, tracking))
        lineages = Lineages(events, self.world.registry, tracking, self.world.feedback, Lineage(db))
        runner = MonitorRunner(self.monitors, self.world.serving, events, lineages, self.alerts, clock=lambda: self.now)
        self.loop = Loop("monitors", runner.step, interval=5.0, leases=Leases(db, "s1"), lease=60.0)

    def look(self) -> None:
        """A look at what has settled by now."""
        at = now_ms() + 1
        while now_ms() < at:
            pass  # the next label shall be of a later millisecond
        self.now = max(self.now, at + checks.SETTLED_MS)
        self.loop.step()

    def monitor(self, kind: str) -> Monitor:
        return next(one for one in self.monitors.list(ME, "live") if one.kind == kind)

    def label(self, *right: bool, variant: str = "v1") -> None:
        """Labels of as many answers, in this order."""
        deployment, one = self.world.deployment, self.world.variant(variant)
        for correct in right:
            about = About(now_ms(), deployment.id, one.id, "", "", 0, '{"outputs":[{"data":[1]}]}')
            self.world.feedback.add(ME, uuid7(), "label", 1 if correct else 2, kind="label", about=about)

    def count(self, requests: int, errors: int = 0) -> None:
        """Requests of this minute."""
        key = (self.world.deployment.id, self.world.variant("v1").id, self.now // MINUTE_MS * MINUTE_MS)
        with self.db.write() as c:
            counters.add(c, {(*key, "requests"): requests, (*key, "errors.upstream"): errors, (*key, "latency.20"): requests - errors})

    def lasting(self) -> dict[str, Alert]:
        return {one.source: one for one in self.alerts.lasting(ME.workspace_id, "live")}


@pytest.fixture
def scene(database: Database, tmp_path: Path, home: Home) -> Scene:
    return Scene(database, tmp_path, home)


def draw(seed: int, count: int, share: float) -> list[bool]:
    return [bool(right) for right in np.random.default_rng(seed).random(count) < share]


def test_a_drop_is_told_and_ends_with_the_version(scene: Scene) -> None:
    scene.monitors.set(ME, "live", "quality", config={"least": 50})
    scene.look()
    assert scene.monitor("quality").state == "waiting" and "51 more are needed" in scene.monitor("quality").words
    scene.label(*draw(0, 200, 0.95))
    scene.look()
    assert scene.monitor("quality").state == "ok" and "of 200 labelled answers" in scene.monitor("quality").words
    assert "quality" not in scene.lasting()
    scene.label(*draw(1, 120, 0.4))
    scene.look()
    assert scene.monitor("quality").state == "alarm"
    alert = scene.lasting()["quality"]
    assert alert.severity == "bad" and alert.evidence["accuracy"] < 0.7 < alert.evidence["before"] and "Since about" in alert.text
    assert alert.evidence["since_ms"] <= now_ms()
    # It grows, and is one; also over a restart, and whether or not labels come.
    scene.restart()
    scene.look()
    assert scene.lasting()["quality"].id == alert.id and scene.monitor("quality").state == "alarm"
    # Another version serves.
    scene.world.serving.deploy(ME, "live", "digits@2")
    scene.look()
    assert "quality" not in scene.lasting() and scene.monitor("quality").state == "waiting"


def test_labels_are_read_once_and_give_the_same_answer_read_anew(scene: Scene) -> None:
    scene.monitors.set(ME, "live", "quality", config={"least": 20})
    for seed in range(3):
        scene.label(*draw(seed, 30, 0.8))
        scene.look()
    words, memory = scene.monitor("quality").words, remembered(scene)
    assert memory.labels == 90
    scene.look()
    assert remembered(scene).labels == 90
    with scene.db.write() as c:
        c.execute(sa.update(tables.monitors).values(memory="", words=""))
    scene.restart()
    scene.look()
    assert scene.monitor("quality").words == words
    assert msgspec.structs.replace(remembered(scene), cursor="") == msgspec.structs.replace(memory, cursor="")


def test_an_answer_with_several_labels_counts_once_and_other_versions_do_not(scene: Scene) -> None:
    scene.label(True, False)
    with scene.db.read() as c:
        request = c.scalars(sa.select(feedback.c.request_id)).first()
    about = About(now_ms(), scene.world.deployment.id, scene.world.variant("v1").id, "", "", 0, '{"outputs":[{"data":[1]}]}')
    scene.world.feedback.add(ME, str(request), "second", 2, kind="label", about=about)
    other = About(now_ms(), scene.world.deployment.id, uuid7(), "", "", 0, '{"outputs":[{"data":[1]}]}')
    scene.world.feedback.add(ME, uuid7(), "label", 2, kind="label", about=other)
    scene.look()
    assert (remembered(scene).labels, remembered(scene).wrong) == (2, 1)


def remembered(scene: Scene) -> Memory:
    _, text = scene.monitors.of(scene.world.deployment.id)["quality"]
    return msgspec.json.decode(text, type=Memory)


def test_an_outage_is_told_at_once_and_its_end_by_evidence(scene: Scene) -> None:
    scene.count(200)
    scene.look()
    assert scene.monitor("errors").state == "ok"
    scene.now += MINUTE_MS
    scene.count(30, 30)
    scene.look()
    alert = scene.lasting()["errors"]
    assert alert.severity == "bad" and "100.0% of 30 requests were errors" in alert.text
    scene.restart()
    for _ in range(3):
        scene.now += MINUTE_MS
        scene.count(100)
        scene.look()
    assert scene.monitor("errors").state == "ok" and "errors" not in scene.lasting()


def test_a_quiet_deployment_costs_no_writes(scene: Scene) -> None:
    scene.count(100)
    scene.look()
    scene.now += 11 * MINUTE_MS
    scene.look()
    before = scene.monitors.of(scene.world.deployment.id)
    for _ in range(3):
        scene.now += MINUTE_MS
        scene.loop.step()
    assert scene.monitors.of(scene.world.deployment.id) == before


def test_settings_of_an_earlier_version_are_read_and_new_ones_checked(scene: Scene) -> None:
    scene.loop.step()
    old = {
        "errors": {"share": 0.1, "minutes": 5, "least": 20},
        "latency": {"p95_ms": None, "times": 3.0, "minutes": 5, "least": 50},
        "quality": {"recent": 200, "least": 50, "drop": 0.05, "least_accuracy": None},
    }
    with scene.db.write() as c:
        for kind, config in old.items():
            c.execute(sa.update(tables.monitors).where(tables.monitors.c.kind == kind).values(config=config))
    scene.count(100)
    scene.look()
    assert scene.monitor("errors").state == "ok" and "10.0%" in scene.monitor("errors").words
    changed = scene.monitors.set(ME, "live", "quality", config={"drop": 0.1})
    assert changed.config == {"least": 50, "drop": 0.1, "least_accuracy": None, "false_alarm_days": 365.0}
    with pytest.raises(Invalid, match="It has: least, drop, least_accuracy, false_alarm_days"):
        scene.monitors.set(ME, "live", "quality", config={"recent": 100})
    with pytest.raises(Invalid, match="is a share"):
        scene.monitors.set(ME, "live", "errors", config={"share": 5})


@pytest.mark.parametrize(("drifted", "began"), [("11", 0), ("00111", 2), ("0010111011", 2), ("110001110111", 5), ("1" * 30, 0)])
def test_drift_knows_when_it_began(drifted: str, began: int) -> None:
    """Not later and later, as windows come: the labels since then are counted. One calm window of three does not end it, two do."""
    windows = [
        Window(id=f"{i}", variant_id="v", from_ms=i, to_ms=i + 1, rows=200, features=4, drifted=int(one)) for i, one in enumerate(drifted)
    ]
    found = drift_finding(Drift(), windows[::-1], [])
    assert found.state == "alarm" and found.evidence["since_ms"] == began
