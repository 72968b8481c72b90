"""The nouns of the registry: repos, commits, refs, versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("model", "dataset", "space", "artifact", "prompt")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a commit: its blob's sha256 (hex) and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Repo:
    """A named chain of commits. `latest` is its largest version number still there; `aliases` are alias → version number.

    One that is a `collection` of a project has a name and a type there; a `portfolio` holds links to versions of others.
    """

    id: str
    workspace_id: str
    kind: str
    slug: str
    name: str
    description: str
    created_ms: int
    updated_ms: int
    latest: int | None = None
    project_id: str | None = None
    collection: str | None = None
    type: str = ""
    portfolio: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """An immutable manifest of files. `id` is the sha256 of its repo, manifest, parent, message and time."""

    id: str
    repo_id: str
    parent: str | None
    message: str
    author: str
    created_ms: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Ref:
    """A `branch` or `tag` that names a commit."""

    kind: str
    name: str
    commit_id: str


@dataclass(frozen=True, slots=True)
class Version:
    """A commit that somebody registered. `repo` is the slug, `name` the display name of its repo.

    `digest`, `metadata` and `manifest` (a blob) are what a client has said of it. `files` and `bytes` count files elsewhere, too, that the
    manifest refers to. `origin_id` is the version that this one is a link to.
    """

    id: str
    workspace_id: str
    repo_id: str
    repo: str
    name: str
    number: int
    commit_id: str
    run_id: str | None
    model_id: str | None
    source: str
    description: str
    status: str
    status_message: str
    stage: str
    user: str
    created_ms: int
    updated_ms: int
    origin_id: str | None = None
    digest: str | None = None
    metadata: str | None = None
    manifest: str | None = None
    step: int | None = None
    files: int = 0
    bytes: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that is on its way in. When it is committed, it becomes a version with this id, with these aliases."""

    id: str
    repo_id: str
    digest: str
    description: str
    metadata: str | None
    tags: Mapping[str, str]
    aliases: tuple[str, ...]
    run_id: str | None
    step: int | None
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name means today. `version` is None for a commit that was pushed but not registered; `ref` is how it was found."""

    repo: Repo
    version: Version | None
    commit_id: str
    ref: str
