"""The tables of jobs."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("workspace", sa.String(64), nullable=False),
    sa.Column("user_id", sa.String(32), nullable=False),
    sa.Column("user_name", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("key", sa.String(200)),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("server_id", sa.String(32)),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("done", sa.Float, nullable=False),
    sa.Column("total", sa.Float, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("result", sa.JSON),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("started_ms", sa.BigInteger),
    sa.Column("ended_ms", sa.BigInteger),
    sa.UniqueConstraint("workspace_id", "kind", "key"),
    sa.Index("ix_jobs_workspace_created", "workspace_id", "created_ms"),
)

stages = sa.Table(
    # What is here was done, and is not done again. `work`: the id of what is done in stages, be it a job or what a job works for.
    "stages",
    metadata,
    sa.Column("work", sa.String(32), primary_key=True),
    sa.Column("stage", sa.String(32), primary_key=True),
    sa.Column("at_ms", sa.BigInteger, nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("undo", sa.Text, nullable=False),
)
