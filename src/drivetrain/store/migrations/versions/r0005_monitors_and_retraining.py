"""Monitors that remember what they have seen, labels in the order in which they came, and attempts of retraining."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("monitors", sa.Column("memory", sa.Text(), nullable=True))
    op.create_index(op.f("ix_feedback_deployment_id"), "feedback", ["deployment", "id"], unique=False)
    policies = "retraining_policies"
    op.add_column(policies, sa.Column("time_limit", sa.Float(), nullable=False, server_default=sa.text("3600")))
    op.add_column(policies, sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column(policies, sa.Column("failures", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column(policies, sa.Column("waited_ms", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.add_column("retrainings", sa.Column("labels", sa.BigInteger(), nullable=True))
