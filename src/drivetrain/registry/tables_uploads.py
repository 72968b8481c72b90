"""The tables of what is on its way in: blobs that a workspace has brought, versions that are still being filled, large files in parts."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.sql import metadata

uploads = sa.Table(
    "uploads",
    metadata,
    # Which workspace brought which blob: knowing a digest is not enough to use another workspace's bytes.
    sa.Column("workspace_id", sa.String(32), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("md5", sa.String(32)),  # where the client knows content by that
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Index(None, "workspace_id", "md5"),
)

drafts = sa.Table(
    # A version that was begun. Once it is committed it is a version, with the same id.
    "drafts",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("repo_id", sa.ForeignKey("repos.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("client_id", sa.String(128), index=True),
    sa.Column("digest", sa.String(128), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("metadata", sa.Text),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("aliases", sa.JSON, nullable=False),
    sa.Column("run_id", sa.String(32)),
    sa.Column("step", sa.BigInteger),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
)

held = sa.Table(
    # Blobs that a draft needs: no sweep takes them.
    "draft_blobs",
    metadata,
    sa.Column("draft_id", sa.ForeignKey("drafts.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
)

manifests = sa.Table(
    "draft_manifests",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("draft_id", sa.ForeignKey("drafts.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("base_id", sa.String(32)),
    sa.Column("sha256", sa.String(64)),
)

multiparts = sa.Table(
    "multipart_uploads",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("draft_id", sa.ForeignKey("drafts.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("md5", sa.String(32), nullable=False),
    sa.Column("parts", sa.Integer, nullable=False),
)

parts = sa.Table(
    "multipart_parts",
    metadata,
    sa.Column("upload_id", sa.ForeignKey("multipart_uploads.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
)
