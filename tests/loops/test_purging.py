"""When things go for good by themselves, and who does it, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.loops.loop import Loop
from drivetrain.loops.purging import Purging
from drivetrain.registry.service import Registry
from drivetrain.store.blobs import Blobs
from drivetrain.store.home import Home
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from drivetrain.tracking import tables as t
from drivetrain.tracking.deletion.purging import Purger
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.service import Tracking
from tests.conftest import wait_for

ME = Context("u1", "ann", "w1", "red")
OTHER = Context("u2", "bob", "w2", "blue")
LEASE = "purging"


class Parts:
    def __init__(self, database: Database, home: Home) -> None:
        blobs = Blobs(database, str(home.blobs), min_free=0, scratch=home.cache)
        registry = Registry(database, blobs)
        self.db = database
        self.tracking = Tracking.of(database, blobs)
        self.deletion = Deletion(database, registry.live_blobs, lambda _: self.loop.poke())
        self.leases = Leases(database, home.server_id)
        self.purger = Purger(database, blobs, lambda: registry.live_blobs() | self.tracking.artifacts.live_blobs())
        purging = Purging(self.deletion, self.purger)
        self.loop = Loop(LEASE, purging.step, interval=20.0, first=2.0, leases=self.leases, lease=60.0)

    def deleted_run(self, ctx: Context = ME) -> str:
        run_id = self.tracking.runs.create(ctx, "0").id
        self.tracking.runs.delete(ctx, run_id)
        return run_id

    def there(self, run_id: str) -> bool:
        with self.db.read() as c:
            return c.scalar(sa.select(t.runs.c.id).where(t.runs.c.id == run_id)) is not None


@pytest.fixture
def parts(database: Database, home: Home) -> Iterator[Parts]:
    made = Parts(database, home)
    yield made
    made.loop.stop()


@pytest.fixture
def running(parts: Parts) -> Iterator[Parts]:
    thread = threading.Thread(target=parts.loop.run)
    thread.start()
    yield parts
    parts.loop.stop()
    thread.join()


def test_what_somebody_let_go_is_gone_soon(running: Parts) -> None:
    run_id, kept = running.deleted_run(), running.deleted_run()
    running.deletion.collect(ME, older_than_ms=0, runs=[run_id])
    wait_for(lambda: not running.there(run_id), what="the end of the run")
    with pytest.raises(NotFound):
        running.tracking.runs.get(ME, run_id)
    assert running.there(kept)


def test_a_policy_works_for_its_own_workspace(running: Parts) -> None:
    mine, others = running.deleted_run(), running.deleted_run(OTHER)
    running.deletion.set_policy(OTHER, grace_ms=0)
    running.deletion.set_policy(ME, grace_ms=0, automatic=True)
    wait_for(lambda: not running.there(mine), what="the end of the run")
    assert running.there(others)


def test_one_server_at_a_time_deletes(parts: Parts) -> None:
    elsewhere = Leases(parts.db, "another")
    assert elsewhere.acquire(LEASE, 3600)
    run_id = parts.deleted_run()
    thread = threading.Thread(target=parts.loop.run)
    thread.start()
    try:
        parts.deletion.collect(ME, older_than_ms=0)
        parts.loop.poke()
        wait_for(lambda: not parts.leases.held(LEASE), what="its refusal")
        assert parts.there(run_id)
        elsewhere.release(LEASE)
        parts.loop.poke()
        wait_for(lambda: not parts.there(run_id), what="the end of the run")
    finally:
        parts.loop.stop()
        thread.join()
    assert elsewhere.acquire(LEASE, 1)  # it gave the lease up when it ended


def test_a_step_that_fails_ends_nothing(running: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()
    step = running.purger.step

    def fail() -> bool:
        tried.set()
        raise OSError("the disk is away")

    monkeypatch.setattr(running.purger, "step", fail)
    run_id = running.deleted_run()
    running.deletion.collect(ME, older_than_ms=0)
    assert tried.wait(30)
    assert running.there(run_id)
    monkeypatch.setattr(running.purger, "step", step)
    running.loop.poke()
    wait_for(lambda: not running.there(run_id), what="the end of the run")
