"""The reading side of spools: which files there are, which of them nobody writes to any more, and the complete lines in them."""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from drivetrain.store.events.spool import LOCK

_READ = 4 << 20
_PIECE = 128 << 10
_EMPTY_FOLDER_S = 60


class SpoolFile(NamedTuple):
    """`name` is the path below the spool folder. Nothing is ever written again to a `closed` file."""

    name: str
    path: Path
    closed: bool


def spool_files(root: Path) -> list[SpoolFile]:
    """All spool files, oldest folder and file first."""
    found: list[SpoolFile] = []
    for folder in sorted(_folders(root)):
        # Asked before the files are listed: a writer that is gone now adds none.
        dead = _writer_is_gone(folder)
        names = sorted(path.name for path in folder.glob("*.jsonl"))
        found.extend(SpoolFile(f"{folder.name}/{name}", folder / name, dead or name != names[-1]) for name in names)
    return found


def remove_empty_folders(root: Path) -> None:
    """Remove the folders of writers that are gone and left nothing."""
    for folder in _folders(root):
        try:
            young = time.time() - folder.stat().st_mtime < _EMPTY_FOLDER_S  # its writer may be about to begin
            if not young and _writer_is_gone(folder) and {path.name for path in folder.iterdir()} <= {LOCK}:
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
        except FileNotFoundError:
            continue


def complete_end(path: Path) -> int:
    """How many bytes of the file are complete lines."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (64 << 10))
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
    return 0


def complete_lines(path: Path, start: int) -> Iterator[bytes]:
    """Complete lines from `start` on, some at a time, of some megabytes in all at most; none if there is no new one. Pieces are small: what
    is read stays near the processor until it is decoded."""
    rest, taken = b"", 0
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while taken < _READ and (data := file.read(_PIECE)):
            end = data.rfind(b"\n") + 1
            if not end:
                rest += data
                continue
            piece = rest + data[:end]
            rest = data[end:]
            taken += len(piece)
            yield piece


def lines_backwards(path: Path) -> Iterator[bytes]:
    """The complete lines of a file, last first, without their line feeds."""
    with _mapped(path) as data:
        if data is None:
            return
        end = data.rfind(b"\n")
        while end > 0:
            start = data.rfind(b"\n", 0, end) + 1
            if start < end:
                yield data[start:end]
            end = start - 1


def find_line(path: Path, beginning: bytes) -> bytes | None:
    """The complete line that begins with these bytes. It is looked for from the end: what people ask for has mostly just happened."""
    with _mapped(path) as data:
        if data is None:
            return None
        at = data.rfind(beginning)
        while at >= 0:
            if at == 0 or data[at - 1 : at] == b"\n":
                end = data.find(b"\n", at)
                return data[at:end] if end >= 0 else None
            at = data.rfind(beginning, 0, at + len(beginning) - 1)
    return None


class _mapped:  # noqa: N801 - used as a function
    def __init__(self, path: Path) -> None:
        self._path = path
        self._map: mmap.mmap | None = None

    def __enter__(self) -> mmap.mmap | None:
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


def _writer_is_gone(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Not yet there at a writer's very start, when there are no files either.
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
