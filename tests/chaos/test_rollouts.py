"""`kill -9` in the middle of a rollout: what decides it is counted exactly once, no step is taken twice. Clocks that jump move nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from drivetrain.answers.rollouts import WatchedRollout
from drivetrain.client import Client
from drivetrain.feedback.tables import feedback
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting import journal
from drivetrain.rollout.counting.measures import Fixed, parse
from drivetrain.store.events.fold import spool_offsets
from drivetrain.store.events.model import Event, Exposure
from drivetrain.store.events.spoolfiles import complete_end, spool_files
from tests.chaos.test_kill import kill_supervisor, kill_web
from tests.conftest import Server, wait_for
from tests.rollout.live import Traffic, begin, database, deploy, make_models, plan, spooled

pytestmark = pytest.mark.slow

KEEP = {"DRIVETRAIN_EVENT_SEGMENT_SECONDS": "100000"}
"""So that all events stay in the spools, where the test can read what was written."""
CLOCK = """
import os, time
_file, _time, _time_ns = os.environ["PYTHONPATH"] + "/offset", time.time, time.time_ns
def _offset():
    with open(_file) as file:
        return int(file.read() or 0)
time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + _offset() * 10**9
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def deployed(new_server: Callable[..., Server], models: Path) -> Iterator[Callable[..., tuple[Server, Client]]]:
    """A server, started with these arguments, on which the first version is live; and a client of it."""
    clients: list[Client] = []

    def new(*arguments: str, environ: dict[str, str] = KEEP) -> tuple[Server, Client]:
        server = new_server(*arguments, environ=environ)
        clients.append(deploy(server, models))
        return server, clients[-1]

    yield new
    for client in clients:
        client.close()


@dataclass
class Tally:
    """Counts of a rollout, all strata together: (guard, phase, arm) → number."""

    units: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    bad: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    requests: Counter[tuple[int, int, str]] = field(default_factory=Counter)
    _seen: set[tuple[object, ...]] = field(default_factory=set)

    def see(self, guard: int, phase: int, arm: str, unit: str, bad: bool) -> None:
        """Each unit once in each phase for each kind of count; one without a name is new every time."""
        key = (guard, phase, arm)
        self.units[key] += self._first("seen", guard, phase, unit)
        self.bad[key] += bad and self._first("bad", guard, phase, unit)
        self.requests[key] += 1

    def _first(self, *key: object) -> bool:
        new = not key[-1] or key not in self._seen
        self._seen.add(key)
        return new


def recount(server: Server, rollout: str) -> Tally:
    """From the spools' lines and what was said: the counts as they should be."""
    tally = Tally()
    about: dict[str, Event] = {}
    with database(server).read() as c:
        row = c.execute(sa.select(t.rollouts).where(t.rollouts.c.id == rollout)).one()
        guards = {one.number: one for one in c.execute(sa.select(t.guards).where(t.guards.c.rollout_id == rollout))}
        said = c.execute(sa.select(feedback).where(feedback.c.kind == "label").order_by(feedback.c.id)).all()
        compared = set(c.scalars(sa.select(t.phases.c.number).where(t.phases.c.rollout_id == rollout, t.phases.c.share < 10_000)))
    measures = [parse(one["measure"]) for one in row.plan["guardrails"]]
    arms = {row.stable: "stable", row.canary: "canary"}
    for line in spooled(server):
        if b'"exposure":' in line:
            exposure = msgspec.json.decode(line, type=Exposure)
            if exposure.rollout == rollout and exposure.phase in compared:
                tally.see(-1, exposure.phase, arms[exposure.variant], exposure.unit, False)
            continue
        event = msgspec.json.decode(line, type=Event)
        if event.rollout != rollout or event.phase not in compared:
            continue
        about[event.id] = event
        if event.exposed:
            tally.see(-1, event.phase, arms[event.assigned or event.variant], event.unit, False)
        for number, measure in enumerate(measures):
            guard = guards.get(number)
            if measure.observe_event is None or guard is None or guard.from_phase is None or event.phase < guard.from_phase:
                continue
            if (seen := measure.observe_event(event, Fixed(guard.line))) is not None:
                tally.see(number, event.phase, arms[event.assigned or event.variant], event.unit, seen.bad)
    for one in said:
        if (event := about.get(one.request_id)) is None:  # type: ignore[assignment]
            continue
        for number, measure in enumerate(measures):
            if measure.name == "label_error" and event.phase >= guards[number].from_phase:
                right = msgspec.json.decode(event.output or "")["outputs"][0]["data"][0]
                tally.see(number, event.phase, arms[event.variant], event.unit or event.id, right != one.value)
    return tally


def counted(server: Server, rollout: str) -> Tally:
    """What the server has counted."""
    tally = Tally()
    with database(server).read() as c:
        for guard, counts in journal.told(c, rollout).counts.items():
            for one in counts:
                key = (guard, one.phase, one.arm)
                tally.units[key] += one.units
                tally.bad[key] += one.bad
                tally.requests[key] += one.requests
    return tally


def all_folded(server: Server, rollout: str) -> bool:
    """Whether the server has read all that was written, and counted all that was said."""
    with database(server).read() as c:
        offsets = {row.name: row.offset for row in c.execute(sa.select(spool_offsets))}
        of_rollout = feedback.c.rollout == rollout
        waits = c.execute(
            sa.select(feedback.c.id).where(feedback.c.event_ms.is_(None) | (of_rollout & ~feedback.c.counted)).limit(1)
        ).first()
    return waits is None and all(complete_end(file.path) == offsets.get(file.name, 0) for file in spool_files(server.home / "spool"))


def taken_once(shown: WatchedRollout) -> None:
    """Its steps in order, each once; its phases without gap."""
    moves = [one for one in shown.decisions if one.action in ("advanced", "promoted", "rolled_back")]
    assert [one.step for one in moves if one.action == "advanced"] == list(range(sum(one.action == "advanced" for one in moves)))
    assert sum(one.action in ("promoted", "rolled_back") for one in moves) <= 1
    assert sum(one.action == "started" for one in shown.decisions) == 1
    assert [one.number for one in shown.phases] == list(range(1, len(shown.phases) + 1))
    assert shown.phase == len(shown.phases)


def returning(n: int) -> str:
    """People who come back, some often; every tenth request names nobody."""
    return "" if n % 10 == 0 else f"person-{random.Random(n).randrange(200) ** 2 // 200}"


@pytest.mark.parametrize(
    ("web", "units", "labels"),
    [("1", returning, False), ("2", lambda n: f"unit-{n}", True)],
    ids=["people-who-come-back", "two-web-processes-and-labels"],
)
def test_counts_are_exactly_once_whatever_is_killed(
    deployed: Callable[..., tuple[Server, Client]], web: str, units: Callable[[int], str], labels: bool
) -> None:
    drawn = random.Random(web)
    server, client = deployed("--web", web)
    with Traffic(server, people=2) as before:
        before.more(120)  # for the line of the latencies
    guards = ["errors@3", "latency_p95!signal", *(["label_error"] if labels else [])]
    of = plan(*guards, shares=(2_000, 4_000, 6_000, 10_000))
    with Traffic(server, people=3, units=units, labels=labels, patient=True) as traffic:
        rollout = begin(client, "better", of)
        for kill in (kill_web, kill_supervisor, kill_web, kill_supervisor):
            traffic.more(drawn.randrange(20, 120))
            kill(server)
        wait_for(lambda: client.rollouts.get(rollout).state != "starting", what="the first step")
        traffic.more(150)
    wait_for(lambda: all_folded(server, rollout), what="everything counted")
    found, right = counted(server, rollout), recount(server, rollout)
    assert +found.units == +right.units
    assert +found.bad == +right.bad
    assert +found.requests == +right.requests
    assert found.units[-1, 1, "stable"] > 0
    taken_once(client.rollouts.get(rollout))


def test_a_rollout_comes_to_its_end_while_its_server_is_killed_again_and_again(deployed: Callable[..., tuple[Server, Client]]) -> None:
    drawn = random.Random(3)
    server, client = deployed()
    with Traffic(server, patient=True) as traffic:
        of = plan("errors@5", "label_error", shares=(3_000, 10_000))
        of["steps"][0]["min_units"] = 1_000
        rollout = begin(client, "wrong", of)
        for kill in (kill_supervisor, kill_web):
            traffic.more(drawn.randrange(10, 60))
            kill(server)
    wait_for(lambda: client.rollouts.get(rollout).state == "running", what="the first step")
    with Traffic(server, patient=True, labels=True, units=lambda n: f"more-{n}") as traffic:
        ended = client.rollouts.wait(rollout, timeout=120)
    assert (ended.state, ended.evidence[1].verdict) == ("rolled_back", "harm"), ended.why
    kill_supervisor(server)
    kill_web(server)
    taken_once(client.rollouts.get(rollout))
    with Traffic(server, units=lambda n: f"after-{n}") as traffic:
        traffic.more(30)
    assert not traffic.failed


@pytest.fixture
def jumpy(tmp_path: Path) -> Iterator[tuple[dict[str, str], Callable[[int], None]]]:
    """An environment in which the wall clock is off by some seconds, and a way to set by how many."""
    folder = tmp_path / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CLOCK)

    def jump(seconds: int) -> None:
        new = folder / "offset.new"
        new.write_text(str(seconds))
        new.rename(folder / "offset")

    jump(0)
    yield {"PYTHONPATH": str(folder)}, jump


def test_a_clock_that_jumps_advances_nothing(
    deployed: Callable[..., tuple[Server, Client]], jumpy: tuple[dict[str, str], Callable[[int], None]]
) -> None:
    """Days ahead and back again: a step of an hour is not over, and its time goes on being summed up."""
    environ, jump = jumpy
    server, client = deployed(environ=environ)
    of = plan("errors", shares=(5_000, 10_000))
    of["steps"][0]["min_seconds"] = 3_600

    def elapsed() -> int:
        return int(client.rollouts.get(rollout).elapsed_ms)

    with Traffic(server) as traffic:
        rollout = begin(client, "better", of)
        wait_for(lambda: elapsed() > 0, what="some time in the first step")
        for seconds in (2 * 86_400, -86_400, 0, 400 * 86_400):
            jump(seconds)
            before = elapsed()
            wait_for(lambda: elapsed() >= before + 2_000, what="two more seconds")  # noqa: B023 - called within the turn
            assert elapsed() < 600_000
            shown = client.rollouts.get(rollout)
            assert (shown.state, shown.step) == ("running", 0)
        traffic.more(20)
        jump(0)
        assert client.rollouts.promote(rollout).state == "promoted"
        jump(86_400)
        wait_for(lambda: elapsed() >= 2_000, what="two seconds of warmth")
        assert client.rollouts.get(rollout).state == "promoted"
    assert not traffic.failed
