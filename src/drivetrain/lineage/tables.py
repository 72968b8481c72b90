"""The table of lineage."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.lineage.model import MAX_ID
from drivetrain.store.sql import metadata

edges = sa.Table(
    "edges",
    metadata,
    sa.Column("subject_kind", sa.String(16), primary_key=True),
    sa.Column("subject_id", sa.String(MAX_ID), primary_key=True),
    sa.Column("role", sa.String(16), primary_key=True),
    sa.Column("object_kind", sa.String(16), primary_key=True),
    sa.Column("object_id", sa.String(MAX_ID), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("user_name", sa.String(256), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Index(None, "object_kind", "object_id"),
    sqlite_with_rowid=False,
)
