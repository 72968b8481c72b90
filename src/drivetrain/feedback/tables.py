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
    # Of the answer that it is about, so that nobody has to look that up again; NULL until the event was found.
    sa.Column("event_ms", sa.BigInteger),
    sa.Column("deployment", sa.String(32)),
    sa.Column("variant", sa.String(32)),
    sa.Column("unit", sa.String(256)),
    sa.Column("rollout", sa.String(32)),
    sa.Column("phase", sa.Integer),
    sa.Column("correct", sa.Boolean),  # of labels: whether the answer was it; NULL where the answer holds no single prediction
    sa.Column("counted", sa.Boolean, nullable=False, server_default=sa.false()),  # by its rollout, as it is now
    sa.Column("counted_as", sa.JSON(none_as_null=True)),  # what was counted: its value and whether it was right, at that time
    # One opinion of each source: who says it again changes it, so that a retried request counts once.
    sa.UniqueConstraint("workspace_id", "request_id", "kind", "name", "source"),
    sa.Index(None, "workspace_id", "created_ms"),
    sa.Index(None, "deployment", "event_ms"),
    sa.Index(None, "deployment", "id"),
    sa.Index(None, "rollout", "counted"),
    sa.Index(None, "rollout", "kind", "name", "id"),
)
