"""What was brought in from elsewhere: so that the same again is found, and an import that was cut off goes on."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

imports = sa.Table(
    "imports",
    metadata,
    sa.Column("workspace_id", sa.String(32), primary_key=True),
    # What it is where it came from, as "run:<id>" or "model:<id>".
    sa.Column("source", sa.String(200), primary_key=True),
    # The run or logged model that it has become.
    sa.Column("target", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
)
