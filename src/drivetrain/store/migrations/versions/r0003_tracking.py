"""Tracking for two clients: details of runs, sweeps, artifacts, traces, evaluation, retention. One function for each."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _runs()
    _artifacts()
    _traces()
    _evaluation()
    _sweeps()
    _retention()


def _runs() -> None:
    op.create_table(
        "experiment_numbers",
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("highest", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("pk_experiment_numbers")),
    )
    op.create_table(
        "imports",
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "source", name=op.f("pk_imports")),
    )
    op.create_table(
        "saved_views",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("user_name", sa.String(length=256), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
        sa.UniqueConstraint("workspace_id", "name", name=op.f("uq_saved_views_workspace_id_name")),
    )
    op.create_table(
        "run_details",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("experiment_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("client_id", sa.String(length=128), nullable=False),
        sa.Column("sweep", sa.String(length=64), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("private", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_details_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run_details")),
        sa.UniqueConstraint("experiment_uid", "client_id", name=op.f("uq_run_details_experiment_uid_client_id")),
    )
    op.create_index(op.f("ix_run_details_state_heartbeat_ms"), "run_details", ["state", "heartbeat_ms"], unique=False)
    op.create_index(op.f("ix_run_details_sweep"), "run_details", ["sweep"], unique=False)
    op.create_table(
        "run_lines",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("time", sa.String(length=40), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_lines_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_run_lines")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_rows",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_rows_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_run_rows")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "metric_pages",
        sa.Column("series_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("after_step", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_nan", sa.SmallInteger(), nullable=False),
        sa.Column("last_value", sa.Double(), nullable=False),
        sa.Column("low_ms", sa.BigInteger(), nullable=False),
        sa.Column("high_ms", sa.BigInteger(), nullable=False),
        sa.Column("extremes", sa.LargeBinary(), nullable=False),
        sa.Column("parts", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["latest_metrics.id"], name=op.f("fk_metric_pages_series_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("series_id", "number", name=op.f("pk_metric_pages")),
    )


def _artifacts() -> None:
    op.create_table(
        "artifact_collections",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("linked", sa.Boolean(), nullable=False),
        sa.Column("repo_id", sa.String(length=32), nullable=True),
        sa.Column("next_link", sa.Integer(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repo_id"], ["repos.id"], name=op.f("fk_artifact_collections_repo_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_collections")),
        sa.UniqueConstraint("workspace_id", "project_id", "name", name=op.f("uq_artifact_collections_workspace_id_project_id_name")),
    )
    op.create_index(op.f("ix_artifact_collections_repo_id"), "artifact_collections", ["repo_id"], unique=False)
    op.create_table(
        "artifact_md5s",
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "md5", name=op.f("pk_artifact_md5s")),
    )
    op.create_table(
        "artifact_versions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("collection_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=128), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("aliases", sa.JSON(), nullable=False),
        sa.Column("client_id", sa.String(length=128), nullable=True),
        sa.Column("run_id", sa.String(length=32), nullable=True),
        sa.Column("history_step", sa.BigInteger(), nullable=True),
        sa.Column("manifest", sa.String(length=64), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["artifact_collections.id"], name=op.f("fk_artifact_versions_collection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_versions")),
    )
    op.create_index(op.f("ix_artifact_versions_client_id"), "artifact_versions", ["client_id"], unique=False)
    op.create_index(op.f("ix_artifact_versions_collection_id"), "artifact_versions", ["collection_id"], unique=False)
    op.create_table(
        "artifact_aliases",
        sa.Column("collection_id", sa.String(length=32), nullable=False),
        sa.Column("alias", sa.String(length=255), nullable=False),
        sa.Column("artifact_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact_versions.id"], name=op.f("fk_artifact_aliases_artifact_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["artifact_collections.id"], name=op.f("fk_artifact_aliases_collection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("collection_id", "alias", name=op.f("pk_artifact_aliases")),
    )
    op.create_index(op.f("ix_artifact_aliases_artifact_id"), "artifact_aliases", ["artifact_id"], unique=False)
    op.create_table(
        "artifact_edges",
        sa.Column("artifact_id", sa.String(length=32), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("way", sa.String(length=8), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact_versions.id"], name=op.f("fk_artifact_edges_artifact_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("artifact_id", "run_id", "way", name=op.f("pk_artifact_edges")),
    )
    op.create_index(op.f("ix_artifact_edges_run_id"), "artifact_edges", ["run_id"], unique=False)
    op.create_table(
        "artifact_manifests",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("artifact_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("base_id", sa.String(length=32), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact_versions.id"], name=op.f("fk_artifact_manifests_artifact_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_manifests")),
    )
    op.create_index(op.f("ix_artifact_manifests_artifact_id"), "artifact_manifests", ["artifact_id"], unique=False)
    op.create_table(
        "artifact_members",
        sa.Column("collection_id", sa.String(length=32), nullable=False),
        sa.Column("artifact_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact_versions.id"], name=op.f("fk_artifact_members_artifact_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["artifact_collections.id"], name=op.f("fk_artifact_members_collection_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("collection_id", "artifact_id", name=op.f("pk_artifact_members")),
    )
    op.create_index(op.f("ix_artifact_members_artifact_id"), "artifact_members", ["artifact_id"], unique=False)
    op.create_table(
        "artifact_pending",
        sa.Column("artifact_id", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact_versions.id"], name=op.f("fk_artifact_pending_artifact_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("artifact_id", "sha256", name=op.f("pk_artifact_pending")),
    )
    op.create_table(
        "artifact_uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("artifact_id", sa.String(length=32), nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("parts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["artifact_id"], ["artifact_versions.id"], name=op.f("fk_artifact_uploads_artifact_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_uploads")),
    )
    op.create_index(op.f("ix_artifact_uploads_artifact_id"), "artifact_uploads", ["artifact_id"], unique=False)
    op.create_table(
        "artifact_parts",
        sa.Column("upload_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["upload_id"], ["artifact_uploads.id"], name=op.f("fk_artifact_parts_upload_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("upload_id", "number", name=op.f("pk_artifact_parts")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("artifacts", "path", type_=sa.String(1024, collation="C"))


def _traces() -> None:
    op.create_table(
        "traces",
        sa.Column("uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("experiment_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("trace_id", sa.String(length=128), nullable=False),
        sa.Column("client_request_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("request_preview", sa.Text(), nullable=True),
        sa.Column("response_preview", sa.Text(), nullable=True),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("tokens", sa.BigInteger(), nullable=True),
        sa.Column("told", sa.SmallInteger(), nullable=False),
        sa.Column("spans", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_uid"], ["experiments.uid"], name=op.f("fk_traces_experiment_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_traces")),
        sa.UniqueConstraint("workspace_id", "trace_id", name=op.f("uq_traces_workspace_id_trace_id")),
    )
    op.create_index(op.f("ix_traces_experiment_uid"), "traces", ["experiment_uid", sa.text("start_ms DESC"), sa.text("trace_id DESC")])
    op.create_table(
        "trace_assessments",
        sa.Column("trace_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("source_type", sa.String(length=64), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("span_id", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("rationale", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("overrides", sa.String(length=64), nullable=True),
        sa.Column("valid", sa.SmallInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["trace_uid"], ["traces.uid"], name=op.f("fk_trace_assessments_trace_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trace_uid", "id", name=op.f("pk_trace_assessments")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trace_metadata",
        sa.Column("trace_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trace_uid"], ["traces.uid"], name=op.f("fk_trace_metadata_trace_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trace_uid", "key", name=op.f("pk_trace_metadata")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trace_prompts",
        sa.Column("trace_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("prompt", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(["trace_uid"], ["traces.uid"], name=op.f("fk_trace_prompts_trace_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trace_uid", "prompt", name=op.f("pk_trace_prompts")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_trace_prompts_prompt"), "trace_prompts", ["prompt"], unique=False)
    op.create_table(
        "trace_runs",
        sa.Column("trace_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["trace_uid"], ["traces.uid"], name=op.f("fk_trace_runs_trace_uid"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_trace_runs_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trace_uid", "run_id", name=op.f("pk_trace_runs")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_trace_runs_run_id"), "trace_runs", ["run_id"], unique=False)
    op.create_table(
        "trace_spans",
        sa.Column("trace_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("span_id", sa.String(length=16), nullable=False),
        sa.Column("parent_id", sa.String(length=16), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("start_ns", sa.BigInteger(), nullable=False),
        sa.Column("end_ns", sa.BigInteger(), nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("rest", sa.Text(), nullable=False),
        sa.Column("usage", sa.Text(), nullable=True),
        sa.Column("cost", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["trace_uid"], ["traces.uid"], name=op.f("fk_trace_spans_trace_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trace_uid", "span_id", name=op.f("pk_trace_spans")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "trace_tags",
        sa.Column("trace_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["trace_uid"], ["traces.uid"], name=op.f("fk_trace_tags_trace_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trace_uid", "key", name=op.f("pk_trace_tags")),
        sqlite_with_rowid=False,
    )


def _evaluation() -> None:
    op.create_table(
        "evaluation_datasets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("schema", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("created_by", sa.String(length=256), nullable=True),
        sa.Column("updated_by", sa.String(length=256), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation_datasets")),
    )
    op.create_index(
        op.f("ix_evaluation_datasets_workspace_id_created_ms"), "evaluation_datasets", ["workspace_id", "created_ms"], unique=False
    )
    op.create_index(op.f("ix_evaluation_datasets_workspace_id_name"), "evaluation_datasets", ["workspace_id", "name"], unique=False)
    op.create_table(
        "evaluation_dataset_experiments",
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("experiment_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["evaluation_datasets.id"], name=op.f("fk_evaluation_dataset_experiments_dataset_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["experiment_uid"], ["experiments.uid"], name=op.f("fk_evaluation_dataset_experiments_experiment_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "experiment_uid", name=op.f("pk_evaluation_dataset_experiments")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_evaluation_dataset_experiments_experiment_uid"), "evaluation_dataset_experiments", ["experiment_uid"], unique=False
    )
    op.create_table(
        "evaluation_dataset_tags",
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["evaluation_datasets.id"], name=op.f("fk_evaluation_dataset_tags_dataset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("dataset_id", "key", name=op.f("pk_evaluation_dataset_tags")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "evaluation_records",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("input_hash", sa.String(length=64), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("expectations", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("created_by", sa.String(length=256), nullable=True),
        sa.Column("updated_by", sa.String(length=256), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["evaluation_datasets.id"], name=op.f("fk_evaluation_records_dataset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation_records")),
        sa.UniqueConstraint("dataset_id", "input_hash", name=op.f("uq_evaluation_records_dataset_id_input_hash")),
    )
    op.create_index(
        op.f("ix_evaluation_records_dataset_id_created_ms_id"), "evaluation_records", ["dataset_id", "created_ms", "id"], unique=False
    )
    op.create_table(
        "scorers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("experiment_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.ForeignKeyConstraint(["experiment_uid"], ["experiments.uid"], name=op.f("fk_scorers_experiment_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scorers")),
        sa.UniqueConstraint("experiment_uid", "name", name=op.f("uq_scorers_experiment_uid_name")),
    )
    op.create_table(
        "scorer_versions",
        sa.Column("scorer_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["scorer_id"], ["scorers.id"], name=op.f("fk_scorer_versions_scorer_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("scorer_id", "number", name=op.f("pk_scorer_versions")),
        sqlite_with_rowid=False,
    )


def _sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("experiment_uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("experiment_id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("title", sa.String(length=250), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("user_name", sa.String(length=256), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["experiment_uid"], ["experiments.uid"], name=op.f("fk_sweeps_experiment_uid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
        sa.UniqueConstraint("workspace_id", "name", name=op.f("uq_sweeps_workspace_id_name")),
    )
    op.create_index(op.f("ix_sweeps_experiment_uid_id"), "sweeps", ["experiment_uid", "id"], unique=False)
    op.create_table(
        "sweep_agents",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("sweep_id", sa.String(length=32), nullable=False),
        sa.Column("host", sa.String(length=250), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_agents_sweep_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep_agents")),
    )
    op.create_index(op.f("ix_sweep_agents_sweep_id"), "sweep_agents", ["sweep_id"], unique=False)
    op.create_table(
        "sweep_trials",
        sa.Column("sweep_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("client_id", sa.String(length=128), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=True),
        sa.Column("args", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("seen", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("stopped_ms", sa.BigInteger(), nullable=True),
        sa.Column("brackets", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_sweep_trials_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name=op.f("fk_sweep_trials_sweep_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sweep_id", "position", name=op.f("pk_sweep_trials")),
    )
    op.create_index(op.f("ix_sweep_trials_run_id"), "sweep_trials", ["run_id"], unique=False)
    op.create_index(op.f("ix_sweep_trials_sweep_id_ended"), "sweep_trials", ["sweep_id", "ended"], unique=False)


def _retention() -> None:
    op.create_table(
        "gc_collections",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("user_name", sa.String(length=256), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("experiments", sa.BigInteger(), nullable=False),
        sa.Column("runs", sa.BigInteger(), nullable=False),
        sa.Column("models", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("later_blobs", sa.BigInteger(), nullable=False),
        sa.Column("later_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gc_collections")),
    )
    op.create_index(op.f("ix_gc_collections_ended_ms"), "gc_collections", ["ended_ms"], unique=False)
    op.create_index(op.f("ix_gc_collections_workspace_id_created_ms"), "gc_collections", ["workspace_id", "created_ms"], unique=False)
    op.create_table(
        "retention_policies",
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("grace_ms", sa.BigInteger(), nullable=False),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("pk_retention_policies")),
    )
    op.create_table(
        "gc_blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("collection_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["gc_collections.id"], name=op.f("fk_gc_blobs_collection_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_gc_blobs")),
    )
    op.create_index(op.f("ix_gc_blobs_collection_id"), "gc_blobs", ["collection_id"], unique=False)
    op.create_table(
        "gc_purges",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("workspace_id", sa.String(length=32), nullable=False),
        sa.Column("collection_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["gc_collections.id"], name=op.f("fk_gc_purges_collection_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("kind", "id", name=op.f("pk_gc_purges")),
    )
    op.create_index(op.f("ix_gc_purges_collection_id"), "gc_purges", ["collection_id"], unique=False)
    op.create_table(
        "orphaned_commits",
        sa.Column("commit_id", sa.String(length=64), nullable=False),
        sa.Column("deleted_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name=op.f("fk_orphaned_commits_commit_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("commit_id", name=op.f("pk_orphaned_commits")),
    )
