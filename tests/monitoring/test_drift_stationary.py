"""A deployment in which nothing changes stays quiet: for an hour of windows, and during a rollout that splits its people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from drivetrain.lineage.service import Lineage
from drivetrain.loops.loop import Loop
from drivetrain.loops.monitors import MonitorRunner, drift_finding
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.drift.report import compare
from drivetrain.monitoring.drift.work import Work
from drivetrain.monitoring.drift.worker import run
from drivetrain.monitoring.kinds import Drift
from drivetrain.monitoring.model import Window
from drivetrain.monitoring.reference import References
from drivetrain.monitoring.service import Monitors
from drivetrain.profiles.build import profile
from drivetrain.serving.lineage import Lineages
from drivetrain.store.events import counters
from drivetrain.store.events.counters import Counted
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.model import Event
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from drivetrain.tracking.service import Tracking
from tests.rollout.parts import ME, World

USERS = 2_000
A_MINUTE = 4
"""Windows of the simulation; the monitor's own least time between two allows two."""


def event(row: dict[str, Any], *, number: int = 0, **more: Any) -> Event:
    inputs = [{"name": name, "shape": [1], "data": [value]} for name, value in row.items()]
    values: dict[str, Any] = {"id": f"{number:032x}", "t": number * 1_000_000, "deployment": "d1", "variant": "v1"} | more
    return Event(task="infer", input=json.dumps({"inputs": inputs}), output='{"outputs":[{"data":[1]}]}', **values)


def spool(file: Path, events: list[Event]) -> tuple[str, int]:
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in events))
    return str(file), file.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("zipf", [False, True], ids=["equal", "Zipf"])
def test_two_thousand_users_are_quiet_for_an_hour(zipf: bool, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    names = np.array([f"user-{i}" for i in range(USERS)], dtype=object)
    weights = 1 / np.arange(1, USERS + 1) ** zipf

    def table(rows: int) -> dict[str, Any]:
        users = names[random.choice(USERS, rows, p=weights / weights.sum())]
        return {"user": users, "amount": np.exp(3 * random.normal(size=rows)), "rare": (random.random(rows) < 0.01).astype(float)}

    config, answers = Drift(), []
    reference = profile(table(3_000))
    assert reference.columns[0].kind == "categorical"
    windows: list[Window] = []
    for i in range(60 * A_MINUTE):
        rows = [dict(zip(("user", "amount", "rare"), row, strict=True)) for row in zip(*table(config.rows).values(), strict=True)]
        events = [event(row, number=1 + i * config.rows + j) for j, row in enumerate(rows)]
        (done,) = run(Work(deployment="d1", variants=["v1"], spools=[spool(tmp_path / "spool", events)], reference=reference))
        assert done.report is not None and done.report.rows_live == config.rows
        count = len(done.report.drifted)
        windows.insert(0, Window(id=str(i), variant_id="v1", from_ms=0, to_ms=0, rows=config.rows, features=3, drifted=count))
        answers.append(drift_finding(config, windows, []).state)
    assert "alarm" not in answers


def test_the_arms_of_a_rollout_are_compared_together(database: Database, tmp_path: Path) -> None:
    """The hash of a rollout has sent the small customers to one arm and the large ones to the other."""
    world = World(database, tmp_path)
    random = np.random.default_rng(0)
    rollout = world.begun()
    home = Home.open(tmp_path / "home")
    tracking, events = Tracking.of(database, world.registry.blobs), Events(database, world.registry.blobs, home)
    monitors = Monitors(database, world.serving, References(database, world.registry, tracking))
    lineages = Lineages(events, world.registry, tracking, world.feedback, Lineage(database))
    runner = MonitorRunner(monitors, world.serving, events, lineages, Alerts(database, world.nudges.append))
    loop = Loop("monitors", runner.step, interval=5.0, leases=Leases(database, "s1"), lease=60.0)

    def amounts(rows: int, *, large: bool) -> Any:
        return random.normal(100 if large else 10, 3, rows)

    everybody = np.concatenate([amounts(2_000, large=False), amounts(2_000, large=True)])
    reference = profile({"amount": everybody}, source="training")
    alone = profile({"amount": amounts(100, large=False)}, like=reference, nulls=False)
    assert compare(reference, alone).drifted, "one arm alone is unlike the whole"
    monitors.references.learned(world.variant("v1"), reference)

    told = []
    for variant, large in ((rollout.stable, False), (rollout.canary, True)):
        for amount in amounts(120, large=large):
            more: dict[str, Any] = {
                "id": uuid7(),
                "t": now_ms() * 1_000_000,
                "deployment": rollout.deployment_id,
                "variant": variant,
                "workspace": "w1",
            }
            told.append(event({"amount": float(amount)}, **more))
    told.sort(key=lambda one: one.id)
    folder = home.spool / "writer"
    folder.mkdir(parents=True)
    spool(folder / "0.jsonl", told)
    with database.write() as c:
        counters.add(c, counters.count([msgspec.json.decode(msgspec.json.encode(one), type=Counted) for one in told]))
    loop.step()

    windows = monitors.windows(ME, "live", limit=10)
    assert [(one.variant_id, one.rows, one.features, one.drifted) for one in windows] == [(rollout.stable, 240, 1, 0)]
    monitor = next(one for one in monitors.list(ME, "live") if one.kind == "drift")
    assert (monitor.state, monitor.words) == ("ok", "None of the last 1 windows has drifted.")
