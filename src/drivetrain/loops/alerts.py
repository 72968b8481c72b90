"""Messages about alerts: sent one after the other, tried again later and later, each until it has arrived or is given up.

One server at a time sends. A message that went out just before the server was killed goes out again, under the same id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from drivetrain.monitoring.alerts.channels import Channels, Message
from drivetrain.monitoring.alerts.send import Unsent, send
from drivetrain.store.leases import Leases

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
GROUP_SECONDS = 1.0
"""What is raised within this time is told in one message."""
LEASE_SECONDS = 60.0
LONGEST_BACKOFF = 600.0


class AlertsLoop:
    """`poke` when something was raised. `url`: where people find the dashboard."""

    def __init__(self, channels: Channels, leases: Leases, logs: Path, url: Callable[[], str]) -> None:
        self._channels = channels
        self._leases = leases
        self._logs = logs
        self._url = url
        self._waits: dict[str, tuple[int, float]] = {}  # delivery → attempts that failed, when to try again
        self._news = threading.Event()
        self._stopping = False

    def poke(self) -> None:
        self._news.set()

    def stop(self) -> None:
        self._stopping = True
        self._news.set()

    def run(self) -> None:
        while not self._stopping:
            if self._news.wait(LOOK_SECONDS) and not self._stopping:
                time.sleep(GROUP_SECONDS)
            self._news.clear()
            try:
                if not self._stopping and self._leases.acquire("send-alerts", LEASE_SECONDS):
                    self.step()
            except Exception:
                log.exception("the alerts loop failed at a step; it goes on")

    def step(self) -> None:
        messages = self._channels.queued()
        open_ = {message.deliveries[0] for message in messages}
        self._waits = {id_: wait for id_, wait in self._waits.items() if id_ in open_}
        for message in messages:
            if self._stopping or not self._leases.acquire("send-alerts", LEASE_SECONDS):
                return
            attempts, again = self._waits.get(message.deliveries[0], (0, 0.0))
            if time.monotonic() >= again:
                self._send(message, attempts)

    def _send(self, message: Message, attempts: int) -> None:
        try:
            send(message, logs=self._logs, url=self._url())
        except Unsent as error:
            self._channels.settled(list(message.deliveries), error=str(error), final=error.final)
            self._waits[message.deliveries[0]] = (attempts + 1, time.monotonic() + min(LONGEST_BACKOFF, 2.0**attempts))
        else:
            self._channels.settled(list(message.deliveries))
