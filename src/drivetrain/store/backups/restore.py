"""Make a home of an archive that `backup` wrote.

Nothing in the archive is trusted: names must be ones that a backup writes, blobs must have the digest that they are named by. The file
`format`, without which a folder is no home, comes last.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import IO

import msgspec
import sqlalchemy as sa

from drivetrain.config import load
from drivetrain.errors import Invalid, StorageFull
from drivetrain.store.backups.archive import FORMAT, MANIFEST, Count, Manifest, Progress, copy_target
from drivetrain.store.files import FULL, write_file
from drivetrain.store.home import Home, refuse_network
from drivetrain.store.migrate import migrate, revision_of, upgrade
from drivetrain.store.objects import CHUNK, Objects, open_objects
from drivetrain.store.sql import Database

_NAMES = re.compile(
    r"home/(secret\.key|server_id|drivetrain\.toml|auth)"
    r"|database/(drivetrain\.db|[a-z0-9_]+\.copy)"
    r"|spool/[A-Za-z0-9_-]+/[0-9]+\.jsonl"
    r"|objects/sha256/[0-9a-f]{2}/[0-9a-f]{64}"
    r"|objects/events/deployment=[A-Za-z0-9_-]+/day=[0-9-]{10}/[0-9a-f]{32}\.(parquet|rows)"
)
_SCRATCH = "restoring"


def restore(archive: Path, home: Path, progress: Progress | None = None) -> Home:
    """Make a home of what `backup` wrote. The folder must not be there yet, or be empty; it is left empty after an error.

    A dump of PostgreSQL goes to the empty database that `database_url` names, blobs to where `blobs_url` says.
    Raises Invalid for an archive that is damaged or was tampered with, and StorageFull.
    """
    home = home.expanduser().absolute()
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise Invalid(f"{home} is not empty. Restore into a new folder; nothing is ever overwritten.")
    try:
        with tarfile.open(archive) as tar:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_network(home.resolve())
            try:
                return _restore(tar, home, Count(progress, archive.stat().st_size))
            except BaseException:
                for path in home.iterdir():
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
                raise
    except (tarfile.TarError, EOFError, msgspec.DecodeError) as error:
        raise Invalid(f"{archive} is damaged or is no backup of drivetrain: {error}") from error
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(f"There is no room at {home} for what {archive} holds. Free some space.") from error
        raise Invalid(f"{archive} cannot be restored to {home}: {error.strerror or error}.") from error


def _restore(tar: tarfile.TarFile, home: Path, count: Count) -> Home:
    manifest: Manifest | None = None
    objects: Objects | None = None
    for member in tar:
        source = tar.extractfile(member) if member.isreg() else None
        if manifest is None:
            if source is None or member.name != MANIFEST:
                raise Invalid("The archive does not begin with a manifest: it is no backup of drivetrain.")
            manifest = _checked(msgspec.json.decode(source.read(CHUNK), type=Manifest))
        elif source is None or not _NAMES.fullmatch(member.name):
            raise Invalid(f"The archive holds {member.name[:200]!r}, which no backup of drivetrain does. Nothing was restored.")
        elif member.name.startswith("objects/"):
            objects = objects or open_objects(load(home).blobs_url or str(home / "blobs"), home / "cache")
            _take_object(member.name.removeprefix("objects/"), source, member.size, objects)
        else:
            _take_file(home, member.name, source)
        count.add(member.size)
    if manifest is None:
        raise Invalid("The archive is empty: it is no backup of drivetrain.")
    return _finish(home, manifest)


def _checked(manifest: Manifest) -> Manifest:
    if manifest.format > FORMAT:
        advice = f"(archive format {manifest.format}; this one knows {FORMAT}). Upgrade drivetrain first."
        raise Invalid(f"The archive was written by a newer drivetrain {advice}")
    return manifest


def _take_file(home: Path, name: str, source: IO[bytes]) -> None:
    kind, _, rest = name.partition("/")
    target = {"home": home, "spool": home / "spool", "database": home / _SCRATCH}[kind] / rest
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _copy(source, target)


def _take_object(key: str, source: IO[bytes], size: int, objects: Objects) -> None:
    scratch = objects.new_scratch()
    try:
        digest = _copy(source, scratch)
        if key.startswith("sha256/") and not key.endswith(f"/{digest}"):
            raise Invalid(f"The archive is damaged: blob {key.rpartition('/')[2]} has the digest {digest}. Nothing was restored.")
        if objects.size(key) != size:
            objects.put(key, scratch)
    finally:
        scratch.unlink(missing_ok=True)


def _copy(source: IO[bytes], target: Path) -> str:
    digest = hashlib.sha256()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _finish(path: Path, manifest: Manifest) -> Home:
    parts = path / _SCRATCH
    url = load(path).database_url
    kind = "postgresql" if url.startswith("postgresql") else "sqlite"
    if kind != manifest.database:
        advice = "Name an empty PostgreSQL database in DRIVETRAIN_DATABASE_URL." if kind == "sqlite" else "Unset database_url."
        raise Invalid(f"The archive holds a database of {manifest.database}, which {kind} cannot take. {advice}")
    if kind == "sqlite":
        source = parts / "drivetrain.db"
        if not source.is_file():
            raise Invalid("The archive is damaged: it has no database.")
        if url:
            raise Invalid("The archive holds an SQLite database, which goes into the home itself. Unset database_url.")
        source.rename(path / "drivetrain.db")
        db = Database(f"sqlite:///{path / 'drivetrain.db'}")
    else:
        db = Database(url)
        _load(db, manifest, parts)
    try:
        migrate(db)
    finally:
        db.close()
    shutil.rmtree(parts)
    if not (path / "secret.key").is_file():
        raise Invalid("The archive is damaged: it has no key file.")
    write_file(path / "format", f"{manifest.home_format}\n".encode())
    return Home.open(path, create=False)


def _load(db: Database, manifest: Manifest, folder: Path) -> None:
    with db.read() as connection:
        if revision_of(db) is not None or sa.inspect(connection).get_table_names():
            raise Invalid("The database that database_url names is not empty. Restore into an empty one; nothing is ever overwritten.")
    with db.write() as connection:
        upgrade(connection, manifest.revision)
        known = set(sa.inspect(connection).get_table_names())
        driver = connection.connection.driver_connection
        assert driver is not None
        for table in manifest.tables:
            if table.name not in known:
                raise Invalid(f"The archive is damaged: there is no table {table.name[:100]!r} in schema {manifest.revision[:20]}.")
            command = f"COPY {copy_target(table.name, table.columns)} FROM STDIN"
            with (folder / f"{table.name}.copy").open("rb") as file, driver.cursor() as cursor, cursor.copy(command) as copy:
                while chunk := file.read(CHUNK):
                    copy.write(chunk)
            for column in table.serial:
                target = sa.table(table.name, sa.column(column))
                most = sa.select(sa.func.coalesce(sa.func.max(target.c[column]), 0) + 1).scalar_subquery()
                sequence = sa.func.pg_get_serial_sequence(f'"{table.name}"', column)
                connection.execute(sa.select(sa.func.setval(sequence, most, False)))
