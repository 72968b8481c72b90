"""Find the runs whose client has died without a word: no heartbeat for five minutes.

The time is measured by this process's own clock, from when it first saw the heartbeat as it is: a wall clock that jumps ends nobody's run,
and after a restart of the server every client has five minutes again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from drivetrain.loops.loop import Loop
from drivetrain.tracking.service import Tracking

log = logging.getLogger(__name__)

SILENCE_SECONDS = 300.0
"""wandb's client sends something at least every 30 s."""


class HeartbeatWatch:
    """Finds the runs that have gone silent, by what it has seen of all since it was made."""

    def __init__(
        self,
        tracking: Tracking,
        *,
        clock: Callable[[], float] = time.monotonic,
        silence_s: float = SILENCE_SECONDS,
    ) -> None:
        self._tracking = tracking
        self._clock = clock
        self._silence_s = silence_s
        self._seen: dict[str, tuple[int, float]] = {}

    def step(self, loop: Loop) -> None:
        if loop.mine():
            self.look()

    def look(self) -> int:
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
