"""The hot path: a request comes in from a dialect, goes to a replica, and becomes one event.

A dialect opens an `Exchange`, tells it the name, and sends the canonical body:

    with gateway.exchange(request, dialect="openai", task="chat") as call:
        await call.route(name, unit=user, stream=False, body=body)
        answer = await call.fetch("/v1/chat/completions", body)     # or `open` for a stream
        call.finish(output=text, tokens_in=…, tokens_out=…)          # before the last byte of the answer
        await request.respond(200, answer.body, "application/json")

Everything is decided from the route snapshot in memory: no SQL (but for a name that nobody has called before), no locks. Whatever happens
inside the block, exactly one event is written: success, error, refusal, or a client that went away, in which case the work on the
replica is cancelled and the block ends with `Disconnected`.
"""

from __future__ import annotations

from collections.abc import Callable

from drivetrain.config import Settings
from drivetrain.serving.gateway.directory import Directory, Implicit, Routes
from drivetrain.serving.gateway.exchange import Exchange, Incoming
from drivetrain.serving.gateway.exposures import Sink
from drivetrain.serving.gateway.record import Record
from drivetrain.serving.gateway.shadow import Shadows


class Gateway:
    """One for each web process. `implicit` makes the on-demand deployment of a registry name, or raises."""

    def __init__(self, routes: Routes, spool: Sink, wake: Callable[[str], None], implicit: Implicit, settings: Settings) -> None:
        self._record = Record(spool)
        self.meters = self._record.meters
        self.directory = Directory(routes, wake, implicit, settings, self.meters.trim)
        self.shadows = Shadows(self.directory, self._record)

    def exchange(self, request: Incoming, *, dialect: str, task: str) -> Exchange:
        return Exchange(self.directory, self._record, self.shadows, request, dialect, task)

    async def close(self) -> None:
        """Close what is idle. Call it when no request is in flight any more."""
        await self.shadows.close()
        self._record.exposures.flush()
        await self.directory.close()
