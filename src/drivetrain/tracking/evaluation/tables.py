"""What models are evaluated with: datasets of cases, and scorers. Both are kept for their clients, which do the evaluating."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.maps import key_values
from drivetrain.store.sql import metadata

datasets = sa.Table(
    "evaluation_datasets",
    metadata,
    # `d-` and a UUIDv7; its client knows it by this.
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    # JSON texts.
    sa.Column("schema", sa.Text),
    sa.Column("profile", sa.Text),
    sa.Column("created_by", sa.String(256)),
    sa.Column("updated_by", sa.String(256)),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.Index(None, "workspace_id", "created_ms"),
    sa.Index(None, "workspace_id", "name"),
)

dataset_tags = key_values("evaluation_dataset_tags", metadata, "dataset_id", "evaluation_datasets.id")

dataset_experiments = sa.Table(
    "evaluation_dataset_experiments",
    metadata,
    sa.Column("dataset_id", sa.ForeignKey("evaluation_datasets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("experiment_uid", sa.ForeignKey("experiments.uid", ondelete="CASCADE"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

records = sa.Table(
    "evaluation_records",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("evaluation_datasets.id", ondelete="CASCADE"), nullable=False),
    # A dataset has one record for the same inputs.
    sa.Column("input_hash", sa.String(64), nullable=False),
    # JSON texts, in which NaN and infinities stand as they came.
    sa.Column("inputs", sa.Text, nullable=False),
    sa.Column("outputs", sa.Text, nullable=False),
    sa.Column("expectations", sa.Text),
    sa.Column("tags", sa.Text, nullable=False),
    sa.Column("source", sa.Text),
    sa.Column("created_by", sa.String(256)),
    sa.Column("updated_by", sa.String(256)),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("dataset_id", "input_hash"),
    sa.Index(None, "dataset_id", "created_ms", "id"),
)

scorers = sa.Table(
    "scorers",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("experiment_uid", sa.ForeignKey("experiments.uid", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(256), nullable=False),
    sa.UniqueConstraint("experiment_uid", "name"),
)

scorer_versions = sa.Table(
    "scorer_versions",
    metadata,
    sa.Column("scorer_id", sa.ForeignKey("scorers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    # As its client wrote it. Nothing here reads more of it than whether it holds code.
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
