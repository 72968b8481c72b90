"""A full disk: clear errors, nothing broken, and all is well again when there is space."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.errors import StorageFull
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.lookup import EventFolder, Events
from drivetrain.store.events.model import Event
from drivetrain.store.events.spool import Spool
from drivetrain.store.files import FULL
from drivetrain.store.home import Home
from drivetrain.store.ids import uuid7
from drivetrain.store.leases import leases_table
from drivetrain.store.migrate import migrate
from drivetrain.store.sql import Database

MiB = 1 << 20

notes = sa.Table("notes", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 MiB of our own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the space that is left."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (MiB, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno in FULL
    return ballast


def event(text: str = "") -> Event:
    return Event(id=uuid7(), t=time.time_ns(), workspace="w", deployment="d", output=text)


def test_everything_on_a_full_disk(small_disk: Path) -> None:
    home = Home.open(small_disk / "home")
    db = Database(home.database_url)
    migrate(db)
    with db.write() as connection:
        notes.create(connection)
    blobs = Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)
    folder = EventFolder(db, blobs, home, Settings(home=home.path))
    spool = Spool(home.spool / uuid7())
    before = blobs.put([b"before"])
    first = event()
    spool.append(first)

    with pytest.raises(StorageFull, match="Free some space"):
        blobs.put(bytes(MiB) for _ in range(64))
    assert [path.name for path in home.blobs.rglob("*") if path.is_file()] == [before.sha256]
    assert blobs.put([b"still room"]).size == 10

    ballast = fill(small_disk)
    with pytest.raises(StorageFull):
        blobs.put([os.urandom(MiB)])
    with pytest.raises(StorageFull), db.write() as connection:
        connection.execute(sa.insert(notes), [{"text": "x" * 100_000} for _ in range(100)])
    lost = 0
    while spool.lost < 5:  # the last page of the file may have room
        spool.append(event("y" * 1000))
        lost += 1
        assert lost < 100
    assert "Free some space" in spool.problem
    with pytest.raises(StorageFull):
        Home.open(small_disk / "another")
    assert b"".join(blobs.read(before.sha256)) == b"before"
    with db.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(notes)).scalar_one() == 0

    ballast.unlink()
    Home.open(small_disk / "another")
    with db.write() as connection:
        connection.execute(sa.insert(notes), [{"text": "x" * 1000}])
        connection.execute(sa.insert(leases_table).values(name="n", owner="o", token="t", seconds=1))
    after = blobs.put([b"after"])
    last = event()
    spool.append(last)
    assert spool.problem == ""
    assert folder.fold() == 2 + lost - spool.lost
    events = Events(db, blobs, home)
    assert events.find(first.id) == first
    assert events.find(last.id) == last
    assert blobs.read_bytes(after.sha256) == b"after"
    spool.close()
    assert folder.compact(force=True) == 1
    assert events.find(last.id) == last
    with db.read() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    db.close()
    shutil.rmtree(home.runtime)


LIMITED = """
import os, resource, sys, time
from pathlib import Path
from drivetrain.errors import StorageFull
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.model import Event
from drivetrain.store.ids import uuid7
from drivetrain.store.home import Home
from drivetrain.store.migrate import migrate
from drivetrain.store.events.spool import Spool
from drivetrain.store.sql import Database

home = Home.open(Path(sys.argv[1]))
db = Database(home.database_url)
migrate(db)
blobs = Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)
spool = Spool(home.spool / uuid7())
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
try:
    blobs.put(bytes(1 << 16) for _ in range(64))
except StorageFull as error:
    print("refused")
for _ in range(400):
    spool.append(Event(id=uuid7(), t=time.time_ns(), output="x" * 4000))
assert spool.lost > 100 and spool.problem
lost = spool.lost
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
blobs.put(bytes(1 << 16) for _ in range(64))
spool.append(Event(id=uuid7(), t=time.time_ns()))
assert spool.lost == lost and not spool.problem
spool.close()
print(401 - lost)
"""


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """What a full disk does in the middle of a line, for everybody who may not mount."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path / "home")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    refused, written = done.stdout.split()
    assert refused == "refused"
    home = Home.open(tmp_path / "home")
    db = Database(home.database_url)
    blobs = Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)
    assert EventFolder(db, blobs, home, Settings(home=home.path)).fold() == int(written)
    assert len(list(home.blobs.glob("sha256/*/*"))) == 1
    db.close()
