"""What runs have beyond MLflow's idea of them: a client's own id, nested config, a summary, rows of mixed values, console lines."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import Serial, metadata

run_details = sa.Table(
    "run_details",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("experiment_uid", Serial, nullable=False),
    # What the client calls the run: unique within its experiment.
    sa.Column("client_id", sa.String(128), nullable=False),
    sa.Column("sweep", sa.String(64), index=True),
    sa.Column("state", sa.String(16), nullable=False),
    # JSON texts, in which NaN and infinities stand as they came. `private` is what the client keeps for itself.
    sa.Column("config", sa.Text, nullable=False),
    sa.Column("private", sa.Text, nullable=False),
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("exit_code", sa.Integer),
    sa.Column("stop_requested", sa.Boolean, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("heartbeat_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("experiment_uid", "client_id"),
    sa.Index(None, "state", "heartbeat_ms"),
)

run_rows = sa.Table(
    "run_rows",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    # A JSON object of what is no plain number: those are points of metrics.
    sa.Column("body", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)

run_lines = sa.Table(
    "run_lines",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("level", sa.String(16), nullable=False),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
