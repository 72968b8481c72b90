"""What the native API says of retrainings and their policies."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict

from drivetrain.retraining.model import Policy, Retraining, Stage


class LiveRetraining(Retraining, frozen=True, kw_only=True):
    """A retraining, and the stage that is to be done next, or being done; None once all are."""

    stage: Stage | None

    @classmethod
    def of(cls, retraining: Retraining) -> LiveRetraining:
        return cls(**asdict(retraining), stage=retraining.stage)


class WatchedRetraining(LiveRetraining, frozen=True, kw_only=True):
    """A retraining, with the policy as it was."""

    policy: Policy


class RetrainingList(Struct, frozen=True):
    retrainings: list[LiveRetraining]


class PolicyList(Struct, frozen=True):
    policies: list[Policy]
