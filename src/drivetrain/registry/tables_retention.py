"""The table of commits whose versions were deleted."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

orphans = sa.Table(
    "orphaned_commits",
    metadata,
    sa.Column("commit_id", sa.ForeignKey("commits.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("deleted_ms", sa.BigInteger, nullable=False),
)
