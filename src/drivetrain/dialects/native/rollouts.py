"""Rollouts: start them, look at them, lead them by hand."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from msgspec.structs import asdict
from pydantic import BaseModel, Field

from drivetrain.answers import rollouts as answers
from drivetrain.answers.rollouts import LiveRollout
from drivetrain.rollout.model import Forecast, Plan
from drivetrain.rollout.planning.plans import PRESETS, guardrail, parse_plan, with_guardrails
from drivetrain.rollout.service import Rollouts
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking


class NewRollout(BaseModel):
    """`plan`: a preset's name (safe, fast, shadow), shares in percent ("1,10,50,100"), or an object with the fields of a plan.
    `guardrails`: more of them, as `MEASURE[@TOLERANCE][!signal][~RATIO]`. The same `key` again gives the same rollout."""

    source: str
    plan: str | dict[str, Any] = "safe"
    guardrails: list[str] = Field(default_factory=list)
    engine: str = "auto"
    options: dict[str, Any] | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    prices: dict[str, float] | None = None
    key: str | None = None
    why: str = ""
    origin: dict[str, Any] = Field(default_factory=dict)


class Outlook(BaseModel):
    """`plan` and `guardrails` as of a new rollout. What is not said is as the deployment's last day had it."""

    plan: str | dict[str, Any] = "safe"
    guardrails: list[str] = Field(default_factory=list)
    deployment: str | None = None
    units_per_second: float | None = None
    base_rate: float | None = None
    ratio: float = 2.0


class Reason(BaseModel):
    why: str = ""


class Skip(BaseModel):
    """`step`: the step to go to, counted from 1; none: all traffic."""

    step: int | None = None
    why: str = ""


def router(rollouts: Rollouts) -> APIRouter:
    """Include it before the router of deployments: their names may hold slashes, so what follows a name must come first."""
    api = native_router("rollouts")

    @api.get("/rollouts")
    def listed(ctx: Asking, open_only: bool = False, limit: int = 50) -> answers.RolloutList:
        """The newest rollouts of the workspace."""
        return answers.RolloutList([LiveRollout.of(one) for one in rollouts.list(ctx, open_only=open_only, limit=limit)])

    @api.post("/rollouts/plan")
    def forecast(ctx: Asking, outlook: Outlook) -> Forecast:
        """What to expect of a plan: how long each step takes, and when a version that is `ratio` times worse is seen."""
        values = outlook.model_dump(exclude={"plan", "guardrails"})
        return rollouts.forecast(ctx, _plan(outlook.plan, outlook.guardrails), **values)

    @api.get("/rollouts/{rollout}")
    def rollout(ctx: Asking, rollout: str) -> answers.WatchedRollout:
        """One rollout: its state, its phases, each guardrail's evidence, and what was decided."""
        return answers.WatchedRollout(
            **asdict(LiveRollout.of(rollouts.get(ctx, rollout))),
            phases=[*rollouts.phases(ctx, rollout)],
            evidence=[*rollouts.evidence(ctx, rollout)],
            decisions=[*rollouts.decisions(ctx, rollout)],
        )

    @api.get("/rollouts/{rollout}/evidence")
    def evidence(ctx: Asking, rollout: str) -> answers.CurvePointList:
        """The evidence over time, to draw it. `value` and `threshold` of e-values are natural logarithms here."""
        return answers.CurvePointList([*rollouts.curves(ctx, rollout)])

    @api.post("/rollouts/{rollout}/pause")
    def pause(ctx: Asking, rollout: str, reason: Reason) -> LiveRollout:
        return LiveRollout.of(rollouts.pause(ctx, rollout, why=reason.why))

    @api.post("/rollouts/{rollout}/resume")
    def resume(ctx: Asking, rollout: str, reason: Reason) -> LiveRollout:
        return LiveRollout.of(rollouts.resume(ctx, rollout, why=reason.why))

    @api.post("/rollouts/{rollout}/promote")
    def promote(ctx: Asking, rollout: str, skip: Skip) -> LiveRollout:
        """Skip ahead, to a step or to all traffic."""
        return LiveRollout.of(rollouts.promote(ctx, rollout, step=skip.step, why=skip.why))

    @api.post("/rollouts/{rollout}/abort")
    def abort(ctx: Asking, rollout: str, reason: Reason) -> LiveRollout:
        return LiveRollout.of(rollouts.abort(ctx, rollout, why=reason.why))

    @api.post("/rollouts/{rollout}/rollback")
    def rollback(ctx: Asking, rollout: str, reason: Reason) -> LiveRollout:
        """Give all traffic back to the version before."""
        return LiveRollout.of(rollouts.rollback(ctx, rollout, why=reason.why))

    @api.post("/rollouts/{rollout}/close")
    def close(ctx: Asking, rollout: str, reason: Reason) -> LiveRollout:
        """Let go of the version before, once the new one has all traffic."""
        return LiveRollout.of(rollouts.close(ctx, rollout, why=reason.why))

    @api.get("/rollout-plans")
    def plans(_ctx: Asking) -> answers.PlanList:
        """The presets."""
        return answers.PlanList([*PRESETS.values()])

    @api.get("/deployments/{name:path}/rollouts")
    def of_deployment(ctx: Asking, name: str, limit: int = 50) -> answers.RolloutList:
        """The rollouts of a deployment, the newest first."""
        return answers.RolloutList([LiveRollout.of(one) for one in rollouts.list(ctx, deployment=name, limit=limit)])

    @api.post("/deployments/{name:path}/rollouts", status_code=201)
    def start(ctx: Asking, name: str, new: NewRollout) -> LiveRollout:
        """Begin to move the deployment's traffic to another version."""
        values = new.model_dump(exclude={"plan", "guardrails", "source"})
        return LiveRollout.of(rollouts.start(ctx, name, new.source, _plan(new.plan, new.guardrails), **values))

    return api


def _plan(plan: str | dict[str, Any], guardrails: list[str]) -> Plan:
    return with_guardrails(parse_plan(plan), [guardrail(one) for one in guardrails])
