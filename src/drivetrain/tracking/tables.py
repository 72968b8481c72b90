"""Tracking's tables.

Listing runs touches `runs`, `params`, `run_tags` and `latest_metrics` only, never the history in `metrics`: one row of `latest_metrics`
stands for a series, and names its points by a small integer, so that history is compact and lies on disk in the order it is read in.
"""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.maps import key_values
from drivetrain.store.sql import Serial, metadata

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("uid", Serial, primary_key=True, autoincrement=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("lifecycle", sa.String(8), nullable=False),
    sa.Column("artifact_location", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workspace_id", "number"),
    sa.UniqueConstraint("workspace_id", "name"),
)

experiment_tags = key_values("experiment_tags", metadata, "experiment_uid", "experiments.uid")

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("experiment_uid", sa.ForeignKey("experiments.uid"), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("user_name", sa.String(256), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("lifecycle", sa.String(8), nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger),
    sa.Column("deleted_ms", sa.BigInteger),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Index(None, "experiment_uid", "lifecycle", sa.text("start_ms DESC"), "id"),
    sa.Index(None, "workspace_id", "start_ms"),
)

params = key_values("params", metadata, "run_id", "runs.id")

run_tags = key_values("run_tags", metadata, "run_id", "runs.id")

latest_metrics = sa.Table(
    "latest_metrics",
    metadata,
    sa.Column("id", Serial, primary_key=True, autoincrement=True),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    # The run's, repeated here so that one index answers "the runs of this experiment by this metric".
    sa.Column("experiment_uid", Serial, nullable=False),
    sa.Column("key", sa.String(250), nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("timestamp_ms", sa.BigInteger, nullable=False),
    # SQLite turns NaN into NULL: it is stored as 0 with this mark.
    sa.Column("nan", sa.SmallInteger, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.UniqueConstraint("run_id", "key"),
    sa.Index(None, "experiment_uid", "key", "nan", "value", "run_id"),
)

metrics = sa.Table(
    "metrics",
    metadata,
    # All columns are the key: the same point twice is one point.
    sa.Column("series_id", Serial, sa.ForeignKey("latest_metrics.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("timestamp_ms", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("nan", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("value", sa.Double, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("experiment_uid", sa.ForeignKey("experiments.uid", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("source_type", sa.String(64), nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("schema", sa.Text),
    sa.Column("profile", sa.Text),
    sa.UniqueConstraint("experiment_uid", "name", "digest"),
)

run_inputs = sa.Table(
    "run_inputs",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("context", sa.Text, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Index(None, "dataset_id"),
)

run_models = sa.Table(
    "run_models",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("model_id", sa.String(64), primary_key=True),
    sa.Column("role", sa.String(8), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
)

logged_models = sa.Table(
    "logged_models",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("experiment_uid", sa.ForeignKey("experiments.uid"), nullable=False),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("status_message", sa.Text, nullable=False),
    sa.Column("model_type", sa.String(500), nullable=False),
    sa.Column("source_run_id", sa.String(32), index=True),
    sa.Column("lifecycle", sa.String(8), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.Index(None, "experiment_uid", "lifecycle", "created_ms"),
)

logged_model_params = key_values("logged_model_params", metadata, "model_id", "logged_models.id")

logged_model_tags = key_values("logged_model_tags", metadata, "model_id", "logged_models.id")

logged_model_metrics = sa.Table(
    "logged_model_metrics",
    metadata,
    sa.Column("model_id", sa.ForeignKey("logged_models.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(250), primary_key=True),
    sa.Column("run_id", sa.String(32), primary_key=True),
    sa.Column("dataset_name", sa.String(500), primary_key=True),
    sa.Column("dataset_digest", sa.String(64), primary_key=True),
    # Of each such series only the latest point: the history is the run's.
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("timestamp_ms", sa.BigInteger, nullable=False),
    sa.Column("nan", sa.SmallInteger, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("owner_kind", sa.String(16), primary_key=True),
    sa.Column("owner_id", sa.String(64), primary_key=True),
    # In the order of bytes, so that what lies below a folder is one range of the key.
    sa.Column("path", sa.String(1024).with_variant(sa.String(1024, collation="C"), "postgresql"), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)
