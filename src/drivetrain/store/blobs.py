"""Blobs: immutable bytes, named by their sha256, kept once.

A blob is *there* when its row is there and not doomed; its bytes are durable before its row is, and go only after its row is doomed.
The sweep works in two steps (doom the row, then delete bytes and row under the row's lock), so that a blob which is stored anew at the
same moment stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy.dialects import postgresql, sqlite

from drivetrain.errors import Invalid, NotFound, StorageFull
from drivetrain.store.files import FULL
from drivetrain.store.ids import now_ms
from drivetrain.store.objects import Objects, open_objects
from drivetrain.store.sql import Database, metadata, upsert

T = TypeVar("T")
Then = Callable[[sa.Connection, "Blob"], object]

blobs_table = sa.Table(
    "blobs",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("git_sha1", sa.String(40), nullable=False, index=True),
    sa.Column("md5", sa.String(32), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("seen_ms", sa.BigInteger, nullable=False, index=True),
    sa.Column("doomed", sa.Boolean, nullable=False),
)

_ROOM_CHECK = 16 << 20
_TOUCH_MS = 60_000
_BATCH = 500


class Blob(Struct, frozen=True):
    """The digests are lower-case hex. `size` is in bytes; `md5` is there if the upload was asked to take it."""

    sha256: str
    size: int
    md5: str | None = None


class Names(Struct, frozen=True):
    """What other protocols call a blob, in lower-case hex. Git hashes a header with the size before the bytes."""

    md5: str
    git_sha1: str


class Blobs:
    """All blobs of one database. Thread-safe."""

    def __init__(self, db: Database, url_or_folder: str, *, min_free: int, scratch: Path) -> None:
        self._db = db
        self._min_free = min_free
        self.objects: Objects = open_objects(url_or_folder, scratch)

    def put(
        self, chunks: Iterable[bytes], *, sha256: str | None = None, size: int | None = None, md5: bool = False, then: Then | None = None
    ) -> Blob:
        """Store the bytes. Raises Invalid if they are not what `sha256` and `size` say, StorageFull if there is no room for them.

        After an error nothing is changed. `md5`: take that, too. `then` works in the transaction that lets the blob be there; where that
        must be tried again, so is `then`, which must not raise.
        """
        upload = self.begin(size=size, md5=md5)
        try:
            for chunk in chunks:
                upload.write(chunk)
            return upload.finish(sha256=sha256, size=size, then=then)
        finally:
            upload.abort()

    def begin(self, *, size: int | None = None, md5: bool = False) -> Upload:
        """Begin an upload that is written piece by piece; `md5`: take that, too."""
        self.objects.check_room(size or 0, self._min_free)
        return Upload(self, size, self._min_free, md5=md5)

    def stat(self, sha256: str) -> Blob:
        """Raises NotFound."""
        with self._db.read() as connection:
            row = connection.execute(sa.select(blobs_table).where(blobs_table.c.sha256 == sha256, ~blobs_table.c.doomed)).one_or_none()
        if row is None:
            raise NotFound(f"There is no blob {sha256[:64]!r}. Upload it first.")
        return Blob(row.sha256, row.size, row.md5 or None)

    def names(self, sha256: str) -> Names:
        """What others call the blob: read from its bytes when first asked for, and kept. Raises NotFound."""
        mine = sa.and_(blobs_table.c.sha256 == sha256, ~blobs_table.c.doomed)
        with self._db.read() as connection:
            row = connection.execute(sa.select(blobs_table).where(mine)).one_or_none()
        if row is not None and row.md5 and row.git_sha1:
            return Names(row.md5, row.git_sha1)
        md5 = hashlib.md5(usedforsecurity=False)
        git = hashlib.sha1(b"blob %d\0" % self.stat(sha256).size, usedforsecurity=False)
        for chunk in self.read(sha256):
            md5.update(chunk)
            git.update(chunk)
        names = Names(md5.hexdigest(), git.hexdigest())
        self._write(lambda connection: connection.execute(sa.update(blobs_table).where(mine).values(**asdict(names))))
        return names

    def known(self, digests: Iterable[str]) -> set[str]:
        """Those of the sha256 `digests` that are there. They count as seen now, so that a sweep leaves them until they are referred to."""
        found: dict[str, int] = {}
        for some in _batches(set(digests)):
            query = sa.select(blobs_table).where(blobs_table.c.sha256.in_(some), ~blobs_table.c.doomed)
            with self._db.read() as connection:
                # One that only its first sender knows counts as never seen: from now on somebody else does.
                found.update({row.sha256: row.seen_ms if row.seen_ms > row.created_ms else 0 for row in connection.execute(query)})
        now = now_ms()
        stale = [digest for digest, seen in found.items() if seen < now - _TOUCH_MS]
        for some in _batches(stale):
            touch = sa.update(blobs_table).where(blobs_table.c.sha256.in_(some), ~blobs_table.c.doomed).values(seen_ms=_after_created(now))
            with self._db.write() as connection:
                _lock_rows(connection, some)
                touched = set(connection.execute(touch.returning(blobs_table.c.sha256)).scalars())
            for digest in set(some) - touched:
                del found[digest]
        return set(found)

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes [start, end) in pieces; `end` None means the end. Raises NotFound, and Invalid for a range that is not in the blob."""
        size = self.stat(sha256).size
        end = size if end is None else end
        if not 0 <= start <= end <= size:
            raise Invalid(f"The range [{start}, {end}) is not within the {size} bytes of blob {sha256}.")
        return self._read(sha256, start, end)

    def _read(self, sha256: str, start: int, end: int) -> Iterator[bytes]:
        try:
            yield from self.objects.read(key_of(sha256), start, end)
        except FileNotFoundError:
            raise NotFound(
                f"The bytes of blob {sha256} are missing from {self.objects.url('')}. Restore them from a backup or upload it again."
            ) from None

    def read_bytes(self, sha256: str, start: int = 0, end: int | None = None) -> bytes:
        """As `read`, in one piece: for small blobs."""
        return b"".join(self.read(sha256, start, end))

    def local_path(self, sha256: str) -> Path | None:
        """The blob as a file that must not be changed; None if blobs are not kept in local files (or this one is not there)."""
        return self.objects.path(key_of(sha256))

    def materialise(self, sha256: str, target: Path) -> None:
        """Make the blob appear as the file `target`: a hard link where possible, else a verified copy. Its folder is made."""
        self.stat(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            local = self.local_path(sha256)
            if local is None or not _linked(local, part):
                digest = hashlib.sha256()
                with part.open("wb") as file:
                    for chunk in self.read(sha256):
                        digest.update(chunk)
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())  # whoever finds it later takes it for whole
                if digest.hexdigest() != sha256:
                    raise NotFound(f"The stored bytes of blob {sha256} are damaged. Restore them from a backup or upload it again.")
            part.replace(target)
        except OSError as error:
            raise _full(error, target.parent) from error
        finally:
            part.unlink(missing_ok=True)

    def sweep(self, live: Collection[str], *, older_than_s: float) -> tuple[int, int]:
        """Delete blobs that are not in `live` and that nobody stored or asked for within `older_than_s` seconds; (number, bytes).

        Choose `older_than_s` longer than anything takes from an upload to the row that refers to it: an hour, say.
        """
        cutoff = now_ms() - int(older_than_s * 1000)
        keep = live if isinstance(live, set | frozenset) else frozenset(live)
        with self._db.read() as connection:
            old = [row.sha256 for row in connection.execute(sa.select(blobs_table.c.sha256).where(blobs_table.c.seen_ms <= cutoff))]
        dead = [digest for digest in old if digest not in keep]
        for some in _batches(dead):
            doom = sa.update(blobs_table).where(blobs_table.c.sha256.in_(some), blobs_table.c.seen_ms <= cutoff).values(doomed=True)
            with self._db.write() as connection:
                _lock_rows(connection, some)
                connection.execute(doom)
        count = size = 0
        for digest in dead:
            gone = sa.delete(blobs_table).where(blobs_table.c.sha256 == digest, blobs_table.c.doomed, blobs_table.c.seen_ms <= cutoff)
            with self._db.write() as connection:
                removed = connection.execute(gone.returning(blobs_table.c.size)).scalar_one_or_none()
                if removed is not None:
                    self.objects.delete(key_of(digest))
                    count, size = count + 1, size + removed
        self._sweep_leftovers(older_than_s)
        return count, size

    def discard(self, digests: Iterable[str], *, sent_until_ms: int, older_than_s: float) -> dict[str, int]:
        """Delete those of these blobs, which nothing names any more, that nobody can be about to name: one upload brought them, at
        `sent_until_ms` or before (what it was for has gone), and nobody has sent them again or asked for them since; or nobody has within
        `older_than_s` seconds.

        What was deleted: sha256 → bytes.
        """
        cutoff = now_ms() - int(older_than_s * 1000)
        b = blobs_table.c
        gone: dict[str, int] = {}
        for some in _batches(digests):
            alone = ~b.doomed & sa.or_(sa.and_(b.seen_ms == b.created_ms, b.created_ms <= sent_until_ms), b.seen_ms <= cutoff)
            # `seen_ms` 0: doomed, and not on its way in again.
            doom = sa.update(blobs_table).where(b.sha256.in_(some), alone).values(doomed=True, seen_ms=0)
            with self._db.write() as connection:
                _lock_rows(connection, some)
                connection.execute(doom)
            for digest in some:
                dead = sa.delete(blobs_table).where(b.sha256 == digest, b.doomed, b.seen_ms == 0)
                with self._db.write() as connection:
                    size = connection.execute(dead.returning(b.size)).scalar_one_or_none()
                    if size is not None:
                        self.objects.delete(key_of(digest))
                        gone[digest] = size
        return gone

    def _sweep_leftovers(self, older_than_s: float) -> None:
        # Files that a killed process left: unfinished uploads, and bytes that never got their row.
        before = time.time() - max(older_than_s, 3600)
        if self.objects.scratch.is_dir():
            for path in self.objects.scratch.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < before:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
        stray = [entry.key for entry in self.objects.list("sha256") if entry.modified_s < before]
        for some in _batches(stray):
            names = [key.rpartition("/")[2] for key in some]
            with self._db.read() as connection:
                rows = set(connection.execute(sa.select(blobs_table.c.sha256).where(blobs_table.c.sha256.in_(names))).scalars())
            for key, name in zip(some, names, strict=True):
                if name not in rows:
                    self._delete_stray(key, name)

    def _delete_stray(self, key: str, sha256: str) -> None:
        # A row of our own, doomed, is the lock against an upload of the same bytes at this moment.
        row = {"sha256": sha256, "git_sha1": "", "md5": "", "size": 0, "created_ms": 0, "seen_ms": 0, "doomed": True}
        with self._db.write() as connection:
            upsert(connection, blobs_table, [row], key=["sha256"])
            gone = sa.delete(blobs_table).where(blobs_table.c.sha256 == sha256, blobs_table.c.doomed, blobs_table.c.seen_ms == 0)
            if connection.execute(gone).rowcount:
                self.objects.delete(key)

    def _keep(self, blob: Blob, file: Path, then: Then | None) -> None:
        """Put the finished file into the store and its row into the database."""
        key = key_of(blob.sha256)
        after = then or (lambda _connection, _blob: None)

        def touch(connection: sa.Connection) -> bool:
            if not connection.execute(_TOUCH, {"name": blob.sha256, "now": now_ms()}).rowcount:
                return False
            after(connection, blob)
            return True

        def arrive(connection: sa.Connection) -> None:
            now = now_ms()
            row = {"sha256": blob.sha256, "git_sha1": "", "md5": blob.md5 or "", "size": blob.size, "created_ms": now, "seen_ms": now}
            connection.execute(_arrival(connection.dialect.name), {**row, "doomed": False})
            after(connection, blob)

        with self._db.read() as connection:
            known = connection.scalar(_THERE, {"name": blob.sha256}) is not None
        if known and self._write(touch) and self.objects.size(key) == blob.size:
            return
        while True:
            self.objects.put(key, file)
            self._write(arrive)
            # From here on no sweep deletes them. One that has taken them for a stray, or had them doomed before, shows now.
            if self.objects.size(key) == blob.size:
                return

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        # On PostgreSQL a transaction that locks rows of several uploads could deadlock with another server's.
        if self._db.kind == "sqlite":
            return self._db.group_write(work)
        with self._db.write() as connection:
            return work(connection)


class Upload:
    """Bytes on their way in: `write`…, then `finish` or `abort`. May be driven from any thread, one call at a time."""

    def __init__(self, blobs: Blobs, size: int | None, min_free: int, *, md5: bool) -> None:
        self._blobs = blobs
        self._declared = size
        self._min_free = min_free
        self._path = blobs.objects.new_scratch()
        self._lock = threading.Lock()
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._unchecked = 0
        self.size = 0
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        except OSError as error:
            raise _full(error, self._path.parent) from error

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Raises StorageFull when the disk has no room; the upload is aborted then. Raises Invalid beyond the declared size."""
        with self._lock:
            if self._fd < 0:
                raise Invalid("This upload has ended. Begin a new one.")
            self.size += len(data)
            self._unchecked += len(data)
            try:
                if self._declared is not None and self.size > self._declared:
                    raise Invalid(f"The upload has more than the {self._declared} bytes that were announced. Nothing was stored.")
                if self._unchecked >= _ROOM_CHECK:
                    self._unchecked = 0
                    self._blobs.objects.check_room(0, self._min_free)
                view = memoryview(data)
                while view:
                    view = view[os.write(self._fd, view) :]
                self._sha256.update(data)
                if self._md5 is not None:
                    self._md5.update(data)
            except OSError as error:
                self._drop()
                raise _full(error, self._path.parent) from error
            except BaseException:
                self._drop()
                raise

    def finish(self, *, sha256: str | None = None, size: int | None = None, then: Then | None = None) -> Blob:
        """Check, make durable, and store. Raises Invalid if the bytes are not what was said; nothing is stored then. `then`: see `put`."""
        with self._lock:
            if self._fd < 0:
                raise Invalid("This upload has ended. Begin a new one.")
            try:
                for expected in (size, self._declared):
                    if expected is not None and expected != self.size:
                        raise Invalid(f"The upload has {self.size} bytes; {expected} were announced. Nothing was stored; send it again.")
                found = self._sha256.hexdigest()
                if sha256 is not None and sha256.lower() != found:
                    raise Invalid(f"The upload's sha256 is {found}, not {sha256[:64]} as announced. Nothing was stored; send it again.")
                blob = Blob(found, self.size, None if self._md5 is None else self._md5.hexdigest())
                os.fsync(self._fd)
                self._blobs._keep(blob, self._path, then)
                return blob
            except OSError as error:
                raise _full(error, self._path.parent) from error
            finally:
                self._drop()

    def abort(self) -> None:
        """Forget it. Does nothing after `finish`."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._path.unlink(missing_ok=True)


def key_of(sha256: str) -> str:
    """Where the objects keep the blob `sha256`."""
    if len(sha256) != 64 or not sha256.isalnum():
        raise NotFound(f"{sha256[:80]!r} is not the sha256 of a blob.")
    return f"sha256/{sha256[:2]}/{sha256}"


def _after_created(now: int | sa.BindParameter[int]) -> sa.ColumnElement[int]:
    """A time of being seen that differs from that of creation: equal, they say that one upload brought it and nobody has cared since."""
    created = blobs_table.c.created_ms
    return sa.case((created >= now, created + 1), else_=now)


_HERE = sa.and_(blobs_table.c.sha256 == sa.bindparam("name"), ~blobs_table.c.doomed)
_THERE = sa.select(blobs_table.c.sha256).where(_HERE)
_TOUCH = sa.update(blobs_table).where(_HERE).values(seen_ms=_after_created(sa.bindparam("now")))


@cache
def _arrival(dialect: str) -> sqlite.Insert | postgresql.Insert:
    """The blob's bytes are there. Where another upload of the same bytes was faster, both have seen it."""
    insert = (sqlite if dialect == "sqlite" else postgresql).insert(blobs_table)
    new, b = insert.excluded, blobs_table.c
    statement: sqlite.Insert | postgresql.Insert = insert.on_conflict_do_update(
        index_elements=["sha256"],
        set_={
            **{name: new[name] for name in ("size", "doomed")},
            "md5": sa.case((new.md5 == "", b.md5), else_=new.md5),
            "created_ms": sa.case((b.doomed, new.created_ms), else_=b.created_ms),
            "seen_ms": sa.case((b.doomed, new.seen_ms), (b.created_ms >= new.seen_ms, b.created_ms + 1), else_=new.seen_ms),
        },
    )
    return statement


def _lock_rows(connection: sa.Connection, digests: Collection[str]) -> None:
    """Lock these rows in one order everywhere, so that nobody waits in a circle. (SQLite has one lock for all.)"""
    connection.execute(
        sa.select(blobs_table.c.sha256).where(blobs_table.c.sha256.in_(digests)).order_by(blobs_table.c.sha256).with_for_update()
    )


def _linked(source: Path, target: Path) -> bool:
    try:
        target.unlink(missing_ok=True)
        os.link(source, target)
    except OSError:
        return False
    return True


def _full(error: OSError, folder: Path) -> Exception:
    if error.errno in FULL:
        free = shutil.disk_usage(folder).free >> 20 if folder.exists() else 0
        return StorageFull(f"The disk of {folder} is full ({free} MiB are free). Nothing was stored. Free some space and try again.")
    return error


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    listed = list(items)
    for start in range(0, len(listed), _BATCH):
        yield listed[start : start + _BATCH]
