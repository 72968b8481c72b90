"""Each request becomes one event: written down, and counted."""

from __future__ import annotations

from drivetrain.serving.gateway.exposures import Exposures, Sink
from drivetrain.serving.gateway.meters import Meters
from drivetrain.serving.routes import DeploymentRoute
from drivetrain.store.events.model import Event


class Record:
    """Of one web process. On its event loop."""

    def __init__(self, spool: Sink) -> None:
        self._spool = spool
        self.exposures = Exposures(spool)
        self.meters = Meters()

    def write(self, event: Event, deployment: DeploymentRoute | None) -> None:
        """Write an event down and count it."""
        self.exposures.settle(event)
        self._spool.append(event)
        if deployment is not None:
            self.meters.count(event, deployment)
