"""What is forgotten, and what is not, on both databases."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.jobs.kinds import KINDS
from drivetrain.jobs.service import Jobs
from drivetrain.loops.loop import Loop
from drivetrain.loops.retention import MOST_LOGS, BlobSweeper, Leftovers
from drivetrain.registry.service import Registry
from drivetrain.serving.service import Serving
from drivetrain.store.blobs import Blobs, blobs_table
from drivetrain.store.home import Home
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database
from tests.serving.test_service import gguf

ME = Context(user_id="u1", user_name="ann", workspace_id="w1", workspace="default")
DAYS = 24 * 3600


class Parts:
    def __init__(self, database: Database, home: Home) -> None:
        self.home = home
        self.database = database
        self.blobs = Blobs(database, str(home.blobs), min_free=0, scratch=home.cache)
        self.registry = Registry(database, self.blobs)
        self.serving = Serving(database, self.registry, Settings(), lambda _: None)
        self.jobs = Jobs(database, KINDS, lambda _: None)
        self.leases = Leases(database, home.server_id)
        self.loop = Loop("leftovers", Leftovers(self.serving, self.jobs, home).step, interval=3600.0)
        sweeper = BlobSweeper(self.blobs, self.registry.live_blobs)
        self.sweeping = Loop("sweeping", sweeper.step, interval=3600.0, leases=self.leases, lease=3600.0)


@pytest.fixture
def parts(database: Database, home: Home) -> Parts:
    return Parts(database, home)


def old(path: Path, days: float = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".log":
        path.write_text("x")
    else:
        path.mkdir()
    os.utime(path, (time.time() - days * DAYS,) * 2)
    return path


def deployed(parts: Parts, name: str, data: bytes) -> str:
    """A deployment, and the commit that it serves."""
    parts.registry.ensure_repo(ME, name)
    commit = parts.registry.commit(ME, name, {"model.gguf": parts.blobs.put([data]).sha256}, message="import")
    parts.registry.register(ME, name, commit.id)
    parts.serving.deploy(ME, name, name)
    return commit.id


def test_models_that_nothing_serves_are_forgotten(parts: Parts) -> None:
    served, deleted = deployed(parts, "served", gguf(64)), deployed(parts, "deleted", gguf(128))
    parts.serving.delete(ME, "deleted")
    models = parts.home.cache / "models"
    kept = [old(models / served), models / "fresh"]
    kept[1].mkdir()
    gone = [old(models / deleted), old(models / f"{deleted}.1234.partial")]
    parts.loop.step()
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    assert {path.name for path in models.iterdir()} == {path.name for path in kept}


def test_folders_of_ended_jobs_are_forgotten(parts: Parts) -> None:
    ended, waiting = parts.jobs.submit(ME, "pull", {"source": "pypi:x"}), parts.jobs.submit(ME, "pull", {"source": "pypi:x"})
    assert parts.jobs.claim("s") is not None
    parts.jobs.failed(ended.id, "no")
    folders = {job.id: old(parts.home.path / "jobs" / job.id) for job in (ended, waiting)}
    parts.loop.step()
    assert not folders[ended.id].exists()
    assert folders[waiting.id].exists()


def test_logs_of_children_do_not_fill_the_disk(parts: Parts) -> None:
    logs = parts.home.logs
    ancient = old(logs / "replica-ancient.log")
    supervisor = old(logs / "supervisor.log")
    many = [old(logs / f"job-{n:04d}.log", days=n / 1000) for n in range(MOST_LOGS + 20)]
    parts.loop.step()
    assert not ancient.exists()
    assert supervisor.exists()
    assert [path.exists() for path in many] == [True] * MOST_LOGS + [False] * 20


def test_one_server_sweeps_blobs(parts: Parts) -> None:
    deployed(parts, "kept", gguf())
    named = parts.registry.live_blobs()
    stray = parts.blobs.put([b"nothing names me"]).sha256
    with parts.database.write() as c:
        c.execute(sa.update(blobs_table).values(seen_ms=0))
    elsewhere = Leases(parts.database, "another")
    assert elsewhere.acquire("sweeping", 3600)
    parts.sweeping.step()
    assert parts.blobs.stat(stray).sha256 == stray
    elsewhere.release("sweeping")
    parts.sweeping.step()
    with pytest.raises(NotFound):
        parts.blobs.stat(stray)
    assert parts.blobs.known(named) == named
