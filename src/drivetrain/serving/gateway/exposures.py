"""Whose each unit is, written down as soon as it is known: counted when answers end, a slow version's units would seem to be missing.

A request that ends within `PATIENCE` seconds says so in its event; of any other a line of its own is written by twice that time. So units
of both versions are counted at the same age, but for some milliseconds.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from drivetrain.store.events.model import Event, Exposure

PATIENCE = 0.01


class Sink(Protocol):
    """Where events go: `drivetrain.store.events.spool.Spool`. When `append` has returned, the event survives `kill -9`."""

    def append(self, event: Event | Exposure) -> None: ...


class Exposures:
    """Those of one web process that are not written down yet. On its event loop."""

    def __init__(self, spool: Sink) -> None:
        self._spool = spool
        self._waiting: dict[str, tuple[float, Exposure]] = {}  # since when, the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, exposure: Exposure) -> None:
        """A unit was assigned."""
        loop = asyncio.get_running_loop()
        self._waiting[exposure.exposure] = loop.time(), exposure
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE, self._look)

    def settle(self, event: Event) -> None:
        """An event is about to be written."""
        waiting = self._waiting.pop(event.id, None)
        if waiting is None:
            return
        if event.rollout:
            event.exposed = True
        else:  # the weights were moved while it waited: of the answer nothing counts, but of the assignment
            self._spool.append(waiting[1])

    def flush(self) -> None:
        """Write down all that wait."""
        for identity in list(self._waiting):
            self._spool.append(self._waiting.pop(identity)[1])

    def _look(self) -> None:
        """Write down those that have waited long enough."""
        loop = asyncio.get_running_loop()
        due = loop.time() - PATIENCE
        while self._waiting:
            identity, (since, exposure) = next(iter(self._waiting.items()))
            if since > due:
                break
            del self._waiting[identity]
            self._spool.append(exposure)
        self._timer = loop.call_later(PATIENCE, self._look) if self._waiting else None
