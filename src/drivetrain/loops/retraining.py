"""Retraining: ties alerts to policies, sees that what was begun has its job, and tells of how it ended.

One server at a time looks. Time is summed from a monotonic clock and stored, so no clock that jumps begins anything.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from drivetrain.errors import DrivetrainError
from drivetrain.loops.loop import Loop
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.retraining.model import MOST_FAILURES, Policy, Retraining, State
from drivetrain.retraining.watch import Watch

log = logging.getLogger(__name__)

KEEP_MS = 5000.0
"""How much of a policy's time may be lost with the process."""
LONGEST_MS = 10_000.0
"""Time in which nobody looked is not time that has passed for a policy."""
_TOLD = {
    State.waiting: ("info", "{} was trained again; its new version waits to be rolled out"),
    State.rolled_out: ("info", "{} was trained again; its new version is being rolled out"),
    State.refused: ("warn", "{} was trained again; the new version was not good enough"),
}


class RetrainingKeeper:
    """Keeps to the policies of retraining."""

    def __init__(self, watch: Watch, alerts: Alerts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch = watch
        self._alerts = alerts
        self._clock = clock
        self._looked: float | None = None
        self._kept: dict[str, float] = {}  # time that passed and is not stored yet, by policy
        self._alarmed: dict[str, bool] = {}

    def step(self, loop: Loop) -> None:
        """One look at all policies and all open retrainings."""
        policies, going = self._watch.policies(), self._watch.open()
        if not (policies or going) or not loop.mine():
            self._looked = None
            return
        now = self._clock()
        passed = 0.0 if self._looked is None else min(LONGEST_MS, (now - self._looked) * 1000)
        self._looked = now
        busy = {one.deployment_id for one in going}
        for policy in policies:
            self._guarded(policy.deployment, lambda policy=policy: self._consider(policy, passed, busy))  # type: ignore[misc]
        for one in self._watch.open():
            self._guarded(one.deployment, lambda one=one: self._watch.follow(one))  # type: ignore[misc]
        for one in self._watch.untold():
            self._tell(one)
            self._watch.told(one)

    def _guarded(self, deployment: str, act: Callable[[], None]) -> None:
        try:
            act()
        except DrivetrainError as error:
            log.warning("the retraining of %s: %s", deployment, error.message)

    def _consider(self, policy: Policy, passed: float, busy: set[str]) -> None:
        lasting = self._alerts.lasting(policy.workspace_id, policy.deployment)
        alarmed = any(alert.source in policy.trigger.alerts for alert in lasting)
        if policy.failures < MOST_FAILURES and any(alert.key == _failing(policy.deployment_id) for alert in lasting):
            self._alerts.resolve_key(policy.workspace_id, _failing(policy.deployment_id))
        kept = self._kept.get(policy.id, 0.0) + passed
        if kept >= KEEP_MS or alarmed != self._alarmed.get(policy.id):
            self._watch.passed(policy.id, kept, alarmed=alarmed)
            kept = 0.0
        self._kept[policy.id], self._alarmed[policy.id] = kept, alarmed
        if policy.deployment_id not in busy:
            self._watch.look(policy.id, lasting)

    def _tell(self, one: Retraining) -> None:
        """An alert of how it ended, in the place of the one before; none of what people did themselves. Failures are one alert, from the
        one on after which nothing is tried by itself any more; it grows until an attempt ends well."""
        key = f"retraining:{one.deployment_id}"
        said = _TOLD.get(one.state)
        if one.state is State.failed:
            self._tell_failure(one)
            return
        self._alerts.resolve_key(one.workspace_id, key)
        if said is None:
            return
        severity, title = said
        undo = next((stage.undo for stage in reversed(one.stages) if stage.undo), "")
        self._alerts.raise_alert(
            workspace_id=one.workspace_id,
            deployment=one.deployment,
            source="retraining",
            key=key,
            severity=severity,
            title=title.format(one.deployment),
            text=one.why,
            evidence={
                "retraining": one.id,
                "job": one.job_id,
                "run": one.run_id,
                "version": one.version,
                "rollout": one.rollout_id,
                "gate": msgspec.to_builtins(one.gate),
                "because": one.trigger,
            },
            undo=undo or f"To stop this: drivetrain retrain pause {one.deployment}",
        )

    def _tell_failure(self, one: Retraining) -> None:
        failures = self._watch.failures(one)
        if failures < MOST_FAILURES:
            return
        self._alerts.raise_alert(
            workspace_id=one.workspace_id,
            deployment=one.deployment,
            source="retraining",
            key=_failing(one.deployment_id),
            severity="bad",
            title=f"{one.deployment} could not be trained again, {failures} times in a row",
            text=f"It tries no more by itself. The last time: {one.why} To look: drivetrain retrain show {one.id}",
            evidence={"retraining": one.id, "job": one.job_id, "run": one.run_id, "failures": failures},
            undo=f"To try again by hand: drivetrain retrain now {one.deployment}",
        )


def _failing(deployment_id: str) -> str:
    """The key of the alert that attempts fail."""
    return f"retraining-failures:{deployment_id}"
