"""The tables of deletion: how long deleted things are kept, what is being deleted for good, and what became of it."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

policies = sa.Table(
    "retention_policies",
    metadata,
    sa.Column("workspace_id", sa.String(32), primary_key=True),
    sa.Column("grace_ms", sa.BigInteger, nullable=False),
    sa.Column("automatic", sa.Boolean, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_by", sa.String(256), nullable=False),
)

collections = sa.Table(
    "gc_collections",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("user_name", sa.String(256), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger, index=True),
    sa.Column("experiments", sa.BigInteger, nullable=False),
    sa.Column("runs", sa.BigInteger, nullable=False),
    sa.Column("models", sa.BigInteger, nullable=False),
    sa.Column("files", sa.BigInteger, nullable=False),
    sa.Column("blobs", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    # Of the blobs that nothing names any more: those that somebody else has sent or asked for lately. They go with the daily sweep.
    sa.Column("later_blobs", sa.BigInteger, nullable=False),
    sa.Column("later_bytes", sa.BigInteger, nullable=False),
    sa.Index(None, "workspace_id", "created_ms"),
)

purges = sa.Table(
    # What is to go, written down before anything goes: whoever comes after a crash goes on from here.
    "gc_purges",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("collection_id", sa.ForeignKey("gc_collections.id", ondelete="CASCADE"), nullable=False, index=True),
)

purged_blobs = sa.Table(
    # Blobs that were named by what has gone: they go too, unless something else names them.
    "gc_blobs",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("collection_id", sa.ForeignKey("gc_collections.id", ondelete="CASCADE"), nullable=False, index=True),
)

numbers = sa.Table(
    # The greatest number of an experiment that is gone: none is given twice.
    "experiment_numbers",
    metadata,
    sa.Column("workspace_id", sa.String(32), primary_key=True),
    sa.Column("highest", sa.Integer, nullable=False),
)
