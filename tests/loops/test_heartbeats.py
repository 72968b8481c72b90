"""Which runs are taken for dead, on both databases, by a clock that the test moves."""

from __future__ import annotations

import pytest

from drivetrain.identity.model import Context
from drivetrain.loops.heartbeats import SILENCE_SECONDS, HeartbeatWatch
from drivetrain.store.blobs import Blobs
from drivetrain.store.home import Home
from drivetrain.store.sql import Database
from drivetrain.tracking.history.reports import Reports
from drivetrain.tracking.service import Tracking

ME = Context("u1", "ann", "w1", "red")


class Parts:
    def __init__(self, database: Database, home: Home) -> None:
        self.now = 1000.0
        self.tracking = Tracking.of(database, Blobs(database, str(home.blobs), min_free=0, scratch=home.cache))
        self.watch = self.another()

    def another(self) -> HeartbeatWatch:
        """What a server has that was started anew."""
        return HeartbeatWatch(self.tracking, clock=lambda: self.now)

    def begin(self, name: str) -> str:
        return self.tracking.reports.begin(ME, "0", name)[0].id

    def pass_by(self, seconds: float) -> int:
        self.now += seconds
        return self.watch.look()

    def state(self, run_id: str) -> tuple[str, str]:
        found = self.tracking.reports.get(ME, run_id)
        return found.state, found.run.status


@pytest.fixture
def parts(database: Database, home: Home) -> Parts:
    return Parts(database, home)


def test_a_run_that_is_silent_for_long_has_crashed(parts: Parts) -> None:
    dead, alive = parts.begin("dead"), parts.begin("alive")
    assert parts.pass_by(0) == 0
    beat = parts.tracking.reports.get(ME, dead).heartbeat_ms
    for _ in range(4):
        parts.tracking.reports.append(ME, alive)
        assert parts.pass_by(SILENCE_SECONDS / 4 - 1) == 0
    assert parts.state(dead) == ("running", "RUNNING")
    parts.tracking.reports.append(ME, alive)
    assert parts.pass_by(5) == 1
    assert parts.state(dead) == ("crashed", "FAILED")
    assert parts.tracking.runs.get(ME, dead).end_ms == beat  # it ended when it was last heard of
    assert parts.state(alive) == ("running", "RUNNING")
    assert parts.pass_by(1) == 0  # it is told once


def test_a_run_that_speaks_again_goes_on(parts: Parts) -> None:
    run_id = parts.begin("asleep")
    parts.pass_by(0)
    assert parts.pass_by(SILENCE_SECONDS) == 1
    parts.tracking.reports.append(ME, run_id, rows=['{"loss": 1, "_step": 0}'])
    assert parts.state(run_id) == ("running", "RUNNING")
    assert parts.tracking.runs.get(ME, run_id).end_ms is None
    assert parts.pass_by(SILENCE_SECONDS - 1) == 0
    assert parts.pass_by(SILENCE_SECONDS) == 1  # silent again for as long


def test_a_run_that_has_ended_is_left_alone(parts: Parts) -> None:
    done, plain = parts.begin("done"), parts.tracking.runs.create(ME, "0").id
    parts.tracking.reports.append(ME, done, state="finished", exit_code=0)
    parts.pass_by(0)
    assert parts.pass_by(10 * SILENCE_SECONDS) == 0
    assert parts.state(done) == ("finished", "FINISHED")
    # Nobody has promised heartbeats of a run of mlflow's.
    assert parts.tracking.runs.get(ME, plain).status == "RUNNING"


def test_a_wall_clock_that_jumps_ends_no_run(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    from drivetrain.tracking.history import reports

    hour = 3600 * 1000
    run_id = parts.begin("lives")
    began = parts.tracking.reports.get(ME, run_id).heartbeat_ms
    for jump in (5 * hour, -5 * hour, 0):
        monkeypatch.setattr(reports, "now_ms", lambda jump=jump: began + jump)
        parts.tracking.reports.append(ME, run_id)
        assert parts.pass_by(60) == 0
    # Between beats too: only this process's own clock counts.
    monkeypatch.setattr(reports, "now_ms", lambda: began + 50 * hour)
    assert parts.pass_by(60) == 0
    assert parts.state(run_id) == ("running", "RUNNING")


def test_after_a_restart_everybody_has_the_whole_time_again(parts: Parts) -> None:
    run_id = parts.begin("patient")
    parts.pass_by(0)
    assert parts.pass_by(SILENCE_SECONDS - 1) == 0
    parts.watch = parts.another()
    assert parts.pass_by(SILENCE_SECONDS - 1) == 0
    assert parts.pass_by(SILENCE_SECONDS - 1) == 0
    assert parts.state(run_id) == ("running", "RUNNING")
    assert parts.pass_by(1) == 1


def test_a_word_that_comes_at_the_last_moment_counts(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = parts.begin("late")
    parts.pass_by(0)
    before = parts.tracking.reports.beating()

    def stale(self: Reports, *, limit: int = 0) -> dict[str, int]:
        parts.tracking.reports.append(ME, run_id)
        return before

    monkeypatch.setattr(Reports, "beating", stale)
    assert parts.pass_by(SILENCE_SECONDS) == 0
    assert parts.state(run_id) == ("running", "RUNNING")
