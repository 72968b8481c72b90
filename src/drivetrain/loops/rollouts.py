"""Rollouts as they should go: one server at a time looks at each open one several times a second.

The others look too, for changes only: their own route tables follow at once, whoever made the change.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import msgspec

from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.rollout.ledger import DRIVETRAIN
from drivetrain.rollout.model import Decision, Rollout
from drivetrain.rollout.steps import Sign, Steps
from drivetrain.store.leases import Leases

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
IDLE_SECONDS = 1.0
LONGEST_MS = 1000.0
"""Time in which nobody looked is not time in which a rollout was watched."""
LEASE = "rollouts"
LEASE_SECONDS = 10.0
_ALERTS = {
    "rolled_back": ("bad", "{} was taken back from {}"),
    "paused": ("warn", "The rollout of {} on {} is paused"),
    "held": ("info", "The rollout of {} on {} waits"),
}


class RolloutsLoop:
    """`moved`: this server's route table should be looked at anew."""

    def __init__(
        self, steps: Steps, alerts: Alerts, leases: Leases, *, moved: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._steps = steps
        self._alerts = alerts
        self._leases = leases
        self._moved = moved
        self._clock = clock
        self._seen: list[Sign] = []
        self._looked: dict[str, float] = {}
        self._renewed = float("-inf")
        self._news = threading.Event()
        self._stopping = False

    def poke(self) -> None:
        """Something may have changed: look at once."""
        self._news.set()

    def stop(self) -> None:
        self._stopping = True
        self._news.set()

    def run(self) -> None:
        while not self._stopping:
            try:
                self.step()
            except Exception:
                log.exception("the rollouts loop failed at a step; it goes on")
            self._news.wait(LOOK_SECONDS if self._seen else IDLE_SECONDS)
            self._news.clear()
        if self._mine(renew=False):
            self._leases.release(LEASE)

    def step(self) -> None:
        """One look at all open rollouts."""
        seen = self._steps.open()
        if seen != self._seen:
            self._seen = seen
            self._moved()
        self._looked = {sign.id: self._looked[sign.id] for sign in seen if sign.id in self._looked}
        if seen and self._mine():
            for sign in seen:
                self._look(sign.id)
        if (untold := self._steps.untold()) and self._mine():
            for rollout, decision in untold:
                self._tell(rollout, decision)
                self._steps.told(decision.id)

    def _look(self, rollout_id: str) -> None:
        now = self._clock()
        passed = min(LONGEST_MS, (now - self._looked.get(rollout_id, now)) * 1000)
        self._looked[rollout_id] = now
        try:
            if self._steps.step(rollout_id, passed):
                self._moved()
                self._news.set()
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

    def _mine(self, *, renew: bool = True) -> bool:
        now = self._clock()
        if renew and (not self._leases.held(LEASE) or now - self._renewed > LEASE_SECONDS / 3):
            if not self._leases.acquire(LEASE, LEASE_SECONDS):
                return False
            self._renewed = now
        return self._leases.held(LEASE)
