"""The tables of retraining."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

policies = sa.Table(
    "retraining_policies",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False, index=True),
    sa.Column("workspace", sa.String(64), nullable=False),
    sa.Column("deployment_id", sa.String(32), nullable=False, unique=True),
    sa.Column("deployment", sa.String(256), nullable=False),
    sa.Column("script", sa.String(512), nullable=False),
    sa.Column("entry", sa.String(512), nullable=False),
    sa.Column("base", sa.String(512), nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("label", sa.String(250), nullable=False),
    sa.Column("days", sa.Float),
    sa.Column("trigger", sa.JSON, nullable=False),
    sa.Column("gate", sa.JSON, nullable=False),
    sa.Column("plan", sa.JSON(none_as_null=True)),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("user_id", sa.String(32), nullable=False),
    # What passed while a server ran, by its monotonic clock: since the last retraining, and since the alerts began that last now.
    sa.Column("rested_ms", sa.BigInteger, nullable=False),
    sa.Column("alarmed_ms", sa.BigInteger, nullable=False),
    sa.Column("fresh", sa.Boolean, nullable=False),  # there was none yet: nothing to cool down from
    sa.Column("labels", sa.BigInteger, nullable=False),  # how many there were at the last retraining
    sa.Column("time_limit", sa.Float, nullable=False, server_default=sa.text("3600")),
    # Attempts in a row that brought no version (and of these, how many failed since one did), and the time that passed since the last.
    sa.Column("tries", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("waited_ms", sa.BigInteger, nullable=False, server_default=sa.text("0")),
)

retrainings = sa.Table(
    "retrainings",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False, index=True),
    sa.Column("workspace", sa.String(64), nullable=False),
    sa.Column("policy_id", sa.String(32), nullable=False, index=True),
    sa.Column("deployment_id", sa.String(32), nullable=False, index=True),
    sa.Column("deployment", sa.String(256), nullable=False),
    sa.Column("policy", sa.JSON, nullable=False),  # as it was
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("cause", sa.String(256), nullable=False),
    sa.Column("trigger", sa.JSON, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("user_id", sa.String(32), nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
    sa.Column("job_id", sa.String(32)),
    sa.Column("labels", sa.BigInteger),  # how many there were when it began
    sa.Column("training_set", sa.JSON, nullable=False),  # the query
    sa.Column("told", sa.Boolean, nullable=False),  # false: its end, or its waiting, is still to be told of
)
sa.Index(
    # One at a time.
    "uq_retrainings_open",
    retrainings.c.deployment_id,
    unique=True,
    sqlite_where=retrainings.c.ended_ms.is_(None),
    postgresql_where=retrainings.c.ended_ms.is_(None),
)
