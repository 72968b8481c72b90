"""What the native API says of the registry."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.registry.model import Commit, FileEntry, Ref, Repo, Version


class Known(Struct, frozen=True):
    """The sha256 of the files that need not be uploaded."""

    known: list[str]


class Stored(Struct, frozen=True):
    """A file that was uploaded."""

    sha256: str
    size: int


class RepoList(Struct, frozen=True):
    repos: list[Repo]


class RepoWithVersions(Struct, frozen=True):
    """A repo, its versions (the newest first) and refs."""

    repo: Repo
    versions: list[Version]
    refs: list[Ref]


class CommitList(Struct, frozen=True):
    commits: list[Commit]


class Committed(Struct, frozen=True):
    """`created`: whether this made the version; the same files again make none."""

    repo: Repo
    commit: Commit
    version: Version | None
    created: bool


class Manifest(Struct, frozen=True):
    """The files of a commit by their paths."""

    commit: str
    files: dict[str, FileEntry]


class VersionList(Struct, frozen=True):
    versions: list[Version]
