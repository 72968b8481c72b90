"""What the native API says of rollouts and their plans."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict

from drivetrain.rollout.model import CurvePoint, Decision, Evidence, Phase, Plan, Rollout


class LiveRollout(Rollout, frozen=True, kw_only=True):
    """A rollout, and the canary's share of the traffic now, in parts of 10,000."""

    share: int

    @classmethod
    def of(cls, rollout: Rollout) -> LiveRollout:
        return cls(**asdict(rollout), share=rollout.share)


class WatchedRollout(LiveRollout, frozen=True, kw_only=True):
    """A rollout with its phases, the evidence of each guardrail, and the decisions."""

    phases: list[Phase]
    evidence: list[Evidence]
    decisions: list[Decision]


class RolloutList(Struct, frozen=True):
    rollouts: list[LiveRollout]


class CurvePointList(Struct, frozen=True):
    points: list[CurvePoint]


class PlanList(Struct, frozen=True):
    plans: list[Plan]
