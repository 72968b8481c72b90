"""Delete for good what somebody, or a workspace's policy, has let go. One server at a time does it.

After a crash in the middle the next one, or the next life of this one, goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from drivetrain.loops.loop import Loop
from drivetrain.tracking.deletion.purging import Purger
from drivetrain.tracking.deletion.service import Deletion

POLICY_SECONDS = 900.0


class Purging:
    """Poked when something was let go, or a policy has changed."""

    def __init__(self, deletion: Deletion, purger: Purger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._deletion = deletion
        self._purger = purger
        self._clock = clock
        self._asked = float("-inf")

    def step(self, loop: Loop) -> None:
        """Everything that is to go now."""
        if loop.news:
            self._asked = float("-inf")
        if not loop.mine():
            return
        now = self._clock()
        if now - self._asked >= POLICY_SECONDS:
            self._asked = now
            self._deletion.due()
        while loop.mine() and self._purger.step():
            pass
