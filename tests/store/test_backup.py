"""Backup and restore: a home comes back whole, and nothing else comes out of an archive."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.errors import Invalid
from drivetrain.store.backups.archive import Manifest
from drivetrain.store.backups.backup import backup, backup_database, restore
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.lookup import EventFolder, Events
from drivetrain.store.events.model import Event
from drivetrain.store.events.spool import Spool
from drivetrain.store.home import Home
from drivetrain.store.ids import uuid7
from drivetrain.store.leases import leases_table
from drivetrain.store.migrate import HEAD, migrate
from drivetrain.store.sql import Database

NEW_ROW = (
    "INSERT INTO experiments (workspace_id, number, name, lifecycle, artifact_location, created_ms, updated_ms) "
    "VALUES ('w', {0}, 'n{0}', 'active', '', 1, 1)"
)


class Site:
    """A home with something of everything in it."""

    def __init__(self, home: Home, db: Database) -> None:
        self.home, self.db = home, db
        self.blobs = Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)
        self.folder = EventFolder(db, self.blobs, home, Settings(home=home.path))
        self.events = Events(db, self.blobs, home)

    def write_events(self, count: int) -> list[Event]:
        spool = Spool(self.home.spool / uuid7())
        events = [Event(id=uuid7(), t=time.time_ns(), workspace="w", deployment="d") for _ in range(count)]
        for event in events:
            spool.append(event)
        spool.close()
        return events

    def requests(self) -> int:
        with self.db.read() as connection:
            return int(
                connection.execute(sa.text("SELECT coalesce(sum(value), 0) FROM event_counters WHERE measure = 'requests'")).scalar_one()
            )


@pytest.fixture(params=["sqlite", "postgresql"])
def new_site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Home], Site]]:
    """Open homes, each with its own database of the same kind; for PostgreSQL the next one is named in the environment."""
    opened: list[Database] = []

    def next_database() -> None:
        if request.param == "postgresql":
            monkeypatch.setenv("DRIVETRAIN_DATABASE_URL", request.getfixturevalue("new_postgres")())

    def new(home: Home) -> Site:
        db = Database(os.environ.get("DRIVETRAIN_DATABASE_URL") or home.database_url)
        opened.append(db)
        migrate(db)
        next_database()
        return Site(home, db)

    next_database()
    yield new
    for db in opened:
        db.close()


@pytest.mark.slow
def test_there_and_back(new_site: Callable[[Home], Site], tmp_path: Path) -> None:
    site = new_site(Home.open(tmp_path / "home"))
    (site.home.path / "drivetrain.toml").write_text("queue_limit = 7\n")
    blob = site.blobs.put([os.urandom(2_000_000)])
    stored, spooled = site.write_events(20), []
    site.folder.fold()
    site.folder.compact(force=True)
    spooled = site.write_events(10)
    site.folder.fold()
    unfolded = site.write_events(5)
    odd = "tab\t line\n back\\slash ünïcode \\N"
    with site.db.write() as connection:
        connection.execute(sa.insert(leases_table).values(name=odd, owner="o", token="t", seconds=float("inf")))
        connection.execute(sa.text(NEW_ROW.format(1)))
        connection.execute(sa.text(NEW_ROW.format(2)))
    seen: list[tuple[int, int]] = []
    archive = tmp_path / "backup.tar"
    backup(site.home, site.db, archive, lambda done, total: seen.append((done, total)))
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert seen[-1][0] == seen[-1][1] > 2_000_000
    assert list(site.home.cache.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    seen.clear()
    back = new_site(restore(archive, tmp_path / "restored", lambda done, total: seen.append((done, total))))
    assert seen
    assert back.home.secret == site.home.secret
    assert (back.home.path / "drivetrain.toml").read_text() == "queue_limit = 7\n"
    assert back.home.runtime != site.home.runtime
    assert back.blobs.read_bytes(blob.sha256) == site.blobs.read_bytes(blob.sha256)
    assert back.requests() == 30
    assert back.folder.fold() == 5
    assert back.requests() == 35
    for event in (*stored, *spooled, *unfolded):
        assert back.events.find(event.id) == event
    with back.db.write() as connection:
        row = connection.execute(sa.select(leases_table)).one()
        assert (row.name, row.seconds) == (odd, float("inf"))
        connection.execute(sa.text(NEW_ROW.format(3)))  # numbers go on where they were
        assert connection.execute(sa.text("SELECT max(uid) FROM experiments")).scalar_one() == 3
    assert back.folder.compact(force=True) == 1


def test_a_backup_of_a_busy_home_is_one_moment(new_site: Callable[[Home], Site], tmp_path: Path) -> None:
    site = new_site(Home.open(tmp_path / "home"))
    spool = Spool(site.home.spool / uuid7(), segment_s=0.05, fsync_s=0.01)
    stop = threading.Event()
    written: list[str] = []

    def busy() -> None:
        while not stop.is_set():
            event = Event(id=uuid7(), t=time.time_ns(), workspace="w", deployment="d")
            spool.append(event)
            written.append(event.id)
            site.folder.fold()

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for n in range(3):
            before = len(written)
            archive = tmp_path / f"{n}.tar"
            backup(site.home, site.db, archive)
            back = new_site(restore(archive, tmp_path / f"restored{n}"))
            counted = back.requests()
            assert counted >= before - 1
            back.folder.fold()
            # Whatever was counted is there to be read, and all that is there gets counted, once.
            assert back.requests() == len(back.events.recent("w", limit=1_000_000)) >= counted
    finally:
        stop.set()
        thread.join()
        spool.close()


def test_the_database_alone_before_a_migration(new_site: Callable[[Home], Site], tmp_path: Path) -> None:
    site = new_site(Home.open(tmp_path / "home"))
    site.blobs.put([b"x"])
    archive = backup_database(site.home, site.db)
    assert archive.parent == site.home.backups
    assert f"schema-{HEAD}" in archive.name
    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if name.startswith("objects/")]
    assert new_site(restore(archive, tmp_path / "again")).requests() == 0


def test_nothing_is_overwritten(home: Home, tmp_path: Path) -> None:
    db = Database(home.database_url)
    migrate(db)
    archive = tmp_path / "a.tar"
    backup(home, db, archive)
    db.close()
    with pytest.raises(Invalid, match="not empty"):
        restore(archive, home.path)
    with pytest.raises(Invalid, match="newer drivetrain"):
        restore(made(tmp_path, manifest(format=99)), tmp_path / "new")
    assert not any((tmp_path / "new").iterdir())


def manifest(**changes: object) -> bytes:
    good = Manifest(format=1, database="sqlite", revision=HEAD, created_ms=0, home_format=1)
    return msgspec.json.encode(msgspec.structs.asdict(good) | changes)


def made(folder: Path, head: bytes, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    path = folder / "made.tar"
    with tarfile.open(path, "w") as tar:
        for member in (("manifest.json", head), *members):
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        ("../evil", b"x"),
        ("/tmp/evil", b"x"),
        ("home/../../evil", b"x"),
        ("home/authorized_keys", b"x"),
        ("spool/../../evil.jsonl", b"x"),
        ("objects/sha256/../../evil", b"x"),
        ("database/../evil.copy", b"x"),
        ("objects/sha256/00/" + "0" * 64, b"not what it is named by"),
        link("home/auth", "/etc/passwd"),
        link("spool", "/etc"),
    ],
    ids=lambda member: member[0] if isinstance(member, tuple) else f"link {member.name}",
)
def test_what_no_backup_holds_is_refused(tmp_path: Path, member: tuple[str, bytes] | tarfile.TarInfo) -> None:
    with pytest.raises(Invalid, match=r"Nothing was restored"):
        restore(made(tmp_path, manifest(), ("home/secret.key", b"k" * 32), member), tmp_path / "a" / "home")
    assert list((tmp_path / "a" / "home").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"made.tar", "a"}


def test_damaged_archives_are_refused(home: Home, tmp_path: Path) -> None:
    db = Database(home.database_url)
    migrate(db)
    blobs = Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)
    blobs.put([os.urandom(100_000)])
    archive = tmp_path / "a.tar"
    backup(home, db, archive)
    db.close()
    whole = archive.read_bytes()
    wrong = tmp_path / "wrong.tar"
    for n, data in enumerate((b"", b"not a tar file", whole[:1000], whole[: len(whole) // 2], whole[:-60_000])):
        wrong.write_bytes(data)
        with pytest.raises(Invalid):
            restore(wrong, tmp_path / f"r{n}")
        assert not (tmp_path / f"r{n}").exists() or not any((tmp_path / f"r{n}").iterdir())
    flipped = bytearray(whole)
    flipped[-20_000] ^= 1  # within the blob
    wrong.write_bytes(flipped)
    with pytest.raises(Invalid, match="digest"):
        restore(wrong, tmp_path / "flipped")
    with pytest.raises(Invalid, match="no database"):
        restore(made(tmp_path, manifest(), ("home/secret.key", b"k" * 32)), tmp_path / "b")
    with pytest.raises(Invalid, match="begin with a manifest"):
        restore(_headless(tmp_path), tmp_path / "c")
    assert restore(archive, tmp_path / "good").secret == home.secret


def _headless(folder: Path) -> Path:
    path = folder / "headless.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("home/secret.key")
        tar.addfile(info, io.BytesIO())
    return path
