"""What all loops share: pokes, waits, leases, and steps that fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.loops.loop import Loop
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database

NEVER = 3600.0
PATIENCE = 30.0
"""How long a test waits for what comes at once."""


@contextmanager
def running(loop: Loop) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        loop.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


class Steps:
    """A step that tells of itself, and does what it is told to."""

    def __init__(self, *acts: Callable[[Loop], object]) -> None:
        self.begun: Queue[bool] = Queue()
        self._acts = list(acts)

    def step(self, loop: Loop) -> None:
        self.begun.put(loop.news)
        if self._acts:
            self._acts.pop(0)(loop)

    def next(self) -> bool:
        """Waits for the next step; whether it was asked for."""
        return self.begun.get(timeout=PATIENCE)


def test_steps_are_taken_again_and_again() -> None:
    steps = Steps()
    with running(Loop("one", steps.step, interval=0.001)):
        assert [steps.next() for _ in range(5)] == [False] * 5


def test_a_step_may_say_when_the_next_one_is_to_be() -> None:
    begun: Queue[None] = Queue()

    def step(loop: Loop) -> float:
        begun.put(None)
        return 0.001

    with running(Loop("one", step, interval=NEVER, first=0.0)):
        for _ in range(3):
            begun.get(timeout=PATIENCE)


def test_a_poke_ends_the_wait() -> None:
    steps = Steps()
    loop = Loop("one", steps.step, interval=NEVER)
    with running(loop):
        loop.poke()
        assert steps.next() is True
        loop.wake()
        assert steps.next() is False


def test_a_poke_during_a_step_is_not_lost() -> None:
    steps = Steps(lambda loop: loop.poke())
    with running(Loop("one", steps.step, interval=NEVER, first=0.0)):
        assert [steps.next(), steps.next()] == [False, True]


def test_pokes_that_come_together_are_one() -> None:
    steps = Steps()
    loop = Loop("one", steps.step, interval=NEVER, gather=0.001)
    for _ in range(5):
        loop.poke()
    with running(loop):
        assert steps.next() is True
        loop.wake()
        assert steps.next() is False  # that was the wake: no poke is left


def test_the_end_comes_at_once_and_leaves_nothing_undone() -> None:
    ended = threading.Event()
    steps = Steps()
    loop = Loop("one", steps.step, interval=NEVER, gather=NEVER, end=ended.set)
    with running(loop) as thread:
        loop.poke()  # it gathers now
        loop.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert ended.is_set()
    assert steps.begun.empty()


def test_a_step_that_fails_is_told_once_and_the_next_one_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    def fail(loop: Loop) -> None:
        raise OSError("the disk is away")

    steps = Steps(fail)
    with caplog.at_level(logging.ERROR), running(Loop("one", steps.step, interval=0.001, first=0.0)):
        assert [steps.next() for _ in range(3)] == [False] * 3
    (record,) = caplog.records
    assert record.getMessage() == "the one loop failed at a step; it goes on"
    assert record.exc_info is not None and "the disk is away" in str(record.exc_info[1])


def test_an_end_that_fails_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("the disk is away")

    with caplog.at_level(logging.ERROR), running(Loop("one", Steps().step, interval=NEVER, end=fail)):
        pass
    assert [record.getMessage() for record in caplog.records] == ["the one loop failed at its end; the next start makes up for it"]


def test_one_server_at_a_time_acts(database: Database) -> None:
    mine: list[bool] = []
    other = Leases(database, "other")
    assert other.acquire("one", NEVER)
    steps = Steps(*[lambda loop: mine.append(loop.mine())] * 3)
    loop = Loop("one", steps.step, interval=NEVER, leases=Leases(database, "this"), lease=NEVER)
    loop.step()
    other.release("one")
    loop.step()
    loop.step()
    assert mine == [False, True, True]
    assert not other.acquire("one", NEVER)


def test_the_lease_is_left_to_the_next_at_the_end(database: Database) -> None:
    steps = Steps(lambda loop: loop.mine())
    other = Leases(database, "other")
    with running(Loop("one", steps.step, interval=NEVER, first=0.0, leases=Leases(database, "this"), lease=NEVER)):
        steps.next()
    assert other.acquire("one", NEVER)


def test_a_long_step_hears_that_it_is_to_end() -> None:
    stopped = threading.Event()
    mine: list[bool] = []

    def long(loop: Loop) -> None:
        mine.append(loop.mine())
        assert stopped.wait(PATIENCE)
        mine.append(loop.mine())

    steps = Steps(long)
    loop = Loop("one", steps.step, interval=NEVER, first=0.0)
    with running(loop):
        steps.next()
        loop.stop()
        stopped.set()
    assert mine == [True, False]


@given(st.lists(st.tuples(st.sampled_from(["poke", "wake", "nothing"]), st.sampled_from(["poke", "wake", "nothing"])), max_size=20))
def test_a_step_knows_of_every_poke_since_the_one_before_began(script: list[tuple[str, str]]) -> None:
    """Law: a step is told of news exactly if somebody poked since the step before began. `script`: what happens before and during each."""
    told: list[bool] = []
    during = iter([during for _, during in script])

    def act(what: str) -> None:
        if what == "poke":
            loop.poke()
        elif what == "wake":
            loop.wake()

    def step(_: Loop) -> None:
        told.append(loop.news)
        act(next(during))

    loop = Loop("one", step, interval=NEVER)
    for before, _ in script:
        act(before)
        loop.step()
    earlier = ["nothing", *[during for _, during in script]]
    assert told == ["poke" in (before, early) for (before, _), early in zip(script, earlier, strict=False)]
