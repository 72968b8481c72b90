"""Find the runs whose client has died without a word: no heartbeat for five minutes.

The time is measured by this process's own clock, from when it first saw the heartbeat as it is: a wall clock that jumps ends nobody's run,
and after a restart of the server every client has five minutes again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from drivetrain.store.leases import Leases
from drivetrain.tracking.service import Tracking

log = logging.getLogger(__name__)

SILENCE_SECONDS = 300.0
"""wandb's client sends something at least every 30 s."""
EVERY_SECONDS = 20.0


class HeartbeatsLoop:
    def __init__(
        self,
        tracking: Tracking,
        leases: Leases,
        *,
        clock: Callable[[], float] = time.monotonic,
        silence_s: float = SILENCE_SECONDS,
    ) -> None:
        self._tracking = tracking
        self._leases = leases
        self._clock = clock
        self._silence_s = silence_s
        self._seen: dict[str, tuple[int, float]] = {}
        self._end = threading.Event()

    def stop(self) -> None:
        self._end.set()

    def run(self) -> None:
        while not self._end.wait(EVERY_SECONDS):
            try:
                if self._leases.acquire("heartbeats", 3 * EVERY_SECONDS):
                    self.step()
            except Exception:
                log.exception("the heartbeats loop failed at a step; it goes on")

    def step(self) -> int:
        """How many runs were found to have crashed."""
        now = self._clock()
        beating = self._tracking.reports.beating()
        before, self._seen = self._seen, {}
        found = 0
        for run_id, beat in beating.items():
            old, since = before.get(run_id, (beat, now))
            if old != beat:
                since = now
            if now - since >= self._silence_s and self._tracking.reports.crashed(run_id, beat):
                log.info("run %s has crashed: its client has said nothing for %.0f s", run_id, now - since)
                found += 1
            else:
                self._seen[run_id] = (beat, since)
        return found
