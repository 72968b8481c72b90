"""The table of saved views: a way of looking at runs, under a name."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

saved_views = sa.Table(
    "saved_views",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("name", sa.String(120), nullable=False),
    # What the page's address says after the question mark.
    sa.Column("query", sa.Text, nullable=False),
    sa.Column("user_name", sa.String(256), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workspace_id", "name"),
)
