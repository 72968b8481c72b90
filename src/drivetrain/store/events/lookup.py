"""Looking up events: in the spools of this host while they are fresh, in segments after that."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import sqlalchemy as sa

from drivetrain.store.blobs import Blobs
from drivetrain.store.events import counters
from drivetrain.store.events.fold import EventFolder
from drivetrain.store.events.model import Event, Point
from drivetrain.store.events.segments import RowsReader, Segment, event_segments, id_needle, read_lines
from drivetrain.store.events.spoolfiles import complete_end, find_line, lines_backwards, spool_files
from drivetrain.store.home import Home
from drivetrain.store.ids import uuid7_ms
from drivetrain.store.sql import Database

__all__ = ["EventFolder", "Events"]

_CLOCK_SLACK_MS = 1000
_OVERSCAN = 64
_PAGE = 50


class Events:
    """The reading side. Events that another host has in its spool are found once that host has made segments of them (about a minute)."""

    def __init__(self, db: Database, blobs: Blobs, home: Home) -> None:
        self._db = db
        self._objects = blobs.objects
        self._home = home

    def find(self, request_id: str, *, workspace_id: str | None = None) -> Event | None:
        """The event of this id, in any workspace unless one is named; None if there is none (or not any more)."""
        try:
            moment = uuid7_ms(request_id)
        except ValueError:
            return None
        # Segments may take over a spool file between the two looks: the second round sees it there.
        event = self._find_spooled(request_id) or self._find_stored(request_id, moment) or self._find_spooled(request_id)
        if event is not None and workspace_id is not None and event.workspace != workspace_id:
            return None
        return event

    def recent(
        self,
        workspace_id: str,
        *,
        deployment: str | None = None,
        limit: int = 100,
        before: str | None = None,
        errors_only: bool = False,
    ) -> list[Event]:
        """The newest events (of the deployment with this id), newest first; `before` is the id of the last one of the page before."""
        needles = [b'"workspace":' + msgspec.json.encode(workspace_id)]
        if deployment is not None:
            needles.append(b'"deployment":' + msgspec.json.encode(deployment))
        if errors_only:
            needles.append(b'"error":')
        wanted = _Wanted(workspace_id, deployment, before, errors_only, needles)
        newest: dict[str, Event] = {}
        for file in reversed(spool_files(self._home.spool)):
            try:
                newest.update(wanted.most(lines_backwards(file.path), limit, _OVERSCAN))
            except FileNotFoundError:
                continue  # a segment by now
        for segment in self._segments(workspace_id, deployment, before, errors_only):
            if len(newest) >= limit and segment.to_ms < uuid7_ms(heapq.nlargest(limit, newest)[-1]) - _CLOCK_SLACK_MS:
                break
            try:
                newest.update(wanted.most(RowsReader(self._objects, segment).newest_first(before), limit))
            except FileNotFoundError:
                continue  # expired just now
        return [newest[id_] for id_ in heapq.nlargest(limit, newest)]

    @contextmanager
    def files(self, workspace_id: str, deployment: str, *, since_ms: int) -> Iterator[tuple[list[tuple[str, int]], list[str]]]:
        """The files that hold the events of a deployment from `since_ms` on, for a process of their own to read: spool files with how
        many bytes of each are complete, and rows files of segments. Those of an object store are copied for as long as the block lasts."""
        spools = [(str(file.path), complete_end(file.path)) for file in spool_files(self._home.spool)]
        table = event_segments
        mine = (table.c.workspace == workspace_id) & (table.c.deployment == deployment) & table.c.replaced_ms.is_(None)
        with self._db.read() as connection:
            query = sa.select(table).where(mine, table.c.to_ms >= since_ms - _CLOCK_SLACK_MS).order_by(table.c.from_ms)
            segments = [segment_of(row) for row in connection.execute(query)]
        scratch = self._objects.new_scratch()
        try:
            rows = []
            for segment in segments:
                local = self._objects.path(segment.key("rows"))
                if local is None:
                    scratch.mkdir(parents=True, exist_ok=True)
                    local = scratch / f"{segment.id}.rows"
                    local.write_bytes(self._objects.read_bytes(segment.key("rows"), 0, segment.rows_bytes))
                rows.append(str(local))
            yield spools, rows
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def lines(self, workspace_id: str, deployment: str, *, since_ms: int) -> Iterator[bytes]:
        """The events of a deployment from `since_ms` on, as they were written, one JSON line each; one may come twice, while a segment is
        being made of it."""
        needle = b'"deployment":' + msgspec.json.encode(deployment)
        with self.files(workspace_id, deployment, since_ms=since_ms) as (spools, rows):
            for path in rows:
                with suppress(FileNotFoundError):
                    yield from read_lines(Path(path))
            for path, upto in spools:
                with suppress(FileNotFoundError), Path(path).open("rb") as file:
                    left = upto
                    while left > 0 and (line := file.readline()):
                        left -= len(line)
                        if needle in line:
                            yield line

    def series(
        self, deployment_ids: Collection[str], *, since_ms: int, until_ms: int, step_ms: int, variant: str | None = None
    ) -> list[Point]:
        """Counts and quantiles of these deployments together, step by step. See `counters.series`."""
        return counters.series(self._db, deployment_ids, since_ms=since_ms, until_ms=until_ms, step_ms=step_ms, variant=variant)

    def total(self, deployment_ids: Collection[str], *, since_ms: int, until_ms: int, variant: str | None = None) -> Point:
        """Counts and quantiles of these deployments together over the whole time. See `counters.total`."""
        return counters.total(self._db, deployment_ids, since_ms=since_ms, until_ms=until_ms, variant=variant)

    def by_minute(self, deployment_id: str, *, since_ms: int, until_ms: int, measures: Collection[str]) -> dict[int, dict[str, int]]:
        """What single minutes counted. See `counters.by_minute`."""
        return counters.by_minute(self._db, deployment_id, since_ms=since_ms, until_ms=until_ms, measures=measures)

    def _find_spooled(self, request_id: str) -> Event | None:
        needle = id_needle(request_id)
        for file in reversed(spool_files(self._home.spool)):
            try:
                line = find_line(file.path, needle)
            except FileNotFoundError:
                continue
            if line is not None:
                return msgspec.json.decode(line, type=Event)
        return None

    def _find_stored(self, request_id: str, moment: int) -> Event | None:
        table = event_segments
        query = (
            sa.select(table)
            .where(table.c.from_ms <= moment + _CLOCK_SLACK_MS, table.c.to_ms >= moment - _CLOCK_SLACK_MS, table.c.replaced_ms.is_(None))
            .order_by(table.c.to_ms)
        )
        with self._db.read() as connection:
            segments = [segment_of(row) for row in connection.execute(query)]
        for segment in segments:
            try:
                event = RowsReader(self._objects, segment).find(request_id)
            except FileNotFoundError:
                continue
            if event is not None:
                return event
        return None

    def _segments(self, workspace_id: str, deployment: str | None, before: str | None, errors_only: bool) -> Iterator[Segment]:
        table = event_segments
        query = sa.select(table).where(table.c.workspace == workspace_id, table.c.replaced_ms.is_(None))
        if deployment is not None:
            query = query.where(table.c.deployment == deployment)
        if errors_only:
            query = query.where(table.c.errors > 0)
        if before is not None:
            query = query.where(table.c.from_ms <= _moment(before) + _CLOCK_SLACK_MS)
        last: tuple[int, str] | None = None
        while True:
            page = query.order_by(table.c.to_ms.desc(), table.c.id.desc()).limit(_PAGE)
            if last is not None:
                page = page.where(sa.tuple_(table.c.to_ms, table.c.id) < sa.tuple_(*last))
            with self._db.read() as connection:
                segments = [segment_of(row) for row in connection.execute(page)]
            yield from segments
            if len(segments) < _PAGE:
                return
            last = segments[-1].to_ms, segments[-1].id


class _Wanted:
    """Which lines a reader asks for: by bytes first, which is cheap, then by what they say."""

    def __init__(self, workspace: str, deployment: str | None, before: str | None, errors_only: bool, needles: list[bytes]) -> None:
        self._workspace = workspace
        self._deployment = deployment
        self._before = before
        self._errors_only = errors_only
        self._needles = needles
        self._decoder = msgspec.json.Decoder(Event)

    def most(self, lines: Iterator[bytes], limit: int, overscan: int = 0) -> dict[str, Event]:
        """The first `limit` that fit, and those that fit among `overscan` lines more: a spool is only nearly in the order of ids."""
        found: dict[str, Event] = {}
        beyond = 0
        for line in lines:
            if len(found) >= limit:
                beyond += 1
                if beyond > overscan:
                    break
            if all(needle in line for needle in self._needles):
                event = self._decode(line)
                if event is not None:
                    found[event.id] = event
        return found

    def _decode(self, line: bytes) -> Event | None:
        try:
            event = self._decoder.decode(line)
        except msgspec.DecodeError:
            return None
        fits = (
            event.workspace == self._workspace
            and (self._deployment is None or event.deployment == self._deployment)
            and (self._before is None or event.id < self._before)
            and (not self._errors_only or bool(event.error))
        )
        return event if fits else None


def segment_of(row: sa.Row[tuple[object, ...]]) -> Segment:
    """A row of the table as a Segment."""
    return Segment(**{name: getattr(row, name) for name in Segment.__struct_fields__})


def _moment(id_: str) -> int:
    try:
        return uuid7_ms(id_)
    except ValueError:
        return 0
