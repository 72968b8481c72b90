"""The tables of monitors: the standing questions, references that were learned, and the windows that were compared."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

monitors = sa.Table(
    "monitors",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False, index=True),
    sa.Column("deployment_id", sa.String(32), nullable=False),
    sa.Column("deployment", sa.String(256), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("checked_ms", sa.BigInteger),
    sa.Column("cursor", sa.String(32), nullable=False),  # the last event that a window of drift has taken
    sa.Column("memory", sa.Text),  # what it has seen, as JSON, so that nothing is read twice
    sa.UniqueConstraint("deployment_id", "kind"),
)

references = sa.Table(
    # What live data are compared with: a profile as JSON. One for each version that serves.
    "drift_references",
    metadata,
    sa.Column("variant_id", sa.String(32), primary_key=True),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("source", sa.String(300), nullable=False),
    sa.Column("learned", sa.Boolean, nullable=False),  # from live traffic, for want of the training data's profile
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

windows = sa.Table(
    "drift_windows",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("deployment_id", sa.String(32), nullable=False),
    sa.Column("variant_id", sa.String(32), nullable=False),
    sa.Column("from_ms", sa.BigInteger, nullable=False),
    sa.Column("to_ms", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("features", sa.Integer, nullable=False),
    sa.Column("drifted", sa.Integer, nullable=False),
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Index(None, "deployment_id", "id"),
)
