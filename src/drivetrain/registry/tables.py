"""The registry's tables: repos, commits, refs, versions; then what is on its way in: blobs that were brought, drafts, files in parts."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.store.maps import key_values
from drivetrain.store.sql import metadata

repos = sa.Table(
    "repos",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("slug", sa.String(96), nullable=False),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("next_version", sa.Integer, nullable=False),
    # Of a collection: the project that it is in, its name and type there, and whether it holds links to others' versions only.
    sa.Column("project_id", sa.String(32)),
    sa.Column("collection", sa.String(128)),
    sa.Column("type", sa.String(128), nullable=False),
    sa.Column("portfolio", sa.Boolean, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("workspace_id", "kind", "slug"),
    sa.UniqueConstraint("workspace_id", "kind", "name"),
    sa.UniqueConstraint("workspace_id", "project_id", "collection"),
)

repo_tags = key_values("repo_tags", metadata, "repo_id", "repos.id")

commits = sa.Table(
    "commits",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("repo_id", sa.ForeignKey("repos.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("parent", sa.String(64)),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("author", sa.String(256), nullable=False),
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
)

commit_files = sa.Table(
    "commit_files",
    metadata,
    sa.Column("commit_id", sa.ForeignKey("commits.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("path", sa.String(1024), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("size", sa.BigInteger, nullable=False),
)

refs = sa.Table(
    "refs",
    metadata,
    sa.Column("repo_id", sa.ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", sa.String(8), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("commit_id", sa.ForeignKey("commits.id", ondelete="CASCADE"), nullable=False),
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("workspace_id", sa.String(32), nullable=False),
    sa.Column("repo_id", sa.ForeignKey("repos.id", ondelete="CASCADE"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("commit_id", sa.ForeignKey("commits.id"), nullable=False, index=True),
    sa.Column("run_id", sa.String(32), index=True),
    sa.Column("model_id", sa.String(64), index=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("status", sa.String(32), nullable=False),
    sa.Column("status_message", sa.Text, nullable=False),
    sa.Column("stage", sa.String(32), nullable=False),
    sa.Column("user_name", sa.String(256), nullable=False),
    # Of a link: the version that it stands for. Where that was deleted, the link is a version of its own.
    sa.Column("origin_id", sa.ForeignKey("versions.id", ondelete="SET NULL"), index=True),
    # What a client has said of it: its own id, digest, metadata and manifest (a blob), and the step at which the run made it.
    sa.Column("client_id", sa.String(128), index=True),
    sa.Column("digest", sa.String(128)),
    sa.Column("metadata", sa.Text),
    sa.Column("manifest", sa.String(64)),
    sa.Column("step", sa.BigInteger),
    # Files elsewhere that the manifest refers to are counted, too.
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("repo_id", "number"),
    sa.Index(None, "workspace_id", "updated_ms"),
)

version_tags = key_values("version_tags", metadata, "version_id", "versions.id")

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("repo_id", sa.ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("alias", sa.String(255), primary_key=True),
    sa.Column("version_id", sa.ForeignKey("versions.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
)

orphans = sa.Table(
    # Commits whose versions were deleted.
    "orphaned_commits",
    metadata,
    sa.Column("commit_id", sa.ForeignKey("commits.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("deleted_ms", sa.BigInteger, nullable=False),
)

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
