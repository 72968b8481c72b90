"""Handlers of jobs as tests need them; they run in the job's own process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from drivetrain.errors import NotFound
from drivetrain.jobs import ledger, stages
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.model import Done, StageDone
from drivetrain.store.sql import Database


class Addition(Struct):
    a: int
    b: int


class Nothing(Struct):
    pass


class Staged(Struct):
    """`url`: of the database with the ledger."""

    url: str
    work: str


class TableLedger:
    """A ledger on a database, without a server between."""

    def __init__(self, database: Database, work: str, order: Sequence[str]) -> None:
        self._database = database
        self._work = work
        self._order = order

    @property
    def done(self) -> Mapping[str, StageDone]:
        with self._database.read() as c:
            return {one.stage: one for one in ledger.done(c, [self._work], self._order)[self._work]}

    @property
    def ended(self) -> bool:
        return False

    def tell(self, stage: str, done: Done) -> None:
        with self._database.write() as c:
            ledger.advance(c, self._work, self._order, stage, done)


def add(job: Handle[Addition]) -> dict[str, Any]:
    job.log("adding")
    return {"sum": job.spec.a + job.spec.b, "pid": os.getpid()}


def refuse(job: Handle[Nothing]) -> dict[str, Any]:
    raise NotFound("There is no such package.")


def crash(job: Handle[Nothing]) -> dict[str, Any]:
    raise RuntimeError("a bug in the handler")


def resume(job: Handle[Nothing]) -> dict[str, Any]:
    """Counts in a file; is killed at the third step of the first attempt."""
    steps = job.folder / "steps"
    done = len(steps.read_text().split()) if steps.exists() else 0
    for step in range(done, 6):
        with steps.open("a") as file:
            file.write(f"{step}\n")
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return {"steps": steps.read_text().split()}


def die(job: Handle[Nothing]) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def sleep(job: Handle[Nothing]) -> dict[str, Any]:
    (job.folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def lie_down(job: Handle[Nothing]) -> dict[str, Any]:
    """As `sleep`, but it takes two places."""
    return sleep(job)


def staged(job: Handle[Staged]) -> dict[str, Any]:
    """Three stages. The first attempt is killed after the second has had its effect, the second attempt after the third was told."""
    effects, attempts = job.folder / "effects", job.folder / "attempts"
    with attempts.open("a") as file:
        file.write("x")
    attempt = len(attempts.read_text())
    order = ("one", "two", "three")

    def act(stage: str) -> Callable[[], Done]:
        def act() -> Done:
            before = effects.read_text().split() if effects.exists() else []
            if stage not in before:
                effects.write_text(" ".join([*before, stage]))
            if (attempt, stage) == (1, "two"):
                os.kill(os.getpid(), signal.SIGKILL)
            return Done(words=f"{stage}, in attempt {attempt}")

        return act

    database = Database(job.spec.url)
    table = TableLedger(database, job.spec.work, order)
    quiet = Handle(job.spec, job.folder, job.client, lambda *_: None)  # there is no server to hear of progress
    stages.run(quiet, table, {stage: act(stage) for stage in order})
    if attempt == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    found = [one.words for one in table.done.values()]
    database.close()
    return {"words": found, "effects": effects.read_text().split()}
