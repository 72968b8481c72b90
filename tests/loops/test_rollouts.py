"""The loop of rollouts: one server looks, all follow, and people hear of what was done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivetrain.loops.loop import Loop
from drivetrain.loops.rollouts import LONGEST_MS, RolloutKeeper
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.model import AlertState
from drivetrain.rollout.model import Role, State, Step
from drivetrain.rollout.planning.plans import guardrail
from drivetrain.rollout.steps import Steps
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from tests.conftest import wait_for
from tests.rollout.parts import ME, World, plan


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


class Life:
    """One server's loop, in a thread of its own."""

    def __init__(self, world: World, server: str) -> None:
        self.moved: list[float] = []
        self.alerts = Alerts(world.db, lambda _: None)
        self.steps = Steps(world.db, world.serving, world.feedback)
        keeper = RolloutKeeper(self.steps, self.alerts, moved=lambda: self.moved.append(time.monotonic()))
        self.loop = Loop("rollouts", keeper.step, interval=0.25, first=0.0, leases=Leases(world.db, server), lease=10.0)
        self.thread = threading.Thread(target=self.loop.run)

    def start(self) -> Life:
        self.thread.start()
        return self

    def stop(self) -> None:
        self.loop.stop()
        if self.thread.ident is not None:
            self.thread.join()


@pytest.fixture
def lives(world: World) -> Iterator[list[Life]]:
    made = [Life(world, "s1"), Life(world, "s2")]
    yield made
    for life in made:
        life.stop()


def state(world: World, rollout_id: str) -> State:
    return world.rollouts.get(ME, rollout_id).state


def test_of_two_servers_one_acts_and_both_follow(world: World, lives: list[Life]) -> None:
    one, other = (life.start() for life in lives)
    rollout = world.start()
    world.be_ready(world.variant("v2"))
    one.loop.poke()
    other.loop.poke()
    wait_for(lambda: state(world, rollout.id) is State.running, what="the first step")
    wait_for(lambda: one.moved and other.moved, what="both to look at their routes")
    now = world.now(rollout)
    world.traffic(now, canary=12, stable=108, bad_canary=10)
    before = {id(life): len(life.moved) for life in lives}
    wait_for(lambda: state(world, rollout.id) is State.rolled_back, what="the rollback")
    wait_for(lambda: all(len(life.moved) > before[id(life)] for life in lives), what="both to look again")
    assert [one.action for one in world.rollouts.decisions(ME, rollout.id)] == ["started", "advanced", "rolled_back"]


def test_whoever_has_the_lease_leaves_it_to_the_next(world: World, lives: list[Life]) -> None:
    one, other = lives
    one.start()
    rollout = world.begun()
    wait_for(lambda: one.moved)
    one.stop()
    other.start()
    world.traffic(rollout, canary=12, stable=108, bad_canary=10)
    wait_for(lambda: state(world, rollout.id) is State.rolled_back, what="the other server to act")


def test_people_hear_of_it_with_the_numbers_and_the_way_back(world: World, lives: list[Life]) -> None:
    rollout = world.begun()
    world.traffic(rollout, canary=12, stable=108, bad_canary=10)
    lives[0].start()
    (alert,) = wait_for(lambda: lives[0].alerts.list(ME, state="lasting"), what="the alert")
    assert (alert.severity, alert.source, alert.deployment) == ("bad", "rollout", "live")
    assert alert.title == "v2 was taken back from live"
    assert "errors: harm. Bad: v2 10 of 12 units" in alert.text
    assert alert.undo == "drivetrain rollout start live digits@2"
    assert alert.evidence["rollout"] == rollout.id
    assert alert.evidence["evidence"][0]["verdict"] == "harm"


def test_a_decision_that_nobody_was_told_of_is_told_by_the_next(world: World, lives: list[Life]) -> None:
    """As when the process is killed between the two."""
    rollout = world.begun()
    world.traffic(rollout, canary=12, stable=108, bad_canary=10)
    assert world.steps.step(rollout.id, 0.0)
    assert lives[0].alerts.list(ME) == []
    lives[0].loop.step()
    assert len(lives[0].alerts.list(ME)) == 1
    lives[0].loop.step()
    (alert,) = lives[0].alerts.list(ME)
    assert alert.count == 1


def test_an_alert_ends_when_somebody_goes_on(world: World, lives: list[Life]) -> None:
    signal = guardrail("errors!signal")
    assert signal.role is Role.signal
    rollout = world.begun(of=plan("timeouts", signal))
    world.traffic(rollout, canary=30, stable=270, bad_canary=15)
    assert world.pass_time(rollout, 1).state is State.paused
    lives[0].loop.step()
    (alert,) = lives[0].alerts.list(ME, state="lasting")
    assert (alert.severity, alert.undo) == ("warn", "drivetrain rollout resume live")
    world.rollouts.resume(ME, rollout.id)
    lives[0].loop.step()
    (alert,) = lives[0].alerts.list(ME)
    assert alert.state is AlertState.resolved


def test_a_stalled_loop_does_not_count_the_time(world: World) -> None:
    """Nobody watched while the process was stopped, or while the machine slept."""
    rollout = world.begun(of=plan(steps=(Step(share=1_000, min_seconds=60), Step(share=10_000))))
    world.traffic(rollout, canary=30, stable=270)
    clock = [1000.0]
    keeper = RolloutKeeper(world.steps, Alerts(world.db, lambda _: None), moved=lambda: None, clock=lambda: clock[0])
    loop = Loop("rollouts", keeper.step, interval=0.25, leases=Leases(world.db, "s1"), lease=10.0)
    loop.step()
    clock[0] += 3600.0
    loop.step()
    assert 0 < world.now(rollout).elapsed_ms <= LONGEST_MS
