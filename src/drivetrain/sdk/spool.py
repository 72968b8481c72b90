"""A run's folder: records in one file that only grows, each on a line with its length and CRC; beside it how far they have been sent.

meta.json      which run, which process wrote it, which server it is for
records        one record a line: CRC-32 and length in hex, then JSON
sent           the offset up to which the server has confirmed
base           of a resumed run: the step that its first is here
files/         copies of artifacts
lock           held by the process that sends
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetrain.config import default_home

Json = dict[str, Any]
HEAD = 18
POINTS = ("points", "more points")
"""Kinds of records: at the steps that they say, or that many after the last of a run that goes on."""


def outbox() -> Path:
    """Where runs wait to be sent: `outbox` in DRIVETRAIN_HOME, else in the user's data folder; the same for every working folder."""
    return default_home() / "outbox"


def folders(root: Path) -> list[Path]:
    """The runs that wait, the oldest first."""
    if (root / "meta.json").is_file():
        return [root]
    return sorted(one.parent for one in root.glob("*/meta.json"))


def framed(record: Mapping[str, Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %08x %b\n" % (zlib.crc32(body), len(body), body)


def unframed(line: bytes) -> Json | None:
    """None for what is torn or changed."""
    body = line[HEAD:-1]
    try:
        if int(line[:8], 16) != zlib.crc32(body) or int(line[9:17], 16) != len(body):
            return None
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read(folder: Path, offset: int, *, most: int = 4 << 20) -> Iterator[tuple[int, Json | None]]:
    """(offset after it, record) of each whole line from `offset` on; a line still being written is left for later."""
    try:
        file = (folder / "records").open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        end = offset + most
        while offset < end:
            line = file.readline()
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, unframed(line)


def write_all(descriptor: int, records: Sequence[Mapping[str, Any]]) -> None:
    data = memoryview(b"".join(framed(one) for one in records))
    while data:
        data = data[os.write(descriptor, data) :]


def load(folder: Path) -> Json:
    found: Json = json.loads((folder / "meta.json").read_text())
    return found


def replace(file: Path, text: str) -> None:
    """All of it or nothing, and durable."""
    new = file.with_suffix(".new")
    with new.open("w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def sent(folder: Path) -> int:
    try:
        return int((folder / "sent").read_text())
    except (OSError, ValueError):
        return 0


def ended(folder: Path) -> bool:
    """Whether all is sent, and the last of it was the run's end."""
    offset, last = sent(folder), None
    if not offset or offset != (folder / "records").stat().st_size:
        return False
    with (folder / "records").open("rb") as file:
        file.seek(max(0, offset - 4096))
        last = unframed(file.read().splitlines(keepends=True)[-1])
    return last is not None and last["k"] == "end"


def alive(meta: Mapping[str, Any]) -> bool:
    """Whether the process that logs is still there; a later one with its number is another."""
    import psutil

    try:
        process = psutil.Process(int(meta["pid"]))
        gone = process.status() == psutil.STATUS_ZOMBIE
        return not gone and abs(process.create_time() - float(meta["born"])) < 2
    except psutil.Error:
        return False
