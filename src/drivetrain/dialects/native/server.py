"""The server about itself: `/health` for probes, `/metrics` for Prometheus."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from importlib.metadata import version

from fastapi import APIRouter, Response

from drivetrain.answers import server as answers
from drivetrain.identity.model import Context, Scope
from drivetrain.store.events.spool import Spool
from drivetrain.store.sql import Database
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class Health:
    """Whether this process can serve. The database is looked at once a second at most: a probe must not be a load."""

    def __init__(self, db: Database, spool: Spool, generation: Callable[[], int]) -> None:
        self._db = db
        self._spool = spool
        self._generation = generation
        self._looked = float("-inf")
        self._database = "ok"

    def look(self) -> tuple[int, answers.Health]:
        """Status of the answer, and what it says. What is deployed is served on while the database is away, so that is no 503."""
        if (now := time.monotonic()) - self._looked > LOOK_SECONDS:
            self._looked = now
            self._database = self._reach()
        ready = self._generation() > 0
        well = ready and self._database == "ok" and not self._spool.problem
        return (200 if ready else 503), answers.Health(
            status="ok" if well else "degraded" if ready else "starting",
            version=version("drivetrain"),
            database=self._database,
            events=self._spool.problem or "ok",
            events_lost=self._spool.lost,
        )

    def _reach(self) -> str:
        try:
            with self._db.read() as connection:
                connection.exec_driver_sql("SELECT 1")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the probe asks for
            log.warning("the database cannot be reached: %s", error)
            return "unreachable"
        return "ok"


def router(health: Health, metrics: Callable[[Context], str]) -> APIRouter:
    api = native_router("server", prefix="")

    @api.get("/health")
    def healthy(response: Response) -> answers.Health:
        """200 when this server can serve. `database` and `events` say what is amiss while it can."""
        response.status_code, told = health.look()
        return told

    @api.get("/metrics", response_class=Response)
    def measured(ctx: Asking) -> Response:
        """Prometheus' text format: what was answered by dialect, and by deployment and variant of the workspace."""
        ctx.require(Scope.read)
        return Response(metrics(ctx), media_type="text/plain; version=0.0.4; charset=utf-8")

    return api
