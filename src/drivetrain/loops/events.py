"""Events: count what the spools of this host hold, make segments of closed files, forget what is too old."""

from __future__ import annotations

import time
from collections.abc import Callable

from drivetrain.config import Settings
from drivetrain.loops.loop import Loop
from drivetrain.store.events.fold import EventFolder


class SpoolWatch:
    """Each server folds the spools of its own host."""

    def __init__(self, folder: EventFolder, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._settings = settings
        self._clock = clock
        self._compacted = clock()

    def step(self, loop: Loop) -> None:
        self._folder.fold()
        now = self._clock()
        if now - self._compacted > self._settings.event_segment_seconds:
            self._compacted = now
            self._folder.compact()


class EventExpiry:
    """What is too old is the same for all servers of a database: one of them deletes it."""

    def __init__(self, folder: EventFolder) -> None:
        self._folder = folder

    def step(self, loop: Loop) -> None:
        if loop.mine():
            self._folder.expire()
