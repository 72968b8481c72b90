"""Events: count what the spools of this host hold, make segments of closed files, forget what is too old."""

from __future__ import annotations

import logging
import threading
import time

from drivetrain.config import Settings
from drivetrain.store.events.fold import EventFolder
from drivetrain.store.leases import Leases

log = logging.getLogger(__name__)

FOLD_SECONDS = 0.5
EXPIRE_SECONDS = 3600.0


class EventsLoop:
    """Each server folds the spools of its own host; only expiry is global, and so it holds a lease."""

    def __init__(self, folder: EventFolder, leases: Leases, settings: Settings) -> None:
        self._folder = folder
        self._leases = leases
        self._settings = settings
        self._end = threading.Event()

    def stop(self) -> None:
        self._end.set()

    def run(self) -> None:
        compacted = time.monotonic()
        expired = time.monotonic() - EXPIRE_SECONDS + 60
        while not self._end.wait(FOLD_SECONDS):
            try:
                self._folder.fold()
                now = time.monotonic()
                if now - compacted > self._settings.event_segment_seconds:
                    compacted = now
                    self._folder.compact()
                if now - expired > EXPIRE_SECONDS:
                    expired = now
                    if self._leases.acquire("expire-events", EXPIRE_SECONDS):
                        self._folder.expire()
            except Exception:
                log.exception("the events loop failed at a step; it goes on")
        try:
            self._folder.fold()
        except Exception:
            log.exception("the last events were not counted; the next start will count them")
