"""The production checklist of a deployment: gathers what is known of it from everybody's service. The lines themselves are in `checks`."""

from __future__ import annotations

from collections.abc import Callable

from drivetrain.checklist.lines import DAY_MS, Facts, lines
from drivetrain.checklist.model import Checklist, Standing
from drivetrain.config import Settings
from drivetrain.errors import NotFound
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage.service import Lineage
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.service import Monitors
from drivetrain.profiles.model import FILE
from drivetrain.registry.model import Version
from drivetrain.registry.service import Registry
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout.service import Rollouts
from drivetrain.serving.model import Deployment, Variant
from drivetrain.serving.service import Serving
from drivetrain.store.events.lookup import Events
from drivetrain.store.ids import now_ms
from drivetrain.tracking.model import Owner, Run
from drivetrain.tracking.service import Tracking

LOOKED_AT = 50
"""Newest requests that tell whether requests say whose they are."""


class Checklists:
    """Asks everybody about one deployment. `auth` and `backed_up` tell of the server: how it lets people in, and when its home was last
    backed up (milliseconds, None for never)."""

    def __init__(
        self,
        settings: Settings,
        *,
        serving: Serving,
        lineage: Lineage,
        registry: Registry,
        tracking: Tracking,
        feedback: Feedback,
        events: Events,
        monitors: Monitors,
        alerts: Alerts,
        channels: Channels,
        rollouts: Rollouts,
        retrainings: Retrainings,
        auth: Callable[[], str],
        backed_up: Callable[[], int | None],
    ) -> None:
        self._settings = settings
        self._serving = serving
        self._lineage = lineage
        self._registry = registry
        self._tracking = tracking
        self._feedback = feedback
        self._events = events
        self._monitors = monitors
        self._alerts = alerts
        self._channels = channels
        self._rollouts = rollouts
        self._retrainings = retrainings
        self._auth = auth
        self._backed_up = backed_up

    def of(self, ctx: Context, deployment: str) -> Checklist:
        """The checklist of a deployment. Raises `NotFound`."""
        ctx.require(Scope.read)
        found = lines(self._facts(ctx, self._serving.get(ctx, deployment)))
        ready = not any(line.required and line.state is Standing.missing for line in found)
        return Checklist(deployment=deployment, ready=ready, lines=found)

    def _facts(self, ctx: Context, deployment: Deployment) -> Facts:
        live = [one for one in deployment.variants if one.retired_ms is None]
        variant = max(live, key=lambda one: (one.weight, one.created_ms), default=None)
        version = self._version(ctx, variant)
        run = self._run(ctx, version)
        history = self._serving.history(ctx, deployment.name)
        newest = self._events.recent(ctx.workspace_id, deployment=deployment.id, limit=LOOKED_AT)
        now = now_ms()
        policy, paused = self._policy(ctx, deployment.name)
        return Facts(
            deployment=deployment,
            variant=variant,
            settings=self._settings,
            auth=self._auth(),
            version=version,
            run=run,
            reference=self._monitors.references.source(variant.id) if variant is not None else None,
            logged_profile=run is not None and self._has_profile(ctx, run),
            said=self._feedback.names(ctx.workspace_id, deployment.id),
            requests=self._events.total([deployment.id], since_ms=now - DAY_MS, until_ms=now).requests,
            named=any(event.unit for event in newest) if newest else None,
            monitors=self._monitors.list(ctx, deployment.name),
            alerts=self._alerts.list(ctx, state="lasting", deployment=deployment.name),
            channels=self._channels.list(ctx),
            rollouts=[one for one in self._rollouts.list(ctx, deployment=deployment.name) if one.deployment_id == deployment.id],
            variants=len({one.commit for one in history}),
            earlier=[one for one in history if variant is not None and self._could_return(ctx, one, variant)],
            retraining=policy,
            retraining_paused=paused,
            backup_ms=self._backed_up(),
            now_ms=now,
        )

    def _could_return(self, ctx: Context, earlier: Variant, now: Variant) -> bool:
        """Whether this variant is another version, has served, was not taken back, and is still registered."""
        if earlier.ready_ms is None or earlier.withdrawn or earlier.commit == now.commit:
            return False
        return earlier.version is None or self._version(ctx, earlier) is not None

    def _version(self, ctx: Context, variant: Variant | None) -> Version | None:
        if variant is None or variant.version is None:
            return None
        try:
            return self._registry.get_version(ctx, variant.repo.rpartition("/")[2], variant.version)
        except NotFound:
            return None

    def _run(self, ctx: Context, version: Version | None) -> Run | None:
        maker = self._lineage.maker(ctx, version.id) if version is not None else None
        if maker is None:
            return None
        try:
            return self._tracking.runs.get(ctx, maker)
        except NotFound:
            return None

    def _has_profile(self, ctx: Context, run: Run) -> bool:
        try:
            self._tracking.artifacts.get(ctx, Owner.run, run.id, FILE)
        except NotFound:
            return False
        return True

    def _policy(self, ctx: Context, name: str) -> tuple[str | None, bool]:
        try:
            policy = self._retrainings.policy(ctx, name)
        except NotFound:
            return None, False
        when = f"on alerts of {' or '.join(policy.trigger.alerts)} with {policy.trigger.min_labels:,} new labels"
        return when + (f", or every {policy.trigger.every_seconds / 3600:g} h" if policy.trigger.every_seconds else ""), policy.paused
