"""Files that are either there whole, and stay, or are not there at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors by which a file system says that there is no room: none left, over quota, over the file size limit."""


def write_file(target: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write `target` so that readers see all of it or what was there before, and it is on disk when this returns."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def place(source: Path, target: Path) -> None:
    """Make the finished, synced file `source` appear as `target` too, durably; an existing target of the same size stays.

    A hard link where the file system has them, else a copy.
    """
    folder = target.parent
    if not folder.is_dir():
        make_folders(folder)
    with contextlib.suppress(FileNotFoundError):
        if target.stat().st_size == source.stat().st_size:
            sync_folder(folder)  # it may have got its name just now, from somebody who has not synced yet
            return
        target.unlink()
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno in FULL:
            raise
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            shutil.copyfile(source, part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    sync_folder(folder)


def make_folders(folder: Path) -> None:
    """`mkdir -p`, durably."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
