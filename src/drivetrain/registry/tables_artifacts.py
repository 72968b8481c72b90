"""The tables of artifacts: collections in projects, their versions, who made and used them, and what is on its way in."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

collections = sa.Table(
    "artifact_collections",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("project_id", sa.String(32), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("type", sa.String(128), nullable=False),
    # A sequence has versions of its own, and a repo that keeps them. A portfolio has only links to them; one that is a registered model
    # has a repo, too.
    sa.Column("linked", sa.Boolean, nullable=False),
    sa.Column("repo_id", sa.ForeignKey("repos.id", ondelete="CASCADE"), index=True),
    sa.Column("next_link", sa.Integer, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workspace_id", "project_id", "name"),
)

artifacts = sa.Table(
    "artifact_versions",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("collection_id", sa.ForeignKey("artifact_collections.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("number", sa.Integer),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("metadata", sa.Text),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("aliases", sa.JSON, nullable=False),
    sa.Column("client_id", sa.String(128), index=True),
    sa.Column("run_id", sa.String(32)),
    sa.Column("history_step", sa.BigInteger),
    sa.Column("manifest", sa.String(64)),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
)

members = sa.Table(
    "artifact_members",
    metadata,
    sa.Column("collection_id", sa.ForeignKey("artifact_collections.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("artifact_id", sa.ForeignKey("artifact_versions.id", ondelete="CASCADE"), primary_key=True, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

member_aliases = sa.Table(
    "artifact_aliases",
    metadata,
    sa.Column("collection_id", sa.ForeignKey("artifact_collections.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("alias", sa.String(255), primary_key=True),
    sa.Column("artifact_id", sa.ForeignKey("artifact_versions.id", ondelete="CASCADE"), nullable=False, index=True),
)

edges = sa.Table(
    "artifact_edges",
    metadata,
    sa.Column("artifact_id", sa.ForeignKey("artifact_versions.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("run_id", sa.String(32), primary_key=True, index=True),
    sa.Column("way", sa.String(8), primary_key=True),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

manifests = sa.Table(
    "artifact_manifests",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("artifact_id", sa.ForeignKey("artifact_versions.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("base_id", sa.String(32)),
    sa.Column("sha256", sa.String(64)),
)

pending = sa.Table(
    "artifact_pending",
    metadata,
    sa.Column("artifact_id", sa.ForeignKey("artifact_versions.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
)

md5s = sa.Table(
    # Clients know content by its md5. What another workspace brought is unknown here.
    "artifact_md5s",
    metadata,
    sa.Column("workspace_id", sa.String(32), primary_key=True),
    sa.Column("md5", sa.String(32), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
)

uploads = sa.Table(
    "artifact_uploads",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("artifact_id", sa.ForeignKey("artifact_versions.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("md5", sa.String(32), nullable=False),
    sa.Column("parts", sa.Integer, nullable=False),
)

parts = sa.Table(
    "artifact_parts",
    metadata,
    sa.Column("upload_id", sa.ForeignKey("artifact_uploads.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
)
