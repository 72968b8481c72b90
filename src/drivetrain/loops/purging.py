"""Delete for good what somebody, or a workspace's policy, has let go. One server at a time does it.

After a crash in the middle the next one, or the next life of this one, goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from drivetrain.store.leases import Leases
from drivetrain.tracking.deletion.purging import Purger
from drivetrain.tracking.deletion.service import Deletion

log = logging.getLogger(__name__)

FIRST_SECONDS = 2.0
LOOK_SECONDS = 20.0
POLICY_SECONDS = 900.0
LEASE = "gc"
LEASE_SECONDS = 60.0


class PurgingLoop:
    """`poke` when something was let go, or a policy has changed."""

    def __init__(self, deletion: Deletion, purger: Purger, leases: Leases, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._deletion = deletion
        self._purger = purger
        self._leases = leases
        self._clock = clock
        self._asked = float("-inf")
        self._news = threading.Event()
        self._stopping = False

    def poke(self) -> None:
        self._asked = float("-inf")
        self._news.set()

    def stop(self) -> None:
        self._stopping = True
        self._news.set()

    def run(self) -> None:
        seconds = FIRST_SECONDS  # not while people wait for the server to start
        while not self._stopping:
            self._news.wait(seconds)
            self._news.clear()
            seconds = LOOK_SECONDS
            try:
                if not self._stopping and self._leases.acquire(LEASE, LEASE_SECONDS):
                    self.step()
            except Exception:
                log.exception("the purging loop failed at a step; it goes on")
        if self._leases.held(LEASE):
            self._leases.release(LEASE)

    def step(self) -> None:
        """Everything that is to go now."""
        now = self._clock()
        if now - self._asked >= POLICY_SECONDS:
            self._asked = now
            self._deletion.due()
        renewed = now
        while not self._stopping and self._purger.step():
            if self._clock() - renewed >= LEASE_SECONDS / 3:
                renewed = self._clock()
                if not self._leases.acquire(LEASE, LEASE_SECONDS):
                    return
