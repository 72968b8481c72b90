"""The evidence of open rollouts for /metrics: natural logarithms, so that no scale is too small for them."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.rollout import tables as t
from drivetrain.rollout.ledger import rollout_of
from drivetrain.rollout.model import OPEN
from drivetrain.serving.gateway.meters import escaped
from drivetrain.store.sql import Database

MOST = 50
ASSIGNMENT = "assignment"


def exposition(db: Database, workspace_id: str | None = None) -> list[str]:
    """Prometheus' text: of each open rollout the canary's share and each guardrail's evidence, as it was last written down."""
    open_ = t.rollouts.c.state.in_([state.value for state in OPEN])
    query = sa.select(t.rollouts).where(open_ if workspace_id is None else open_ & (t.rollouts.c.workspace_id == workspace_id))
    shares, evidence, thresholds = [], [], []
    with db.read() as c:
        rollouts = [rollout_of(row) for row in c.execute(query.order_by(t.rollouts.c.id).limit(MOST))]
        last = (
            sa.select(t.evidence.c.rollout_id, t.evidence.c.guard, sa.func.max(t.evidence.c.number).label("number"))
            .where(t.evidence.c.rollout_id.in_([rollout.id for rollout in rollouts]))
            .group_by(t.evidence.c.rollout_id, t.evidence.c.guard)
            .subquery()
        )
        same = sa.and_(*(t.evidence.c[name] == last.c[name] for name in ("rollout_id", "guard", "number")))
        rows = c.execute(sa.select(t.evidence).join(last, same)).all()
    by = {(row.rollout_id, row.guard): row for row in rows}
    for rollout in rollouts:
        of = f'workspace="{escaped(rollout.workspace)}",deployment="{escaped(rollout.deployment)}"'
        shares.append(f"drivetrain_rollout_share{{{of}}} {rollout.share / 10_000:g}")
        names = [*enumerate(one.measure for one in rollout.plan.guardrails), (-1, ASSIGNMENT)]
        for guard, measure in names:
            row = by.get((rollout.id, guard))
            if row is None or row.value is None or row.threshold is None or measure.endswith("_mean"):
                continue
            labels = f'{of},measure="{escaped(measure)}"'
            evidence.append(f"drivetrain_rollout_evidence_log{{{labels}}} {row.value:.6g}")
            thresholds.append(f"drivetrain_rollout_threshold_log{{{labels}}} {row.threshold:.6g}")
    return [
        "# HELP drivetrain_rollout_share Share of the traffic that the new version has in an open rollout, 0 to 1.",
        "# TYPE drivetrain_rollout_share gauge",
        *shares,
        "# HELP drivetrain_rollout_evidence_log Evidence against the new version: natural logarithm of the guardrail's e-value.",
        "# TYPE drivetrain_rollout_evidence_log gauge",
        *evidence,
        "# HELP drivetrain_rollout_threshold_log Evidence from which on the guardrail acts: natural logarithm of its threshold.",
        "# TYPE drivetrain_rollout_threshold_log gauge",
        *thresholds,
    ]
