"""The spool: where a web process puts its events down, one JSON line each, before it finishes an answer.

One folder for each start of a process, one file after another in it: `000001.jsonl`, `000002.jsonl`, … A file is closed for good once
the next one exists, or once nobody holds the lock on `writer.lock` any more (the process is gone, however it went). A line without its
line feed at the end of a file is one that was cut off; readers leave it alone.

An event survives `kill -9` when `append` returns, and a power failure `fsync_s` later.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from pathlib import Path

import msgspec

from drivetrain.store.events.model import Event, Exposure
from drivetrain.store.files import make_folders, sync_folder

log = logging.getLogger(__name__)

LOCK = "writer.lock"


class Spool:
    """The writing side. `append` is for the hot path: one encoding, one write, no waiting for the disk."""

    def __init__(self, folder: Path, *, fsync_s: float = 0.1, segment_s: float = 10.0, segment_bytes: int = 16 << 20) -> None:
        self.folder = folder
        self.lost = 0  # events that could not be written since the process began
        self.problem = ""  # why the last event was not written; "" while all is well
        self._fsync_s = fsync_s
        self._segment_s = segment_s
        self._segment_bytes = segment_bytes
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = False
        self._dirty = False
        self._fd = -1
        self._number = 0
        self._size = 0
        self._torn = False
        self._born = 0.0
        make_folders(folder)
        self._writer_lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._writer_lock, fcntl.LOCK_EX)
        self._settle(self._try_next_file())
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    def append(self, event: Event | Exposure) -> None:
        """Write `event` down. Never raises for a full disk: the answer matters more; the loss is counted in `lost`."""
        with self._lock:
            buffer = self._buffer
            self._encoder.encode_into(event, buffer)
            buffer += b"\n"
            self._write(buffer)
            if self._dirty or self._fd < 0:
                return
            self._dirty = True
        self._wake.set()

    def rotate(self) -> None:
        """Close the current file, if it has anything in it, and begin the next."""
        with self._lock:
            old = self._try_next_file() if self._size or self._fd < 0 else None
        self._settle(old)

    def close(self) -> None:
        """Make everything durable and let go of the folder."""
        with self._lock:
            self._stop = True
        self._wake.set()
        self._thread.join()
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1
            if self._writer_lock >= 0:
                os.close(self._writer_lock)
                self._writer_lock = -1

    def _write(self, line: bytearray) -> None:
        if self._torn:
            line[:0] = b"\n"  # ends the cut-off line, which readers will skip
        try:
            if self._fd < 0:
                self._settle(self._next_file())
            written = os.write(self._fd, line)
            if written != len(line):
                os.ftruncate(self._fd, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._lose(error)
            return
        self._size += written
        self._torn = False
        if self.problem:
            log.warning("events are written again; %d were lost", self.lost)
            self.problem = ""
        if self._size >= self._segment_bytes:
            self._wake.set()

    def _lose(self, error: OSError) -> None:
        self.lost += 1
        if self._fd >= 0:
            try:
                size = os.fstat(self._fd).st_size
                self._torn, self._size = size != self._size, size
            except OSError:
                self._torn = True
        self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self.problem:
            log.warning("events cannot be written to %s: %s", self.folder, error)
        self.problem = f"Events cannot be written: {error.strerror or error}. Free some space on the disk of the home."

    def _try_next_file(self) -> int | None:
        """As `_next_file`; None when there is no room for another file."""
        try:
            return self._next_file()
        except OSError as error:
            self._warn(error)
            self._born = time.monotonic()
            return None

    def _next_file(self) -> int:
        """Open the next file; the descriptor of the one before (-1: none), which the caller must `_settle`."""
        # Readers take a file for closed once a later one exists: nothing may be written to the old one from here on.
        number = self._number + 1
        fd = os.open(self.folder / f"{number:06d}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        old, self._fd = self._fd, fd
        self._number, self._size, self._torn, self._born = number, 0, False, time.monotonic()
        return old

    def _settle(self, old: int | None) -> None:
        """Make a finished file and its successor's name durable; outside the lock, so that a slow disk does not hold up events."""
        if old is None:
            return
        try:
            if old >= 0:
                try:
                    os.fsync(old)
                finally:
                    os.close(old)
            sync_folder(self.folder)
        except OSError as error:
            log.warning("events in %s may not be on disk: %s", self.folder, error)

    def _run(self) -> None:
        while not self._stop:
            # Idle processes sleep until there is an event; a file with events in it is closed when its time has come.
            timeout = max(0.0, self._born + self._segment_s - time.monotonic()) if self._size else None
            self._wake.wait(timeout)
            self._wake.clear()
            self._sync()
            with self._lock:
                due = time.monotonic() - self._born >= self._segment_s or self._size >= self._segment_bytes
                old = self._try_next_file() if self._size and due and not self._stop else None
            self._settle(old)
            if not self._stop:
                time.sleep(self._fsync_s)

    def _sync(self) -> None:
        with self._lock:
            if not self._dirty or self._fd < 0:
                return
            self._dirty = False
            descriptor = os.dup(self._fd)
        try:
            os.fsync(descriptor)
        except OSError as error:
            log.warning("events in %s may not be on disk: %s", self.folder, error)
        finally:
            os.close(descriptor)
