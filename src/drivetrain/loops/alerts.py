"""Messages about alerts: sent one after the other, tried again later and later, each until it has arrived or is given up.

One server at a time sends. A message that went out just before the server was killed goes out again, under the same id.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from drivetrain.loops.loop import Loop
from drivetrain.monitoring.alerts.channels import Channels, Message
from drivetrain.monitoring.alerts.send import Unsent, send

LONGEST_BACKOFF = 600.0


class AlertSender:
    """`url`: where people find the dashboard."""

    def __init__(self, channels: Channels, logs: Path, url: Callable[[], str]) -> None:
        self._channels = channels
        self._logs = logs
        self._url = url
        self._waits: dict[str, tuple[int, float]] = {}  # delivery → attempts that failed, when to try again

    def step(self, loop: Loop) -> None:
        if not loop.mine():
            return
        messages = self._channels.queued()
        open_ = {message.deliveries[0] for message in messages}
        self._waits = {id_: wait for id_, wait in self._waits.items() if id_ in open_}
        for message in messages:
            if not loop.mine():
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
