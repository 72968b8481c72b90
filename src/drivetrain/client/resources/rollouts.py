"""Rollouts: move a deployment's traffic to another version by steps, and take it back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from drivetrain.answers import rollouts as answers
from drivetrain.answers.rollouts import LiveRollout, WatchedRollout
from drivetrain.client.http import Json
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import Resource
from drivetrain.errors import NotFound, Unavailable
from drivetrain.rollout.model import CurvePoint, Forecast, Plan, State

ENDED = frozenset({State.closed, State.rolled_back, State.aborted})
SETTLED = ENDED | {State.promoted, State.paused}
"""States in which nothing more comes by itself, but that a promoted one is closed in time."""


class Rollouts(Resource):
    """`target` is a rollout's id, or a deployment's name: its open rollout, else its last one."""

    def start(self, deployment: str, source: str, *, plan: str | Json | Plan = "safe", **options: Any) -> LiveRollout:
        """Begin a rollout. `options`: guardrails, engine, options, min_replicas, max_replicas, prices, key, why, origin."""
        return self._send(LiveRollout, "POST", f"/deployments/{segment(deployment)}/rollouts", {"source": source, "plan": plan, **options})

    def list(self, *, deployment: str | None = None, open_only: bool = False, limit: int = 50) -> list[LiveRollout]:
        """The newest first."""
        if deployment is not None:
            return self._get(answers.RolloutList, f"/deployments/{segment(deployment)}/rollouts", limit=limit).rollouts
        return self._get(answers.RolloutList, "/rollouts", open_only="true" if open_only else None, limit=limit).rollouts

    def get(self, target: str) -> WatchedRollout:
        """One rollout with its phases, the evidence of each guardrail, and the decisions."""
        return self._get(WatchedRollout, f"/rollouts/{self.id(target)}")

    def id(self, target: str) -> str:
        """The id of the rollout that is meant. Raises `NotFound`."""
        if re.fullmatch(r"[0-9a-f]{32}", target):
            return target
        found = self.list(deployment=target, limit=1)
        if not found:
            raise NotFound(f"The deployment {target!r} has had no rollout. Start one: drivetrain rollout start {target} SOURCE")
        return found[0].id

    def evidence(self, target: str) -> Sequence[CurvePoint]:
        """The evidence over time."""
        return self._get(answers.CurvePointList, f"/rollouts/{self.id(target)}/evidence").points

    def watch(self, target: str, *, every: float = 0.5) -> Iterator[WatchedRollout]:
        """The rollout as it changes, until nothing more comes by itself."""
        identity = self.id(target)
        last: WatchedRollout | None = None
        while True:
            now = self.get(identity)
            if now != last:
                yield now
                last = now
            if now.state in SETTLED:
                return
            time.sleep(every)

    def wait(self, target: str, *, timeout: float = 3600.0) -> WatchedRollout:
        """The rollout once nothing more comes by itself: promoted, paused, or ended. Raises `Unavailable` after `timeout` seconds."""
        identity = self.id(target)
        end = time.monotonic() + timeout
        while (now := self.get(identity)).state not in SETTLED:
            if time.monotonic() > end:
                raise Unavailable(f"The rollout has not come to its end within {timeout:.0f} s. See: drivetrain rollout status {target}")
            time.sleep(0.25)
        return now

    def pause(self, target: str, *, why: str = "") -> LiveRollout:
        return self._lead(target, "pause", why=why)

    def resume(self, target: str, *, why: str = "") -> LiveRollout:
        return self._lead(target, "resume", why=why)

    def promote(self, target: str, *, step: int | None = None, why: str = "") -> LiveRollout:
        """Skip ahead: to a step (counted from 1), or to all traffic."""
        return self._lead(target, "promote", step=step, why=why)

    def abort(self, target: str, *, why: str = "") -> LiveRollout:
        return self._lead(target, "abort", why=why)

    def rollback(self, target: str, *, why: str = "") -> LiveRollout:
        """Give all traffic back to the version before."""
        return self._lead(target, "rollback", why=why)

    def close(self, target: str, *, why: str = "") -> LiveRollout:
        """Let go of the version before."""
        return self._lead(target, "close", why=why)

    def plans(self) -> Sequence[Plan]:
        """The presets."""
        return self._get(answers.PlanList, "/rollout-plans").plans

    def forecast(self, deployment: str | None = None, *, plan: str | Json | Plan = "safe", **options: Any) -> Forecast:
        """What to expect of a plan. `options`: guardrails, units_per_second, base_rate, ratio; by default the deployment's own figures."""
        return self._send(Forecast, "POST", "/rollouts/plan", {"deployment": deployment, "plan": plan, **options})

    def _lead(self, target: str, verb: str, **body: Any) -> LiveRollout:
        return self._send(LiveRollout, "POST", f"/rollouts/{self.id(target)}/{verb}", body)
