"""Evidence of units that come back: tallies in place of counts and units; what is known of outputs; labels that are corrected."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    # What was counted of rollouts that are open counts by other rules: they count anew.
    op.drop_table("rollout_counts")
    op.drop_table("rollout_units")
    op.create_table(
        "rollout_tallies",
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_tallies_rollout_id")),
        sa.PrimaryKeyConstraint("rollout_id", name=op.f("pk_rollout_tallies")),
    )
    op.create_table(
        "rollout_batches",
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_batches_rollout_id")),
        sa.PrimaryKeyConstraint("rollout_id", "number", "whole", name=op.f("pk_rollout_batches")),
    )
    op.add_column("rollout_guards", sa.Column("known", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("deployments", sa.Column("unit", sa.String(length=16), nullable=False, server_default="person"))
    op.add_column("feedback", sa.Column("counted_as", sa.JSON(none_as_null=True), nullable=True))
    op.create_index(op.f("ix_feedback_rollout_kind_name_id"), "feedback", ["rollout", "kind", "name", "id"])
