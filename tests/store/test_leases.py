"""Leases: never two holders, whatever the clocks of machines do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.store.ids import uuid7
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from tests.conftest import new_sqlite


class Clock:
    def __init__(self, now: float = 0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_take_renew_release_and_take_over(database: Database) -> None:
    clock_a, clock_b = Clock(1000), Clock(5)
    a, b = Leases(database, "a", clock=clock_a), Leases(database, "b", clock=clock_b)
    assert a.acquire("loop", 10)
    assert a.acquire("loop", 10)
    assert not b.acquire("loop", 10)
    assert b.acquire("another", 10)
    assert a.held("loop")
    assert not b.held("loop")
    a.release("loop")
    assert not a.held("loop")
    assert b.acquire("loop", 10)
    a.release("loop")  # not ours: stays
    assert b.held("loop")
    assert not a.acquire("loop", 10)
    clock_b.now += 11  # b sleeps, and knows that it has lost it
    assert not b.held("loop")
    clock_a.now += 9.9
    assert not a.acquire("loop", 10)
    clock_a.now += 0.2
    assert a.acquire("loop", 10)
    assert not b.acquire("loop", 10)


def test_each_renewal_starts_the_wait_anew(database: Database) -> None:
    clock = Clock()
    a, b = Leases(database, "a", clock=Clock()), Leases(database, "b", clock=clock)
    assert a.acquire("loop", 10)
    for _ in range(5):
        assert not b.acquire("loop", 10)
        clock.now += 8
        assert a.acquire("loop", 10)
    assert not b.acquire("loop", 10)


def test_what_is_kept_is_renewed_every_third_of_its_time(database: Database) -> None:
    clock, others = Clock(), Clock()
    a, b = Leases(database, "a", clock=clock), Leases(database, "b", clock=others)
    for _ in range(12):
        assert a.keep("loop", 10)
        assert not b.keep("loop", 10)
        clock.now += 2.5
        others.now += 2.5
    others.now += 10  # nothing new was seen for the whole time
    assert b.keep("loop", 10)
    clock.now += 10
    assert not a.keep("loop", 10)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = new_sqlite(tmp_path_factory.mktemp("leases") / "test.db")
    yield database
    database.close()


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["acquire", "keep", "release", "restart"]), st.floats(0, 4)), max_size=25),
    offsets=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6)),
)
def test_never_two_holders(shared: Database, steps: list[tuple[int, str, float]], offsets: tuple[float, float, float]) -> None:
    name = uuid7()
    clocks = [Clock(offset) for offset in offsets]
    parties = [Leases(shared, str(i), clock=clock) for i, clock in enumerate(clocks)]
    for who, what, pause in steps:
        if what == "acquire":
            parties[who].acquire(name, 5)
        elif what == "keep":
            assert parties[who].keep(name, 5) == parties[who].held(name)
        elif what == "release":
            parties[who].release(name)
        else:  # a restarted process has another name and has seen nothing
            parties[who] = Leases(shared, f"{who} at {clocks[who].now}", clock=clocks[who])
        for clock in clocks:
            clock.now += pause
        assert sum(party.held(name) for party in parties) <= 1


def test_a_race_has_one_winner(database: Database) -> None:
    parties = [Leases(database, str(i)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda party: party.acquire("loop", 60), parties)) == 1
