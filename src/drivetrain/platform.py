"""Every service, made and named once. What stands above (the doors, pages, loops, the supervisor) takes what it needs from here."""

from __future__ import annotations

from collections.abc import Callable

from drivetrain.checklist.service import Checklists
from drivetrain.config import Settings
from drivetrain.feedback.service import Feedback
from drivetrain.identity.service import Identity
from drivetrain.jobs.kinds import KINDS
from drivetrain.jobs.service import Jobs
from drivetrain.lineage.service import Lineage
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.reference import References
from drivetrain.monitoring.service import Monitors
from drivetrain.registry.service import Registry
from drivetrain.retraining.provenance import Provenances
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout.service import Rollouts
from drivetrain.serving.lineage import Lineages
from drivetrain.serving.service import Serving
from drivetrain.store.backups.backup import backup_database, last_backup_ms
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.lookup import Events
from drivetrain.store.home import Home
from drivetrain.store.migrate import migrate
from drivetrain.store.sql import Database
from drivetrain.tracking.deletion.service import Deletion
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps.service import Sweeps


class Platform:
    """The services on one database. `nudge` tells the supervisor that something was changed; losing a nudge costs time only."""

    def __init__(self, settings: Settings, home: Home, db: Database, *, nudge: Callable[[str], None]) -> None:
        self.settings = settings
        self.home = home
        self.db = db
        self.nudge = nudge
        self.blobs = Blobs(db, settings.blobs_url or str(home.blobs), min_free=settings.min_free_disk_bytes, scratch=home.cache)
        self.identity = Identity(db, home.secret)
        self.jobs = Jobs(db, KINDS, nudge)
        self.lineage = Lineage(db)
        self.registry = Registry(db, self.blobs, serves=lambda commits: self.serving.named_by(commits))  # noqa: PLW0108 - made below
        self.tracking = Tracking.of(db, self.blobs)
        self.deletion = Deletion(db, self.registry.live_blobs, nudge)
        self.sweeps = Sweeps(db, self.tracking)
        self.feedback = Feedback(db)
        self.events = Events(db, self.blobs, home)
        self.serving = Serving(db, self.registry, settings, nudge)
        self.lineages = Lineages(self.events, self.registry, self.tracking, self.feedback, self.lineage)
        self.alerts = Alerts(db, nudge)
        self.channels = Channels(db, self.identity.secrets, nudge)
        self.monitors = Monitors(db, self.serving, References(db, self.registry, self.tracking))
        self.rollouts = Rollouts(db, self.serving, self.feedback, nudge, self.events)
        self.retrainings = Retrainings(
            db, self.registry, self.tracking, self.serving, self.feedback, self.rollouts, self.jobs, self.events, nudge
        )
        self.provenances = Provenances(self.rollouts, self.retrainings, self.lineage)
        self.checklists = Checklists(
            settings,
            serving=self.serving,
            lineage=self.lineage,
            registry=self.registry,
            tracking=self.tracking,
            feedback=self.feedback,
            events=self.events,
            monitors=self.monitors,
            alerts=self.alerts,
            channels=self.channels,
            rollouts=self.rollouts,
            retrainings=self.retrainings,
            auth=self.identity.auth_mode,
            backed_up=lambda: last_backup_ms(home),
        )

    @classmethod
    def open(cls, settings: Settings, home: Home, *, nudge: Callable[[str], None], migrating: bool = False) -> Platform:
        """The services on the database that the settings name. `migrating`: bring it to this version's schema first; whoever holds the
        home's lock does that."""
        db = Database(settings.database_url or home.database_url)
        if migrating:
            migrate(db, backup=lambda: backup_database(home, db))
        platform = cls(settings, home, db, nudge=nudge)
        if migrating:
            platform.identity.bootstrap()
        return platform

    def live_blobs(self) -> set[str]:
        """The blobs that something names."""
        return self.registry.live_blobs() | self.tracking.artifacts.live_blobs()
