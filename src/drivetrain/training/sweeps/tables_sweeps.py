"""The tables of sweeps: what is searched, who works on it, and what was handed out."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import Serial, metadata

sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("experiment_uid", Serial, sa.ForeignKey("experiments.uid", ondelete="CASCADE"), nullable=False),
    sa.Column("experiment_id", sa.String(16), nullable=False),
    # What people and agents call it.
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("title", sa.String(250), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("config", sa.Text, nullable=False),  # YAML, as it came
    sa.Column("user_name", sa.String(256), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workspace_id", "name"),
    sa.Index(None, "experiment_uid", "id"),
)

agents = sa.Table(
    "sweep_agents",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("sweep_id", sa.ForeignKey("sweeps.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("host", sa.String(250), nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("heartbeat_ms", sa.BigInteger, nullable=False),
)

trials = sa.Table(
    "sweep_trials",
    metadata,
    sa.Column("sweep_id", sa.ForeignKey("sweeps.id", ondelete="CASCADE"), primary_key=True),
    # Each is handed out once: the place in the grid, or the number of the draw.
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("client_id", sa.String(128), nullable=False),
    sa.Column("agent_id", sa.String(32), nullable=False),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), index=True),  # NULL until the run is made
    sa.Column("args", sa.Text),  # JSON; NULL until they are chosen
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("seen", sa.Boolean, nullable=False),  # an agent said that it works on it
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Column("value", sa.Double),  # of the metric, once it has ended
    sa.Column("stopped_ms", sa.BigInteger),  # when it was first told to stop early
    sa.Column("brackets", sa.Text, nullable=False),  # JSON: iterations → the metric there
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Index(None, "sweep_id", "ended"),
)
