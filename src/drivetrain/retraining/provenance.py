"""How what gave an answer came to serve: the rollout that brought the version, its decisions, and the retraining that made it."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.retraining.model import Retraining
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout.model import Decision, Rollout
from drivetrain.rollout.service import Rollouts


class Provenance(Struct, frozen=True, kw_only=True):
    """All None for a variant that was deployed at once, by hand."""

    rollout: Rollout | None = None
    decisions: tuple[Decision, ...] = ()
    retraining: Retraining | None = None


class Provenances:
    """Follows variants back beyond the registry."""

    def __init__(self, rollouts: Rollouts, retrainings: Retrainings) -> None:
        self._rollouts = rollouts
        self._retrainings = retrainings

    def of(self, ctx: Context, variant_id: str) -> Provenance:
        """Of the variant with this id, serving or not."""
        rollout = self._rollouts.bringing(ctx, variant_id) if variant_id else None
        if rollout is None:
            return Provenance()
        return Provenance(
            rollout=rollout, decisions=tuple(self._rollouts.decisions(ctx, rollout.id)), retraining=self._retraining(ctx, rollout)
        )

    def _retraining(self, ctx: Context, rollout: Rollout) -> Retraining | None:
        origin = rollout.origin.get("retraining")
        if not isinstance(origin, str):
            return None
        try:
            return self._retrainings.get(ctx, origin)
        except NotFound:
            return None
