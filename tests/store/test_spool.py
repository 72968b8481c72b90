"""The spool: what is appended is read, whatever is cut off where."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.store.events.model import Event
from drivetrain.store.events.spool import Spool
from drivetrain.store.events.spoolfiles import complete_end, complete_lines, find_line, lines_backwards, spool_files
from drivetrain.store.ids import uuid7
from tests.conftest import wait_for

APPEND_FOR_EVER = """
import itertools, sys, time
from pathlib import Path
from drivetrain.store.events.model import Event
from drivetrain.store.ids import uuid7
from drivetrain.store.events.spool import Spool
spool = Spool(Path(sys.argv[1]))
for i in itertools.count(1):
    if i % 200 == 0:
        spool.rotate()
    event = Event(id=uuid7(), t=time.time_ns(), output="x" * 100)
    spool.append(event)
    print(event.id, flush=True)
"""


def event(**fields: object) -> Event:
    return msgspec.convert({"id": uuid7(), "t": time.time_ns(), **fields}, Event)


def test_append_and_read_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool" / "a")
    events = [event(deployment="d", output='täxt\n"quoted"') for _ in range(100)]
    for one in events:
        spool.append(one)
    [file] = spool_files(tmp_path / "spool")
    assert [msgspec.json.decode(line, type=Event) for line in lines_backwards(file.path)] == events[::-1]
    assert find_line(file.path, b'{"id":"' + events[7].id.encode()) == msgspec.json.encode(events[7])
    assert find_line(file.path, b'"deployment"') is None  # only at the beginning of a line
    assert not file.closed
    spool.close()
    [file] = spool_files(tmp_path / "spool")
    assert file.closed
    assert spool.lost == 0


def test_a_file_is_closed_by_rotation_by_size_and_by_age(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s" / "a", fsync_s=0.01, segment_s=0.1, segment_bytes=1000)
    spool.append(event())
    wait_for(lambda: len(spool_files(tmp_path / "s")) == 2, seconds=10, what="rotation by age")
    spool.append(event(output="x" * 2000))
    wait_for(lambda: len(spool_files(tmp_path / "s")) == 3, seconds=10, what="rotation by size")
    spool.rotate()  # nothing in it: nothing to close
    assert [file.closed for file in spool_files(tmp_path / "s")] == [True, True, False]
    spool.close()


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", APPEND_FOR_EVER, str(tmp_path / "s" / "a")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip().decode() for _ in range(500)]
    assert not spool_files(tmp_path / "s")[-1].closed
    process.kill()
    acknowledged += [line.decode().strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    process.wait()
    process.stdout.close()
    files = spool_files(tmp_path / "s")
    assert len(files) > 1
    assert all(file.closed for file in files)
    written = [json.loads(line)["id"] for file in files for line in file.path.read_bytes().split(b"\n")[:-1]]
    assert written[: len(acknowledged)] == acknowledged
    assert len(written) <= len(acknowledged) + 1


@given(
    lines=st.lists(st.binary(max_size=300).map(lambda b: b.replace(b"\n", b"")), max_size=20),
    tail=st.binary(max_size=200),
    cut=st.integers(0, 50),
)
def test_only_complete_lines_are_read(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], tail: bytes, cut: int) -> None:
    path = tmp_path_factory.mktemp("lines") / "file"
    whole = b"".join(line + b"\n" for line in lines)
    path.write_bytes(whole + tail.replace(b"\n", b""))
    assert complete_end(path) == len(whole)
    assert b"".join(complete_lines(path, 0)) == whole
    assert list(lines_backwards(path)) == [line for line in reversed(lines) if line]
    start = min(cut, len(whole))
    assert b"".join(complete_lines(path, start)) == whole[start:]


def test_a_line_longer_than_the_read_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (9 << 20) + b"\nshort\n")
    assert len(b"".join(complete_lines(path, 0))) == (9 << 20) + 7
