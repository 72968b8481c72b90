"""The tables of rollouts."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False, index=True),
    sa.Column("workspace", sa.String(64), nullable=False),
    sa.Column("deployment_id", sa.String(32), nullable=False, index=True),
    sa.Column("deployment", sa.String(256), nullable=False),
    sa.Column("stable", sa.String(32), nullable=False),
    sa.Column("canary", sa.String(32), nullable=False),
    sa.Column("stable_name", sa.String(64), nullable=False),
    sa.Column("canary_name", sa.String(64), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("origin", sa.JSON, nullable=False),
    sa.Column("key", sa.String(200), unique=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("phase", sa.Integer, nullable=False),
    sa.Column("elapsed_ms", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
)

phases = sa.Table(
    "rollout_phases",
    metadata,
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("share", sa.Integer, nullable=False),
    sa.Column("shadow", sa.Integer, nullable=False),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
)

guards = sa.Table(
    # What is fixed of a guardrail while its rollout runs. `number` is its place in the plan, from 0.
    "rollout_guards",
    metadata,
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("line", sa.Float),
    sa.Column("known", sa.JSON(none_as_null=True)),  # of outputs: what the version before answers, and what was trained on
    sa.Column("from_phase", sa.Integer),  # events of this phase and later count; none while it is NULL
    sa.Column("overruled", sa.Boolean, nullable=False, server_default=sa.false()),  # somebody went on in spite of this signal
)

tallies = sa.Table(
    # What was counted of a rollout, for those who read it: a `Tallied` as JSON. `number` is that of the last batch in it.
    "rollout_tallies",
    metadata,
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("told", sa.Text, nullable=False),
)

batches = sa.Table(
    # What was counted, batch by batch, and now and then all of it (`whole`), after which the batches before are not needed any more. Units
    # are 64 bits of their blake2b: no name of a person is kept here. They go with the rollout's end.
    "rollout_batches",
    metadata,
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("whole", sa.Boolean, primary_key=True),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

decisions = sa.Table(
    "rollout_decisions",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id"), nullable=False, index=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(256), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("phase", sa.Integer, nullable=False),
    sa.Column("share", sa.Integer, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("undo", sa.Text, nullable=False),
    sa.Column("told", sa.Boolean, nullable=False, server_default=sa.true()),  # false: its alert is still to be raised, or ended
)

evidence = sa.Table(
    # The evidence over time, thinned, to draw it. `guard` is a guardrail's number, -1 the assignment; `value` the natural logarithm of an
    # e-value.
    "rollout_evidence",
    metadata,
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id"), primary_key=True),
    sa.Column("guard", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("phase", sa.Integer, nullable=False),
    sa.Column("verdict", sa.String(16), nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("threshold", sa.Float),
    sa.Column("canary_units", sa.BigInteger, nullable=False),
    sa.Column("canary_bad", sa.Float, nullable=False),
    sa.Column("stable_units", sa.BigInteger, nullable=False),
    sa.Column("stable_bad", sa.Float, nullable=False),
)
