"""From spool to counters to segments, each event exactly once, also when killed at any instruction.

fold      complete lines → counters; the file's offset moves in the same transaction
compact   closed, wholly folded files → segments; the segments' rows and the mark `compacted` at the files are one transaction,
          then the files go, then their marks: a marked file that is still there is deleted, never folded again
expire    segments and counters older than the retention time
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.errors import DrivetrainError
from drivetrain.store.blobs import Blobs
from drivetrain.store.child import ChildFailed, run_child
from drivetrain.store.events import counters
from drivetrain.store.events.compact import Made, Work
from drivetrain.store.events.counters import Counted, event_counters
from drivetrain.store.events.segments import Segment, event_segments
from drivetrain.store.events.spoolfiles import SpoolFile, complete_end, complete_lines, remove_empty_folders, spool_files
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, metadata, upsert

log = logging.getLogger(__name__)

spool_offsets = sa.Table(
    "spool_offsets",
    metadata,
    sa.Column("server", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("compacted", sa.Boolean, nullable=False),
)

# Made once: to build a statement takes longer than to run it.
_ADVANCE = (
    sa.update(spool_offsets)
    .where(
        spool_offsets.c.server == sa.bindparam("of_server"),
        spool_offsets.c.name == sa.bindparam("of_name"),
        spool_offsets.c.offset == sa.bindparam("old"),
        ~spool_offsets.c.compacted,
    )
    .values(offset=sa.bindparam("new"))
)
_AT_ONCE = 64 << 20  # bytes of spool that one process makes segments of
_PATIENCE = 6  # segments are made every so many `event_segment_seconds`, or as soon as `event_segment_bytes` are waiting
_SMALL = 4 << 20
_MERGE_FROM = 16
_REPLACED_MS = 3_600_000
_COMPACT_SECONDS = 600
_DAY_MS = 86_400_000


class Fold(Protocol):
    """What else is counted of events, in the transaction that moves the spool's offset: exactly once, like the counters."""

    def add(self, connection: sa.Connection, events: Sequence[Counted], lines: Callable[[], Sequence[bytes]]) -> None:
        """Count these events within the transaction, or those of them that concern it. `lines`: as they were written, for what `Counted`
        leaves out."""
        ...


class EventFolder:
    """What one server does with the spools of its own home. One at a time: the holder of the home's lock."""

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        home: Home,
        settings: Settings,
        *,
        compactor: Callable[[Work], list[Made]] | None = None,
        folds: Sequence[Fold] = (),
    ) -> None:
        """`compactor` writes the files of segments; by default in a process of its own."""
        self._folds = folds
        self._compactor = compactor or in_process
        self._db = db
        self._objects = blobs.objects
        self._home = home
        self._settings = settings

    def fold(self) -> int:
        """Count what is new in the spools; the number of events."""
        offsets = self._offsets()
        return sum(
            self._fold_file(file, offsets.get(file.name, (0, False))[0])
            for file in spool_files(self._home.spool)
            if not offsets.get(file.name, (0, False))[1]
        )

    def _fold_file(self, file: SpoolFile, offset: int) -> int:
        decoder = msgspec.json.Decoder(Counted)
        folded = 0
        while True:
            try:
                events, length = _decoded(decoder, file.path, offset)
            except FileNotFoundError:
                return folded
            if not length:
                return folded
            if not self._advance(file.name, offset, offset + length, events, partial(_lines, decoder, file.path, offset, length)):
                return folded
            offset += length
            folded += len(events)

    def _advance(self, name: str, old: int, new: int, events: Sequence[Counted], lines: Callable[[], Sequence[bytes]]) -> bool:
        row = {"server": self._home.server_id, "name": name, "offset": 0, "compacted": False}
        with self._db.write() as connection:
            if not old:
                upsert(connection, spool_offsets, [row], key=["server", "name"])
            # Whoever moves the offset from where it was read counts the events; nobody else does.
            if connection.execute(_ADVANCE, {"of_server": self._home.server_id, "of_name": name, "old": old, "new": new}).rowcount != 1:
                return False
            counters.add(connection, counters.count(events))
            for fold in self._folds:
                fold.add(connection, events, lines)
        return True

    def compact(self, *, force: bool = False) -> int:
        """Make segments of closed and wholly folded spool files, if it is time (or `force`); the number of segments made."""
        offsets = self._offsets()
        ready: list[tuple[SpoolFile, int]] = []
        for file in spool_files(self._home.spool):
            offset, compacted = offsets.get(file.name, (0, False))
            if compacted:
                file.path.unlink(missing_ok=True)
            elif file.closed and complete_end(file.path) == offset:
                if offset:
                    ready.append((file, offset))
                else:
                    file.path.unlink(missing_ok=True)
        self._forget_marks(offsets)
        remove_empty_folders(self._home.spool)
        made = 0
        if ready and (force or self._is_time(ready)):
            for some in _portions(ready):
                made += self._compact(some)
        self._merge()
        return made

    def _is_time(self, ready: Sequence[tuple[SpoolFile, int]]) -> bool:
        waiting = sum(size for _, size in ready)
        oldest = min(file.path.stat().st_mtime for file, _ in ready)
        return waiting >= self._settings.event_segment_bytes or time.time() - oldest >= _PATIENCE * self._settings.event_segment_seconds

    def _compact(self, files: Sequence[tuple[SpoolFile, int]]) -> int:
        out = self._scratch()
        try:
            made = self._compactor(Work(out=str(out), spools=[(str(file.path), size) for file, size in files]))
            self._store(made)
            table = spool_offsets
            with self._db.write() as connection:
                for file, size in files:
                    mine = (table.c.server == self._home.server_id) & (table.c.name == file.name) & (table.c.offset == size)
                    marked = connection.execute(sa.update(table).where(mine, ~table.c.compacted).values(compacted=True)).rowcount
                    if marked != 1:
                        raise DrivetrainError(
                            f"Spool file {file.name} was changed by another process. Is another server using {self._home.path}?"
                        )
                _insert(connection, [one.segment for one in made])
        finally:
            shutil.rmtree(out, ignore_errors=True)
        for file, _ in files:
            file.path.unlink(missing_ok=True)
        self._forget_marks(self._offsets())
        return len(made)

    def _forget_marks(self, offsets: dict[str, tuple[int, bool]]) -> None:
        gone = [name for name in offsets if not (self._home.spool / name).exists()]
        if gone:
            table = spool_offsets
            with self._db.write() as connection:
                for name in gone:
                    connection.execute(sa.delete(table).where(table.c.server == self._home.server_id, table.c.name == name))

    def _merge(self) -> None:
        """Make one segment of many small ones of the same deployment and day."""
        table = event_segments
        small = sa.and_(table.c.replaced_ms.is_(None), table.c.rows_bytes < _SMALL)
        group = (table.c.workspace, table.c.deployment, table.c.day)
        crowded = sa.select(*group).where(small).group_by(*group).having(sa.func.count() >= _MERGE_FROM)
        with self._db.read() as connection:
            groups = [tuple(row) for row in connection.execute(crowded)]
        for workspace, deployment, day in groups:
            these = sa.and_(small, table.c.workspace == workspace, table.c.deployment == deployment, table.c.day == day)
            with self._db.read() as connection:
                rows = connection.execute(sa.select(table).where(these).order_by(table.c.from_ms)).all()
            segments: list[Segment] = []
            for row in rows:
                segments.append(Segment(**{name: getattr(row, name) for name in Segment.__struct_fields__}))
                if sum(segment.rows_bytes for segment in segments) > _SMALL * 4:
                    break
            self._merge_segments(segments)

    def _merge_segments(self, segments: Sequence[Segment]) -> None:
        out = self._scratch()
        try:
            rows: list[str] = []
            for segment in segments:
                local = self._objects.path(segment.key("rows"))
                if local is None:
                    local = out / f"{segment.id}.in"
                    local.write_bytes(self._objects.read_bytes(segment.key("rows"), 0, segment.rows_bytes))
                rows.append(str(local))
            made = self._compactor(Work(out=str(out), rows=rows))
            self._store(made)
            table = event_segments
            ids = [segment.id for segment in segments]
            with self._db.write() as connection:
                taken = sa.update(table).where(table.c.id.in_(ids), table.c.replaced_ms.is_(None)).values(replaced_ms=now_ms())
                if connection.execute(taken).rowcount == len(ids):
                    _insert(connection, [one.segment for one in made])
                else:
                    connection.rollback()  # another server was faster
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def expire(self) -> int:
        """Delete segments and counters beyond their time, and files that a killed process left; the number of segments."""
        now = now_ms()
        cutoff = now - int(self._settings.event_retention_days * _DAY_MS)
        table = event_segments
        old = sa.or_(table.c.to_ms < cutoff, table.c.replaced_ms < now - _REPLACED_MS)
        with self._db.write() as connection:
            gone = connection.execute(sa.delete(table).where(old).returning(*table.c)).all()
            connection.execute(sa.delete(event_counters).where(event_counters.c.minute_ms < cutoff))
        for row in gone:
            segment = Segment(**{name: getattr(row, name) for name in Segment.__struct_fields__})
            for suffix in ("rows", "parquet"):
                self._objects.delete(segment.key(suffix))
        self._expire_strays(now)
        return len(gone)

    def _expire_strays(self, now: int) -> None:
        with self._db.read() as connection:
            known = set(connection.execute(sa.select(event_segments.c.id)).scalars())
        for entry in self._objects.list("events"):
            name = entry.key.rpartition("/")[2].partition(".")[0]
            if name not in known and entry.modified_s * 1000 < now - _REPLACED_MS:
                self._objects.delete(entry.key)

    def _store(self, made: Sequence[Made]) -> None:
        for one in made:
            for suffix, path in (("parquet", one.parquet), ("rows", one.rows)):
                with Path(path).open("rb") as file:
                    os.fsync(file.fileno())
                self._objects.put(one.segment.key(suffix), Path(path))

    def _scratch(self) -> Path:
        # On the disk of local objects, so that a segment gets its place by a link.
        folder = self._objects.new_scratch()
        folder.mkdir(parents=True)
        return folder

    def _offsets(self) -> dict[str, tuple[int, bool]]:
        table = spool_offsets
        with self._db.read() as connection:
            rows = connection.execute(sa.select(table).where(table.c.server == self._home.server_id))
            return {row.name: (row.offset, row.compacted) for row in rows}


def _decoded(decoder: msgspec.json.Decoder[Counted], path: Path, start: int) -> tuple[list[Counted], int]:
    """The events of the complete lines from `start` on, and how many bytes these are."""
    events: list[Counted] = []
    length = 0
    for piece in complete_lines(path, start):
        lines = piece[:-1].split(b"\n")
        try:
            events.extend([decoder.decode(line) for line in lines])
        except msgspec.DecodeError:
            for line in filter(None, lines):
                try:
                    events.append(decoder.decode(line))
                except msgspec.DecodeError as error:
                    log.warning("a line of %s before byte %d is no event and is left out: %s", path, start + length + len(piece), error)
        length += len(piece)
    return events, length


def _lines(decoder: msgspec.json.Decoder[Counted], path: Path, start: int, length: int) -> list[bytes]:
    """The lines that `_decoded` has read."""
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read(length).split(b"\n")
    return [line for line in lines if line and _is_event(decoder, line)]


def _is_event(decoder: msgspec.json.Decoder[Counted], line: bytes) -> bool:
    try:
        decoder.decode(line)
    except msgspec.DecodeError:
        return False
    return True


def _insert(connection: sa.Connection, segments: Sequence[Segment]) -> None:
    if segments:
        connection.execute(sa.insert(event_segments), [{**msgspec.structs.asdict(segment), "replaced_ms": None} for segment in segments])


def _portions(files: Sequence[tuple[SpoolFile, int]]) -> list[list[tuple[SpoolFile, int]]]:
    portions: list[list[tuple[SpoolFile, int]]] = [[]]
    size = 0
    for file in files:
        if portions[-1] and size + file[1] > _AT_ONCE:
            portions.append([])
            size = 0
        portions[-1].append(file)
        size += file[1]
    return portions


def in_process(work: Work) -> list[Made]:
    """Run `compact` in a process of its own."""
    try:
        done = run_child("drivetrain.store.events.compact", msgspec.json.encode(work), seconds=_COMPACT_SECONDS)
    except ChildFailed as error:
        raise DrivetrainError(f"Events could not be made into segments (they stay in the spool): {error}") from None
    return msgspec.json.decode(done, type=list[Made])
