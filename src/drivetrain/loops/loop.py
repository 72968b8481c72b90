"""One loop of the supervisor: a step that is taken again and again, on a thread of its own, until it is stopped.

A loop is its step and a row in the supervisor's table. What all of them share is here: waiting by a monotonic clock, so that no clock that
jumps delays or hurries anything; being poked; the lease of what one server at a time does; and what becomes of a step that fails.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from drivetrain.store.leases import Leases

log = logging.getLogger(__name__)

Step = Callable[["Loop"], float | None]
"""Gets its loop, and may say in how many seconds the next step is to be taken."""


class Loop:
    """Takes `step` every `interval` seconds (`first`: before the first one), and as soon as it is poked. Pokes that come within `gather`
    seconds are one. `lease`: for how many seconds this server holds the loop's name, where one server at a time does something; the step
    asks `mine` before it does that. `end` is called when the loop has been stopped."""

    def __init__(
        self,
        name: str,
        step: Step,
        *,
        interval: float,
        first: float | None = None,
        gather: float = 0.0,
        leases: Leases | None = None,
        lease: float = 0.0,
        end: Callable[[], object] = lambda: None,
    ) -> None:
        self.name = name
        self.news = False
        """Whether the step that is being taken was asked for by a poke."""
        self._step = step
        self._interval = interval
        self._first = interval if first is None else first
        self._gather = gather
        self._leases = leases if lease else None
        self._lease_seconds = lease
        self._end = end
        self._poked = threading.Event()
        self._awake = threading.Event()
        self._stopped = threading.Event()

    def poke(self) -> None:
        """There is news: take a step now. During a step: another one right after it."""
        self._poked.set()
        self._awake.set()

    def wake(self) -> None:
        """Take a step now, without news: what the loop itself has begun elsewhere is done."""
        self._awake.set()

    def stop(self) -> None:
        """End after the step that is being taken, at once while it waits."""
        self._stopped.set()
        self._awake.set()

    def mine(self) -> bool:
        """Whether this server is to go on doing what one server at a time does: it holds the lease, which is taken or renewed here, and
        the loop was not stopped. Cheap to ask often: a step that takes long asks between one thing and the next."""
        if self._stopped.is_set():
            return False
        return self._leases is None or self._leases.keep(self.name, self._lease_seconds)

    def run(self) -> None:
        """Take steps until `stop`. Raises nothing: what a step raises is logged, and the next one is taken after the interval."""
        seconds = self._first
        while True:
            if self._awake.wait(seconds) and self._gather:
                self._stopped.wait(self._gather)
            if self._stopped.is_set():
                break
            try:
                seconds = self.step()
            except Exception:
                log.exception("the %s loop failed at a step; it goes on", self.name)
                seconds = self._interval
        try:
            self._end()
            if self._leases is not None and self._leases.held(self.name):
                self._leases.release(self.name)
        except Exception:
            log.exception("the %s loop failed at its end; the next start makes up for it", self.name)

    def step(self) -> float:
        """Take one step, here and now; in how many seconds the next one is to be taken."""
        self._awake.clear()  # before the step: a poke during it is for the next one
        self.news = self._poked.is_set()
        if self.news:
            self._poked.clear()
        seconds = self._step(self)
        return self._interval if seconds is None else seconds
