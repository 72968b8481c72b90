"""The table of feedback and labels."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("request_id", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("source", sa.String(250), nullable=False),
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("user_name", sa.String(256), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    # One opinion of each source: who says it again changes it, so that a retried request counts once.
    sa.UniqueConstraint("workspace_id", "request_id", "kind", "name", "source"),
    sa.Index(None, "workspace_id", "created_ms"),
)
