"""How what gave an answer came to serve: the rollout that brought the version, its decisions, and the retraining that made it."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.lineage.model import Thing
from drivetrain.lineage.service import Lineage
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

    def __init__(self, rollouts: Rollouts, retrainings: Retrainings, lineage: Lineage) -> None:
        self._rollouts = rollouts
        self._retrainings = retrainings
        self._lineage = lineage

    def of(self, ctx: Context, variant_id: str) -> Provenance:
        """Of the variant with this id, serving or not."""
        brought = self._lineage.subjects(ctx, Thing("variant", variant_id), "brought", "rollout")
        if not brought:
            return Provenance()
        rollout = self._rollouts.get(ctx, brought[0])
        return Provenance(
            rollout=rollout, decisions=tuple(self._rollouts.decisions(ctx, rollout.id)), retraining=self._retraining(ctx, rollout)
        )

    def _retraining(self, ctx: Context, rollout: Rollout) -> Retraining | None:
        began = self._lineage.subjects(ctx, Thing("rollout", rollout.id), "began", "retraining")
        if not began:
            return None
        try:
            return self._retrainings.get(ctx, began[0])
        except NotFound:
            return None
