"""Monitors that remember what they have seen, labels in the order in which they came, and attempts of retraining."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("monitors", sa.Column("memory", sa.Text(), nullable=True))
    op.create_index(op.f("ix_feedback_deployment_id"), "feedback", ["deployment", "id"], unique=False)
