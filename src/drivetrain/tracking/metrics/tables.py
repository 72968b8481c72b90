"""Summaries of long series, from which charts are drawn."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import Serial, metadata

metric_pages = sa.Table(
    "metric_pages",
    metadata,
    sa.Column("series_id", Serial, sa.ForeignKey("latest_metrics.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    # A page is about the points after the last one of the page before, up to its own last one, in the order of the series.
    sa.Column("after_step", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
    sa.Column("last_nan", sa.SmallInteger, nullable=False),
    sa.Column("last_value", sa.Double, nullable=False),
    sa.Column("low_ms", sa.BigInteger, nullable=False),
    sa.Column("high_ms", sa.BigInteger, nullable=False),
    # MessagePack: the extreme points of the page, and those of each of its parts.
    sa.Column("extremes", sa.LargeBinary, nullable=False),
    sa.Column("parts", sa.LargeBinary, nullable=False),
)
