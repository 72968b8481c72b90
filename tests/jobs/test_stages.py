"""Work in stages: killed anywhere and started again, what each stage does is there once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.client import Client
from drivetrain.errors import Conflict
from drivetrain.jobs import ledger, stages
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.model import Done, StageDone
from drivetrain.store.ids import uuid7
from drivetrain.store.sql import Database
from tests.conftest import new_sqlite
from tests.loops.handlers import Nothing, TableLedger

ORDER = ("fetch", "train", "export", "evaluate")


class Killed(BaseException):
    """As `kill -9`, but the test goes on."""


class World:
    """Where effects are: what a stage makes has a name, by which it is found."""

    def __init__(self, moments: int | None) -> None:
        self.made: list[str] = []
        self._left = moments

    def moment(self) -> None:
        """One of the moments at which the process may be killed."""
        if self._left is not None:
            if self._left == 0:
                raise Killed
            self._left -= 1

    def act(self, stage: str) -> Callable[[], Done]:
        def act() -> Done:
            self.moment()
            if stage not in self.made:
                self.made.append(stage)
            self.moment()
            return Done(words=f"{stage} is made", facts={"number": self.made.index(stage)})

        return act


class Telling(TableLedger):
    """Can be killed before and after a line is written."""

    def __init__(self, database: Database, work: str, world: World) -> None:
        super().__init__(database, work, ORDER)
        self._world = world

    def tell(self, stage: str, done: Done) -> None:
        self._world.moment()
        super().tell(stage, done)
        self._world.moment()


def handle(folder: Path, told: list[tuple[float, float, str]] | None = None) -> Handle[Nothing]:
    client = Client("http://127.0.0.1:1", "")
    return Handle(Nothing(), folder, client, lambda *what: told.append(what) if told is not None else None)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = new_sqlite(tmp_path_factory.mktemp("stages") / "test.db")
    yield database
    database.close()


@settings(max_examples=60, deadline=None)
@given(lives=st.lists(st.integers(0, 18), max_size=6))
def test_what_each_stage_does_is_there_once(shared: Database, tmp_path_factory: pytest.TempPathFactory, lives: list[int]) -> None:
    """Law. `lives`: after how many moments each attempt is killed; the last one may live as long as it wants."""
    work, made = uuid7(), list[str]()
    for moments in [*lives, None]:
        world = World(moments)
        world.made = made
        told = Telling(shared, work, world)
        before = dict(told.done)
        with contextlib.suppress(Killed):
            stages.run(handle(Path()), told, {stage: world.act(stage) for stage in ORDER})
        assert before.items() <= told.done.items(), "what was written down stays as it was"
        assert list(told.done) == list(ORDER)[: len(told.done)] and len(made) - len(told.done) in (0, 1)
    assert made == list(ORDER) and {stage: one.facts["number"] for stage, one in told.done.items()} == {s: n for n, s in enumerate(ORDER)}


def test_nothing_is_done_once_the_work_has_ended(database: Database) -> None:
    world = World(None)

    class Refusing(TableLedger):
        @property
        def ended(self) -> bool:
            return "train" in self.done

    told: list[tuple[float, float, str]] = []
    refusing = Refusing(database, uuid7(), ORDER)
    stages.run(handle(Path(), told), refusing, {stage: world.act(stage) for stage in ORDER})
    assert world.made == ["fetch", "train"]
    assert told[0] == (0, 4, "fetch")


def test_a_stage_that_is_not_over_holds_up_those_after_it(database: Database) -> None:
    world, told = World(None), TableLedger(database, uuid7(), ORDER)
    acts: Mapping[str, stages.Act] = {"fetch": world.act("fetch"), "train": lambda: None, "export": world.act("export")}
    stages.run(handle(Path()), told, acts)
    assert world.made == ["fetch"] and list(told.done) == ["fetch"]


def test_the_ledger_takes_each_stage_once_and_in_order(database: Database) -> None:
    work, other = uuid7(), uuid7()
    with database.write() as c:
        with pytest.raises(Conflict, match="train is not the next stage: that is fetch"):
            ledger.advance(c, work, ORDER, "train", Done(words=""))
        assert ledger.advance(c, work, ORDER, "fetch", Done(words="first", facts={"rows": 1}, undo="delete it"))
        assert not ledger.advance(c, work, ORDER, "fetch", Done(words="again", facts={"rows": 9}))
        ledger.write(c, work, "fetch", Done(words="once more"))
        assert ledger.advance(c, work, ORDER, "train", Done(words="trained"))
    with database.read() as c:
        done = ledger.done(c, [work, other], ORDER)
    assert done[other] == ()
    assert done[work] == (
        StageDone(stage="fetch", at_ms=done[work][0].at_ms, words="first", facts={"rows": 1}, undo="delete it"),
        StageDone(stage="train", at_ms=done[work][1].at_ms, words="trained"),
    )
