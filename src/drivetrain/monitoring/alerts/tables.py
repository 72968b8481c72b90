"""The tables of alerts: what was seen, who is told, what is silenced."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("deployment", sa.String(256), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("key", sa.String(300), nullable=False),
    sa.Column("severity", sa.String(8), nullable=False),
    sa.Column("title", sa.String(300), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("undo", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("first_ms", sa.BigInteger, nullable=False),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
    sa.Column("resolved_ms", sa.BigInteger),
    sa.Column("by", sa.String(256), nullable=False),
    sa.Index(None, "workspace_id", "last_ms"),
    sa.Index(None, "workspace_id", "state"),
)
sa.Index(
    # An alert that is not over grows; it is not raised again beside itself.
    "uq_alerts_key",
    alerts.c.workspace_id,
    alerts.c.key,
    unique=True,
    sqlite_where=alerts.c.resolved_ms.is_(None),
    postgresql_where=alerts.c.resolved_ms.is_(None),
)

silences = sa.Table(
    "alert_silences",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False, index=True),
    sa.Column("deployment", sa.String(256), nullable=False),  # "": every deployment
    sa.Column("source", sa.String(64), nullable=False),  # "": every source
    sa.Column("until_ms", sa.BigInteger, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

channels = sa.Table(
    "alert_channels",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("target", sa.String(2000), nullable=False),  # what may be shown of where it goes; the whole address is a secret
    sa.Column("least", sa.String(8), nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("worked_ms", sa.BigInteger),
    sa.Column("problem", sa.Text, nullable=False),
    sa.UniqueConstraint("workspace_id", "name"),
)

deliveries = sa.Table(
    "alert_deliveries",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # the receiver sees it: the same id twice is the same message
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("channel_id", sa.String(32), nullable=False),
    sa.Column("alert_id", sa.String(32), nullable=False, index=True),  # "" for a test
    sa.Column("what", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("ended_ms", sa.BigInteger),
)
