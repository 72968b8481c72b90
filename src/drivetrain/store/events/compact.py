"""Turn spooled events into segments: `python -m drivetrain.store.events.compact PARENT`. Short-lived, so that nobody else imports Polars.

Standard input is a `Work` as JSON, standard output the list of `Made` as JSON. Files are written to `Work.out` and nothing else is
touched: the caller gives them their place, so that a process killed here leaves nothing but scratch.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from drivetrain.store.child import end_with
from drivetrain.store.events.model import Event
from drivetrain.store.events.segments import Segment, read_lines, write_rows
from drivetrain.store.ids import uuid7, uuid7_ms

if TYPE_CHECKING:
    import polars as pl


class Work(Struct):
    """`spools`: paths of spool files and how many bytes of each to take. `rows`: rows files of segments to merge."""

    out: str
    spools: list[tuple[str, int]] = []
    rows: list[str] = []


class Made(Struct):
    """A new segment, and where its two files are now."""

    segment: Segment
    parquet: str
    rows: str


def main() -> None:
    if len(sys.argv) > 1:
        threading.Thread(target=end_with, args=(int(sys.argv[1]),), daemon=True).start()
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    sys.stdout.buffer.write(msgspec.json.encode(compact(work)))


def compact(work: Work) -> list[Made]:
    """Write the segments of all events in `work`."""
    decoder = msgspec.json.Decoder(Event)
    events: list[tuple[Event, bytes]] = []
    for line in _lines(work):
        try:
            events.append((decoder.decode(line), line))
        except msgspec.DecodeError:
            continue  # an exposure, or cut off by a full disk, which the fold has reported
    events.sort(key=lambda pair: (pair[0].workspace, pair[0].deployment, _day(pair[0]), pair[0].id))
    groups = itertools.groupby(events, key=lambda pair: (pair[0].workspace, pair[0].deployment, _day(pair[0])))
    return [_write(Path(work.out), workspace, deployment, day, list(group)) for (workspace, deployment, day), group in groups]


def _lines(work: Work) -> Iterator[bytes]:
    for path, upto in work.spools:
        with Path(path).open("rb") as file:
            yield from (line for line in file.read(upto).split(b"\n") if line)
    for path in work.rows:
        yield from read_lines(Path(path))


def _write(out: Path, workspace: str, deployment: str, day: str, events: list[tuple[Event, bytes]]) -> Made:
    id_ = uuid7()
    parquet, rows = out / f"{id_}.parquet", out / f"{id_}.rows"
    _frame([event for event, _ in events]).write_parquet(parquet, compression="zstd")
    write_rows(rows, [(event.id, line) for event, line in events])
    times = [moment for event, _ in events for moment in _moments(event)]
    segment = Segment(
        id=id_,
        workspace=workspace,
        deployment=deployment,
        day=day,
        from_ms=min(times),
        to_ms=max(times),
        rows=len(events),
        errors=sum(1 for event, _ in events if event.error),
        bytes=parquet.stat().st_size,
        rows_bytes=rows.stat().st_size,
    )
    return Made(segment, str(parquet), str(rows))


def _frame(events: list[Event]) -> pl.DataFrame:
    import polars as pl

    kinds = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String, int | None: pl.Int64, float | None: pl.Float64}
    schema = {field.name: kinds.get(field.type, pl.String) for field in msgspec.structs.fields(Event)}
    return pl.DataFrame({name: [getattr(event, name) for event in events] for name in schema}, schema=schema)


def _day(event: Event) -> str:
    return datetime.fromtimestamp(event.t / 1e9, tz=UTC).date().isoformat()


def _moments(event: Event) -> Iterator[int]:
    yield event.t // 1_000_000
    try:
        yield uuid7_ms(event.id)
    except ValueError:
        return


if __name__ == "__main__":
    main()
