"""How repos, commits and versions are added, within a transaction. Who adds to a repo has locked its row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Thing
from drivetrain.registry import finders, names
from drivetrain.registry import tables as t
from drivetrain.registry.finders import MAIN
from drivetrain.registry.model import KINDS, Commit, FileEntry
from drivetrain.store import maps
from drivetrain.store.blobs import Blobs
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import upsert


def entries(blobs: Blobs, files: Mapping[str, str]) -> dict[str, FileEntry]:
    """`files` are path → sha256. Raises `Invalid` for a bad path, and for a blob that is not stored."""
    digests = {path: digest.lower() for path, digest in files.items()}
    for path in digests:
        names.check_path(path)
    blobs.known(digests.values())  # counts as seen: a sweep that began a moment ago leaves them until the commit names them
    sizes: dict[str, int] = {}
    for path, digest in digests.items():
        if digest not in sizes:
            try:
                sizes[digest] = blobs.stat(digest).size
            except NotFound:
                raise Invalid(
                    f"The content of {path!r} ({digest[:12]}…) was not uploaded. Upload it, then commit.", param="files"
                ) from None
    return {path: FileEntry(digest, sizes[digest]) for path, digest in digests.items()}


def check_tree(files: Mapping[str, FileEntry]) -> None:
    """No path is a file and a folder at once."""
    for path in files:
        parts = path.split("/")
        for end in range(1, len(parts)):
            if (folder := "/".join(parts[:end])) in files:
                raise Invalid(f"{folder!r} cannot be a file and a folder (of {path!r}) at once.", param="files")


def check_tags(tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        if not key or len(key) > 250:
            raise Invalid(f"A tag's key has 1 to 250 characters; this one has {len(key)}.", param="key")
        if len(value) > 100_000:
            raise Invalid(f"The value of tag {key!r} is longer than 100000 characters.", param="value")


def add_repo(c: sa.Connection, ctx: Context, name: str, kind: str, description: str, tags: Mapping[str, str]) -> sa.Row[Any]:
    """Raises `Conflict` if there is one of that name."""
    if kind not in KINDS:
        raise Invalid(f"{kind!r} is no kind of repo: use one of {', '.join(KINDS)}.", param="kind")
    names.check_name(name)
    check_tags(tags)
    if finders.find_repo(c, ctx, name, kind) is not None:
        raise Conflict(f"There is a {kind} named {name!r} already. Choose another name, or delete that one first.", param="name")
    now = now_ms()
    values = {
        "id": uuid7(),
        "workspace_id": ctx.workspace_id,
        "kind": kind,
        "slug": free_slug(c, ctx, name, kind),
        "name": name,
        "description": description,
        "next_version": 1,
        "type": "",
        "portfolio": False,
        "created_ms": now,
        "updated_ms": now,
    }
    try:
        c.execute(t.repos.insert().values(**values))
    except sa.exc.IntegrityError:  # somebody made it at this very moment (PostgreSQL)
        raise Conflict(f"There is a {kind} named {name!r} already.", param="name") from None
    maps.put(c, t.repo_tags, values["id"], tags)
    return c.execute(sa.select(t.repos).where(t.repos.c.id == values["id"])).one()


def free_slug(c: sa.Connection, ctx: Context, name: str, kind: str, *, besides: str = "") -> str:
    slug = names.slug_of(name)
    where = (t.repos.c.workspace_id == ctx.workspace_id, t.repos.c.kind == kind, t.repos.c.slug == slug, t.repos.c.id != besides)
    if c.scalar(sa.select(t.repos.c.id).where(*where)) is None:
        return slug
    return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def add_commit(
    c: sa.Connection,
    ctx: Context,
    repo: sa.Row[Any],
    files: Mapping[str, FileEntry],
    *,
    message: str,
    parent: str | None = None,
    replace: bool = True,
    branch: str = MAIN,
    delete: Sequence[str] = (),
) -> str:
    """The new head of the branch; the old one, if nothing would change."""
    head = finders.ref(c, repo.id, "branch", branch)
    if parent is not None and parent != head:
        raise Conflict(
            f"{repo.slug}@{branch} has moved to {(head or 'nothing')[:12]} since {parent[:12]}: read its files again, then commit."
        )
    before = finders.files(c, head) if head else {}
    after = dict(files) if replace else {**before, **files}
    for path in delete:
        if after.pop(path, None) is None:
            raise NotFound(f"{repo.slug}@{branch} has no file {path!r} to delete.", param="path")
    check_tree(after)
    if head is not None and after == before:
        return head
    commit_id = _insert(c, ctx, repo.id, head, message, after)
    named = {"repo_id": repo.id, "kind": "branch", "name": branch, "commit_id": commit_id}
    upsert(c, t.refs, [named], key=["repo_id", "kind", "name"], update=["commit_id"])
    touch(c, repo.id)
    return commit_id


def add_version(
    c: sa.Connection,
    ctx: Context,
    repo: sa.Row[Any],
    commit: Commit,
    *,
    tags: Mapping[str, str] | None = None,
    derived_from: str | None = None,
    **values: Any,
) -> int:
    """The next version of the repo; its number. `values`: columns in place of their defaults. `derived_from`: the id of a version."""
    now, number = now_ms(), int(repo.next_version)
    c.execute(t.repos.update().where(t.repos.c.id == repo.id).values(next_version=number + 1, updated_ms=now))
    row: dict[str, Any] = {
        "id": uuid7(),
        "workspace_id": ctx.workspace_id,
        "repo_id": repo.id,
        "number": number,
        "commit_id": commit.id,
        "source": "",
        "description": "",
        "status": "READY",
        "status_message": "",
        "stage": "None",
        "user_name": ctx.user_name,
        "files": commit.files,
        "bytes": commit.bytes,
        "created_ms": now,
        "updated_ms": now,
    } | values
    c.execute(t.versions.insert().values(**row))
    maps.put(c, t.version_tags, row["id"], tags or {})
    made = Thing("version", row["id"])
    if row.get("run_id"):
        lineage.link(c, ctx, Thing("run", row["run_id"]), "made", made)
    if row.get("model_id"):
        lineage.link(c, ctx, made, "derived", Thing("model", row["model_id"]))
    if before := derived_from or row.get("origin_id"):
        lineage.link(c, ctx, made, "derived", Thing("version", before))
    return number


def touch(c: sa.Connection, repo_id: str) -> None:
    c.execute(t.repos.update().where(t.repos.c.id == repo_id).values(updated_ms=now_ms()))


def _insert(c: sa.Connection, ctx: Context, repo_id: str, parent: str | None, message: str, files: Mapping[str, FileEntry]) -> str:
    now = now_ms()
    manifest = [[path, entry.sha256] for path, entry in sorted(files.items())]
    body = {"repo": repo_id, "parent": parent, "message": message, "time": now, "files": manifest}
    commit_id = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    c.execute(
        t.commits.insert().values(
            id=commit_id,
            repo_id=repo_id,
            parent=parent,
            message=message,
            author=ctx.user_name,
            files=len(files),
            bytes=sum(entry.size for entry in files.values()),
            created_ms=now,
        )
    )
    if files:
        rows = [{"commit_id": commit_id, "path": path, "sha256": e.sha256, "size": e.size} for path, e in files.items()]
        c.execute(t.commit_files.insert(), rows)
    return commit_id
