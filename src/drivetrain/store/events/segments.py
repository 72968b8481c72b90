"""Event segments: the events of one deployment and day in two immutable files.

    events/deployment=ID/day=YYYY-MM-DD/SEGMENT.parquet   for analysis: Polars, DuckDB, Spark and Ray Data read the folder as one table
    events/deployment=ID/day=YYYY-MM-DD/SEGMENT.rows      for looking up single events, without any library

A rows file is JSON lines, sorted by id, in zlib-compressed blocks; then an index of the blocks as JSON; then the index's length and a mark.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from drivetrain.store.events.model import Event
from drivetrain.store.objects import Objects
from drivetrain.store.sql import metadata

_BLOCK = 64 << 10
_TAIL = struct.Struct("<Q8s")
_MARK = b"DTROWS1\n"
_FIRST_READ = 16 << 10

event_segments = sa.Table(
    "event_segments",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace", sa.String(32), nullable=False),
    sa.Column("deployment", sa.String(32), nullable=False),
    sa.Column("day", sa.String(10), nullable=False),
    sa.Column("from_ms", sa.BigInteger, nullable=False),
    sa.Column("to_ms", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("errors", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("rows_bytes", sa.BigInteger, nullable=False),
    sa.Column("replaced_ms", sa.BigInteger, nullable=True),  # when a larger segment took its place; its files go an hour later
    sa.Index("ix_event_segments_times", "to_ms", "from_ms"),
    sa.Index("ix_event_segments_deployment", "deployment", "day"),
)


class Segment(Struct, frozen=True, kw_only=True):
    """One row of the table. `from_ms` and `to_ms` enclose the times of its events and those within their ids."""

    id: str
    workspace: str
    deployment: str
    day: str
    from_ms: int
    to_ms: int
    rows: int
    errors: int
    bytes: int
    rows_bytes: int

    def key(self, suffix: str) -> str:
        """Where the objects keep its file: `suffix` is `parquet` or `rows`."""
        return f"events/deployment={self.deployment or '_'}/day={self.day}/{self.id}.{suffix}"


class _Block(Struct, array_like=True):
    offset: int
    length: int
    first: str
    last: str


def write_rows(path: Path, lines: Iterable[tuple[str, bytes]]) -> None:
    """Write a rows file of (id, JSON without line feed) pairs that come sorted by id."""
    blocks: list[_Block] = []
    pending: list[tuple[str, bytes]] = []
    size = 0
    with path.open("wb") as file:

        def flush() -> None:
            nonlocal pending, size
            packed = zlib.compress(b"\n".join(line for _, line in pending))
            blocks.append(_Block(file.tell(), len(packed), pending[0][0], pending[-1][0]))
            file.write(packed)
            pending, size = [], 0

        for id_, line in lines:
            pending.append((id_, line))
            size += len(line)
            if size >= _BLOCK:
                flush()
        if pending:
            flush()
        index = msgspec.json.encode(blocks)
        file.write(index + _TAIL.pack(len(index), _MARK))


def read_lines(path: Path) -> Iterator[bytes]:
    """All lines of a local rows file."""
    data = path.read_bytes()
    length, mark = _TAIL.unpack(data[-_TAIL.size :])
    if mark != _MARK:
        raise ValueError(f"{path} is not a rows file")
    for block in msgspec.json.decode(data[-_TAIL.size - length : -_TAIL.size], type=list[_Block]):
        yield from zlib.decompress(data[block.offset : block.offset + block.length]).split(b"\n")


class RowsReader:
    """Single events out of one segment's rows file, wherever it is kept. Reads its index once, then only the blocks that are needed."""

    def __init__(self, objects: Objects, segment: Segment) -> None:
        self._objects = objects
        self._key = segment.key("rows")
        size = segment.rows_bytes
        start = max(0, size - _FIRST_READ)
        tail = objects.read_bytes(self._key, start, size)
        length, mark = _TAIL.unpack(tail[-_TAIL.size :])
        if mark != _MARK:
            raise ValueError(f"{self._key} is not a rows file")
        index_at = size - _TAIL.size - length
        if index_at < start:
            tail = objects.read_bytes(self._key, index_at, size)
        self._blocks = msgspec.json.decode(tail[-_TAIL.size - length : -_TAIL.size], type=list[_Block])

    def find(self, id_: str) -> Event | None:
        needle = id_needle(id_)
        for block in self._blocks:
            if block.first <= id_ <= block.last:
                for line in self._lines(block):
                    if line.startswith(needle):
                        return msgspec.json.decode(line, type=Event)
        return None

    def newest_first(self, before: str | None = None) -> Iterator[bytes]:
        """Lines from the largest id down; only ids below `before`, if it is given."""
        for block in reversed(self._blocks):
            if before is None or block.first < before:
                yield from reversed(self._lines(block))

    def _lines(self, block: _Block) -> list[bytes]:
        return zlib.decompress(self._objects.read_bytes(self._key, block.offset, block.offset + block.length)).split(b"\n")


def id_needle(id_: str) -> bytes:
    """How the line of the event `id_` begins."""
    return b'{"id":' + msgspec.json.encode(id_)
