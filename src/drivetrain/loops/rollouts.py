"""Rollouts as they should go: one server at a time looks at each open one several times a second.

The others look too, for changes only: their own route tables follow at once, whoever made the change.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import msgspec

from drivetrain.loops.loop import Loop
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.rollout.ledger import DRIVETRAIN
from drivetrain.rollout.model import Decision, Rollout
from drivetrain.rollout.steps import Sign, Steps

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
LONGEST_MS = 1000.0
"""Time in which nobody looked is not time in which a rollout was watched."""
_ALERTS = {
    "rolled_back": ("bad", "{} was taken back from {}"),
    "paused": ("warn", "The rollout of {} on {} is paused"),
    "held": ("info", "The rollout of {} on {} waits"),
}


class RolloutKeeper:
    """`moved`: this server's route table should be looked at anew."""

    def __init__(self, steps: Steps, alerts: Alerts, *, moved: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._steps = steps
        self._alerts = alerts
        self._moved = moved
        self._clock = clock
        self._seen: list[Sign] = []
        self._looked: dict[str, float] = {}

    def step(self, loop: Loop) -> float | None:
        """One look at all open rollouts. Where there are none, it looks less often."""
        seen = self._steps.open()
        if seen != self._seen:
            self._seen = seen
            self._moved()
        self._looked = {sign.id: self._looked[sign.id] for sign in seen if sign.id in self._looked}
        if seen and loop.mine():
            for sign in seen:
                self._look(sign.id, loop)
        if (untold := self._steps.untold()) and loop.mine():
            for rollout, decision in untold:
                self._tell(rollout, decision)
                self._steps.told(decision.id)
        return None if seen else IDLE_SECONDS

    def _look(self, rollout_id: str, loop: Loop) -> None:
        now = self._clock()
        passed = min(LONGEST_MS, (now - self._looked.get(rollout_id, now)) * 1000)
        self._looked[rollout_id] = now
        try:
            if self._steps.step(rollout_id, passed):
                self._moved()
                loop.wake()
        except Exception:
            log.exception("rollout %s could not be looked at; it is tried again", rollout_id)

    def _tell(self, rollout: Rollout, decision: Decision) -> None:
        """An alert where drivetrain decided that somebody should look; the end of it where the rollout goes on."""
        key = f"rollout:{rollout.id}"
        said = _ALERTS.get(decision.action) if decision.actor == DRIVETRAIN else None
        if said is None:
            self._alerts.resolve_key(rollout.workspace_id, key, by=decision.actor)
            return
        severity, title = said
        self._alerts.raise_alert(
            workspace_id=rollout.workspace_id,
            deployment=rollout.deployment,
            source="rollout",
            key=key,
            severity=severity,
            title=title.format(rollout.canary_name, rollout.deployment),
            text=decision.why,
            evidence={"rollout": rollout.id, "decision": decision.id, "evidence": msgspec.to_builtins(decision.evidence)},
            undo=decision.undo,
        )
