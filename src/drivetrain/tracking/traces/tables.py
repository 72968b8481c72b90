"""Traces: what an application did for one request, as a tree of spans, and what people and judges said of it.

A list of traces touches `traces` by its index over experiment and time, and the small tables by their owner; spans are read for whoever
opens a trace. All hang on the experiment, and go with it.
"""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.maps import key_values
from drivetrain.store.sql import Serial, metadata

traces = sa.Table(
    "traces",
    metadata,
    sa.Column("uid", Serial, primary_key=True, autoincrement=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("experiment_uid", sa.ForeignKey("experiments.uid", ondelete="CASCADE"), nullable=False),
    # The client's: unique within the workspace.
    sa.Column("trace_id", sa.String(128), nullable=False),
    sa.Column("client_request_id", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("state", sa.String(24), nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("duration_ms", sa.BigInteger),
    sa.Column("request_preview", sa.Text),
    sa.Column("response_preview", sa.Text),
    sa.Column("session", sa.Text),
    sa.Column("tokens", sa.BigInteger),
    # The client has told times and state itself: spans that come later do not change them.
    sa.Column("told", sa.SmallInteger, nullable=False),
    # Spans are kept here, and not in a file that the client wrote.
    sa.Column("spans", sa.SmallInteger, nullable=False),
    sa.UniqueConstraint("workspace_id", "trace_id"),
    sa.Index(None, "experiment_uid", sa.text("start_ms DESC"), sa.text("trace_id DESC")),
)

trace_tags = key_values("trace_tags", metadata, "trace_uid", "traces.uid")
trace_metadata = key_values("trace_metadata", metadata, "trace_uid", "traces.uid")

trace_spans = sa.Table(
    "trace_spans",
    metadata,
    sa.Column("trace_uid", Serial, sa.ForeignKey("traces.uid", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("span_id", sa.String(16), primary_key=True),
    sa.Column("parent_id", sa.String(16)),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("type", sa.Text),
    sa.Column("status", sa.String(8), nullable=False),
    sa.Column("start_ns", sa.BigInteger, nullable=False),
    sa.Column("end_ns", sa.BigInteger),
    # A JSON object that the database's own functions can read; `rest` has what this one cannot say, and everything else.
    sa.Column("attributes", sa.Text, nullable=False),
    sa.Column("rest", sa.Text, nullable=False),
    # JSON objects, of spans that count tokens or money.
    sa.Column("usage", sa.Text),
    sa.Column("cost", sa.Text),
    sqlite_with_rowid=False,
)

trace_assessments = sa.Table(
    "trace_assessments",
    metadata,
    sa.Column("trace_uid", Serial, sa.ForeignKey("traces.uid", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("source_type", sa.String(64), nullable=False),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("span_id", sa.Text),
    # JSON; `number` is the value where it is one.
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("number", sa.Double),
    sa.Column("error", sa.Text),
    sa.Column("rationale", sa.Text),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("overrides", sa.String(64)),
    sa.Column("valid", sa.SmallInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

trace_runs = sa.Table(
    "trace_runs",
    metadata,
    sa.Column("trace_uid", Serial, sa.ForeignKey("traces.uid", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

trace_prompts = sa.Table(
    "trace_prompts",
    metadata,
    sa.Column("trace_uid", Serial, sa.ForeignKey("traces.uid", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    # name/version
    sa.Column("prompt", sa.String(300), primary_key=True, index=True),
    sqlite_with_rowid=False,
)
