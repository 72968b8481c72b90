"""What the pages need of the platform: the services whose verbs they call. `app` passes an object that has them all."""

from __future__ import annotations

from typing import Protocol

from drivetrain.checklist.service import Checklists
from drivetrain.config import Settings
from drivetrain.identity.service import Identity
from drivetrain.jobs.service import Jobs
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.service import Monitors
from drivetrain.registry.service import Registry
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout.service import Rollouts
from drivetrain.serving.lineage import Lineages
from drivetrain.serving.service import Serving
from drivetrain.store.events.lookup import Events
from drivetrain.store.home import Home
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps.service import Sweeps


class Services(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def home(self) -> Home: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def registry(self) -> Registry: ...
    @property
    def tracking(self) -> Tracking: ...
    @property
    def sweeps(self) -> Sweeps: ...
    @property
    def serving(self) -> Serving: ...
    @property
    def events(self) -> Events: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def lineages(self) -> Lineages: ...
    @property
    def rollouts(self) -> Rollouts: ...
    @property
    def alerts(self) -> Alerts: ...
    @property
    def channels(self) -> Channels: ...
    @property
    def monitors(self) -> Monitors: ...
    @property
    def retrainings(self) -> Retrainings: ...
    @property
    def checklists(self) -> Checklists: ...

    def nudge(self, what: str) -> None:
        """Say that something was changed, so that it takes effect at once."""
