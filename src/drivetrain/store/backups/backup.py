"""A whole home in one tar file. The way back is in `restore`.

    manifest.json     what this is
    home/…            key file, settings
    database/…        drivetrain.db (SQLite), or TABLE.copy for each table (PostgreSQL's COPY in text form)
    spool/…           events that are not in segments yet
    objects/…         blobs and event segments

A server may go on writing meanwhile: the database is one consistent snapshot, what it refers to never changes, and spool files are pinned
before the snapshot and copied after it, so that they hold at least what the snapshot has counted.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import sqlalchemy as sa

from drivetrain.errors import Invalid, StorageFull
from drivetrain.store.backups.archive import (
    FORMAT,
    HOME_FILES,
    MANIFEST,
    Count,
    Manifest,
    Progress,
    Table,
    copy_target,
    objects_of,
    temporary,
)
from drivetrain.store.backups.restore import restore
from drivetrain.store.events.spoolfiles import spool_files
from drivetrain.store.files import FULL, sync_folder, write_file
from drivetrain.store.home import FORMAT as HOME_FORMAT
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.migrate import revision_of
from drivetrain.store.objects import Entry, Objects
from drivetrain.store.sql import Database

__all__ = ["backup", "backup_database", "last_backup_ms", "restore"]

LATEST = "latest.json"
"""In the home's folder `backups`: which archive was written last, and when."""


def backup(home: Home, db: Database, target: Path, progress: Progress | None = None, *, objects: Objects | None = None) -> None:
    """Write everything to the new file `target` (mode 0600: it holds the key of all secrets). Raises StorageFull."""
    began = now_ms()
    _write(home, db, target, progress, objects or objects_of(home))
    with contextlib.suppress(OSError):  # it is a backup, noted or not
        write_file(home.backups / LATEST, msgspec.json.encode({"archive": str(target.absolute()), "created_ms": began}))


def last_backup_ms(home: Home) -> int | None:
    """When this home was last backed up as a whole; None for never."""
    try:
        return int(msgspec.json.decode((home.backups / LATEST).read_bytes())["created_ms"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return None


def backup_database(home: Home, db: Database) -> Path:
    """The database, key and settings without blobs and events, into the home's folder `backups`: for the moment before a migration."""
    target = home.backups / f"{time.strftime('%Y%m%d-%H%M%S')}-schema-{revision_of(db) or 'none'}.tar"
    _write(home, db, target, None, None)
    return target


def _write(home: Home, db: Database, target: Path, progress: Progress | None, objects: Objects | None) -> None:
    scratch = home.cache / f"backup-{uuid7()}"
    part = temporary(target)
    try:
        scratch.mkdir(parents=True)
        _pin_spool(home, scratch / "spool")
        manifest = _snapshot(db, scratch / "database")
        _pin_spool(home, scratch / "spool")
        entries = [*objects.list("sha256"), *objects.list("events")] if objects is not None else []
        files = [(f"home/{name}", home.path / name) for name in HOME_FILES if (home.path / name).is_file()]
        files += [(path.relative_to(scratch).as_posix(), path) for path in sorted(scratch.rglob("*")) if path.is_file()]
        count = Count(progress, sum(entry.size for entry in entries) + sum(path.stat().st_size for _, path in files))
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                data = msgspec.json.encode(manifest)
                _add(tar, MANIFEST, io.BytesIO(data), len(data))
                for name, path in files:
                    with path.open("rb") as source:
                        size = os.fstat(source.fileno()).st_size  # a live spool file grows on
                        _add(tar, name, source, size)
                    count.add(size)
                for entry in entries:
                    if objects is not None:
                        _add_object(tar, objects, entry)
                    count.add(entry.size)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(f"There is no room for the backup {target} (or for its parts in {scratch}). Free some space.") from error
        raise Invalid(f"The backup {target} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _pin_spool(home: Home, folder: Path) -> None:
    for file in spool_files(home.spool):
        pinned = folder / file.name
        if not pinned.exists():
            pinned.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a segment by now
                os.link(file.path, pinned)


def _snapshot(db: Database, folder: Path) -> Manifest:
    folder.mkdir()
    manifest = Manifest(format=FORMAT, database=db.kind, revision=revision_of(db) or "", created_ms=now_ms(), home_format=HOME_FORMAT)
    if db.kind == "sqlite":
        with contextlib.closing(sqlite3.connect(folder / "drivetrain.db")) as copy:
            source = db.engine.raw_connection()
            try:
                driver = source.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                driver.backup(copy)
            finally:
                source.close()
            copy.execute("PRAGMA journal_mode=DELETE")
    else:
        manifest.tables = list(_dump(db, folder))
    return manifest


def _dump(db: Database, folder: Path) -> Iterator[Table]:
    # One snapshot for all tables, in an order in which they can be filled again.
    with db.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        found = sa.MetaData()
        found.reflect(connection)
        for table in found.sorted_tables:
            if table.name == "alembic_version":
                continue
            columns = [str(column.name) for column in table.columns]
            serial = [str(column.name) for column in table.columns if "nextval(" in str(getattr(column.server_default, "arg", ""))]
            driver = connection.connection.driver_connection
            assert driver is not None
            command = f"COPY {copy_target(table.name, columns)} TO STDOUT"
            with (folder / f"{table.name}.copy").open("wb") as file, driver.cursor() as cursor, cursor.copy(command) as copy:
                for piece in copy:
                    file.write(piece)
            yield Table(str(table.name), columns, serial)


def _add(tar: tarfile.TarFile, name: str, source: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o600, int(time.time())
    tar.addfile(info, source)


def _add_object(tar: tarfile.TarFile, objects: Objects, entry: Entry) -> None:
    pieces = objects.read(entry.key, 0, entry.size)
    try:
        first = next(pieces, b"")
    except FileNotFoundError:
        return  # swept meanwhile: the snapshot does not refer to it
    _add(tar, f"objects/{entry.key}", io.BufferedReader(_Pieces(first, pieces)), entry.size)


class _Pieces(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, first: bytes, rest: Iterator[bytes]) -> None:
        self._left = memoryview(first)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._left:
            self._left = memoryview(next(self._rest, b""))
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
