"""Errors and latency by minutes: seldom wrong, quick in an outage, well again by evidence, and cheap to ask."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from drivetrain.monitoring import checks, shares
from drivetrain.monitoring.kinds import Errors, Finding, Latency
from drivetrain.monitoring.shares import MINUTE_MS, Memory, Minute, Seen
from drivetrain.store.blobs import Blobs
from drivetrain.store.events import counters
from drivetrain.store.events.lookup import Events
from drivetrain.store.home import Home
from drivetrain.store.sql import Database

YEAR = 365.0 * 1440
START = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS


class Watch:
    """A monitor of shares that is asked at the end of each minute, as time goes by."""

    def __init__(self, share: float = 0.05, needed: float = YEAR) -> None:
        self.memory = Memory()
        self.needed = needed
        self.minutes: list[Minute] = []
        shares.against(self.memory, share)

    def look(self, now_ms: int) -> Seen:
        since = shares.begin(self.memory, now_ms)
        return shares.take(self.memory, [one for one in self.minutes if one.at_ms >= since], now_ms=now_ms, needed=self.needed)

    def minute(self, count: int, bad: int) -> bool:
        """One more minute; whether it is an alarm."""
        at = START + len(self.minutes) * MINUTE_MS
        self.minutes.append(Minute(at, count, bad))
        self.look(at + MINUTE_MS - 1)
        return self.memory.alarm is not None


def until(watch: Watch, counted: Callable[[], tuple[int, int]], alarm: bool, most: int = 2000) -> int:
    """After how many minutes there is an alarm, or none any more."""
    for minute in range(1, most + 1):
        if watch.minute(*counted()) is alarm:
            return minute
    return most + 1


def test_an_outage_alarms_within_its_first_minute_with_enough_requests() -> None:
    for count in (7, 50, 5000):
        watch = Watch()
        for _ in range(60):
            assert not watch.minute(100, 1)
        assert watch.minute(count, count)


def test_within_a_minute_it_is_seen_as_soon_as_the_evidence_is_there() -> None:
    """Looked at every five seconds, at ten requests a second that all fail."""
    watch = Watch()
    for _ in range(10):
        watch.minute(600, 6)
    at = START + 10 * MINUTE_MS
    for second in range(5, 61, 5):
        watch.minutes = [*watch.minutes[:10], Minute(at, 10 * second, 10 * second)]
        watch.look(at + second * 1000)
        if watch.memory.alarm is not None:
            break
    assert second == 5
    # The rest of the minute was not looked at again, and the alarm lasts.
    watch.minutes = [*watch.minutes[:10], Minute(at, 600, 100)]
    watch.look(at + 59_000)
    assert watch.memory.alarm is not None and watch.memory.alarm.count == 50


def test_a_slow_excess_is_seen_later() -> None:
    rng = np.random.default_rng(2)
    took = []
    for _ in range(20):
        watch = Watch()
        assert until(watch, lambda: (100, rng.binomial(100, 0.03)), True, most=60) == 61
        took.append(until(watch, lambda: (100, rng.binomial(100, 0.08)), True))
    assert 3 <= float(np.median(took)) <= 40


@pytest.mark.slow
def test_at_the_line_it_alarms_as_seldom_as_is_said() -> None:
    """100 days at exactly the line, where one false alarm in 20 days is allowed."""
    rng = np.random.default_rng(3)
    watch, alarms = Watch(needed=20 * 1440.0), 0
    for bad in rng.binomial(20, 0.05, 100 * 1440):
        watch.minutes = watch.minutes[-6:]
        at = watch.minutes[-1].at_ms + MINUTE_MS if watch.minutes else START
        watch.minutes.append(Minute(at, 20, int(bad)))
        watch.look(at + MINUTE_MS - 1)
        if watch.memory.alarm is not None:
            alarms += 1
            watch.memory.alarm, watch.memory.bets = None, []
    assert alarms <= 5


def test_it_is_well_again_by_evidence_within_minutes() -> None:
    rng = np.random.default_rng(4)
    took = []
    for _ in range(20):
        watch = Watch()
        assert until(watch, lambda: (100, 60), True) == 1
        for _ in range(30):
            assert watch.minute(100, rng.binomial(100, 0.2))
        took.append(until(watch, lambda: (100, rng.binomial(100, 0.005)), False))
    assert float(np.median(took)) <= 3
    # No requests are no health.
    assert until(watch, lambda: (100, 100), True) == 1
    for _ in range(200):
        assert watch.minute(0, 0)


def test_counts_that_come_late_are_seen_and_nothing_is_counted_twice() -> None:
    once, often = Watch(), Watch()
    for n in range(30):
        at = START + n * MINUTE_MS
        for part in (10, 50, 100):
            often.minutes = [one for one in often.minutes if one.at_ms != at] + [Minute(at, part, part // 10)]
            often.look(at + 1000 * part // 2)
        # A server that was behind adds to the minute before.
        if n:
            late = at - MINUTE_MS
            often.minutes = [one for one in often.minutes if one.at_ms != late] + [Minute(late, 120, 12)]
            often.look(at + 59_000)
    for n in range(30):
        once.minutes.append(Minute(START + n * MINUTE_MS, 120 if n < 29 else 100, 12 if n < 29 else 10))
    now = START + 30 * MINUTE_MS - 1000
    assert once.look(now).evidence == pytest.approx(often.look(now).evidence)


def test_a_gap_in_which_nobody_looked_is_left_out() -> None:
    watch = Watch()
    for _ in range(5):
        watch.minute(100, 1)
    gap = START + 100 * MINUTE_MS
    watch.minutes += [Minute(START + n * MINUTE_MS, 10, 10) for n in range(5, 30)] + [Minute(gap, 100, 1)]
    watch.look(gap + 30_000)
    assert watch.memory.alarm is None


def test_another_question_begins_anew() -> None:
    watch = Watch()
    assert watch.minute(100, 100)
    shares.against(watch.memory, 0.2)
    assert msgspec.structs.asdict(watch.memory) | {"at_ms": 0} == msgspec.structs.asdict(Memory(share=0.2))
    watch.minute(100, 100)
    assert msgspec.json.decode(msgspec.json.encode(watch.memory), type=Memory) == watch.memory


class Served:
    """Events on a real database, whose counters are written by hand."""

    def __init__(self, db: Database, home: Home) -> None:
        self.db = db
        self.events = Events(db, Blobs(db, str(home.path / "blobs"), min_free=0, scratch=home.path / "scratch"), home)
        self.memory = Memory()

    def count(self, at_ms: int, **measures: int) -> None:
        minute = at_ms // MINUTE_MS * MINUTE_MS
        with self.db.write() as c:
            counters.add(c, {("d1", "v1", minute, name.replace("__", ".")): value for name, value in measures.items()})

    def latencies(self, at_ms: int, ms: float, number: int) -> None:
        self.count(at_ms, requests=number, **{f"latency__{counters.bucket(ms)}": number})

    def errors(self, now_ms: int, **changes: float) -> Finding:
        return checks.errors(self.events, "d1", Errors(**changes), self.memory, now_ms)

    def latency(self, now_ms: int, **changes: float) -> Finding:
        return checks.latency(self.events, "d1", Latency(**changes), self.memory, now_ms)  # type: ignore[arg-type]


@pytest.fixture
def served(database: Database, home: Home) -> Served:
    return Served(database, home)


def test_errors_are_told_with_what_is_known(served: Served) -> None:
    assert served.errors(START).state == "waiting" and "No requests" in served.errors(START).words
    for n in range(10):
        served.count(START + n * MINUTE_MS, requests=200, errors__upstream=2, errors__timeout=1, latency__3=197)
    said = served.errors(START + 10 * MINUTE_MS)
    assert said.state == "ok" and "1.5% of" in said.words and "the line is 5.0%" in said.words
    assert "of 525,600" in said.words and "once in 365 days" in said.words
    at = START + 10 * MINUTE_MS
    served.count(at, requests=40, errors__upstream=40)
    said = served.errors(at + 5000)
    assert said.state == "alarm" and "100.0% of 40 requests were errors" in said.words and "2023-11-14 22:23 UTC" in said.words
    assert said.evidence["since_ms"] == at and said.evidence["share"] == 1.0
    for n in range(1, 4):
        served.count(at + n * MINUTE_MS, requests=200, errors__upstream=1)
        said = served.errors(at + (n + 1) * MINUTE_MS - 1000)
    assert said.state == "ok"


def test_latency_is_compared_with_the_day_before(served: Served) -> None:
    now = START + 1440 * MINUTE_MS
    assert served.latency(now).state == "waiting" and "no day before" in served.latency(now).words
    for n in range(0, 1440, 10):
        served.latencies(START + n * MINUTE_MS, 100.0, 20)
    said = served.latency(now)
    line = served.memory.line_ms
    assert said.state in ("ok", "waiting") and line is not None and 150 < line < 250
    served.latencies(now, 600.0, 30)
    said = served.latency(now + 20_000)
    assert said.state == "alarm" and "2 times the 95th percentile of the day before" in said.words and "5% may" in said.words
    # What is slow does not become the line, however long it lasts.
    for n in range(1, 200):
        served.latencies(now + n * MINUTE_MS, 600.0, 50)
    assert served.latency(now + 200 * MINUTE_MS).state == "alarm" and served.memory.line_ms == line
    for n in range(200, 206):
        served.latencies(now + n * MINUTE_MS, 90.0, 50)
        said = served.latency(now + (n + 1) * MINUTE_MS)
    assert said.state == "ok"


def test_latency_has_a_line_of_ones_own(served: Served) -> None:
    served.latencies(START, 250.0, 100)
    assert served.latency(START + 30_000, p95_ms=300.0).state == "ok"
    assert served.latency(START + 30_000, p95_ms=100.0).state == "alarm"
