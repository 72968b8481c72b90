"""The tables of deployments, variants and replicas."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

deployments = sa.Table(
    "deployments",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("workspace", sa.String(64), nullable=False),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("implicit", sa.Boolean, nullable=False),
    sa.Column("capture", sa.String(16), nullable=False),
    sa.Column("capture_rate", sa.Float, nullable=False),
    sa.Column("unit", sa.String(16), nullable=False, server_default="person"),  # or request: whom rollouts assign to a version
    sa.Column("salt", sa.String(32), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(64), nullable=False),
    sa.Column("deleted_ms", sa.BigInteger),
    # The rollout that moves its weights, if there is one; then nobody else may.
    sa.Column("rollout", sa.String(32)),
    sa.Column("phase", sa.Integer, nullable=False, server_default="0"),
    sa.Column("stable", sa.String(32)),
    sa.Column("canary", sa.String(32)),
)
sa.Index(
    "uq_deployments_name",
    deployments.c.workspace_id,
    deployments.c.name,
    unique=True,
    sqlite_where=deployments.c.deleted_ms.is_(None),
    postgresql_where=deployments.c.deleted_ms.is_(None),
)

variants = sa.Table(
    "variants",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("deployment_id", sa.ForeignKey("deployments.id"), nullable=False, index=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("repo", sa.String(300), nullable=False),
    sa.Column("version", sa.Integer),
    sa.Column("commit_id", sa.String(64), nullable=False),
    sa.Column("engine", sa.String(32), nullable=False),
    sa.Column("tasks", sa.JSON, nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("weight", sa.Integer, nullable=False),
    sa.Column("min_replicas", sa.Integer, nullable=False),
    sa.Column("max_replicas", sa.Integer, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("ready_ms", sa.BigInteger),
    sa.Column("retired_ms", sa.BigInteger),
    sa.Column("shadow", sa.Integer, nullable=False, server_default="0"),
    sa.Column("prices", sa.JSON),
    # Taken out of service for good: it stands in for nobody, not even while no other variant is ready.
    sa.Column("withdrawn", sa.Boolean, nullable=False, server_default=sa.false()),
)

replicas = sa.Table(
    "replicas",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("variant_id", sa.String(32), nullable=False, index=True),
    sa.Column("server_id", sa.String(32), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message", sa.Text, nullable=False, default=""),
    sa.Column("pid", sa.Integer),
    sa.Column("address", sa.String(300), nullable=False, default=""),
    sa.Column("memory_bytes", sa.BigInteger, nullable=False, default=0),
    sa.Column("restarts", sa.Integer, nullable=False, default=0),
    sa.Column("started_ms", sa.BigInteger, nullable=False),
    sa.Column("ready_ms", sa.BigInteger),
)
