"""Artifacts: files that belong to a run, a logged model or a workspace, as paths that name blobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.blobs import Blob, Blobs
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, upsert
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import model_row, run_row
from drivetrain.tracking.model import Artifact, Owner

_a = t.artifacts.c


@dataclass(frozen=True, slots=True)
class Artifacts:
    db: Database
    blobs: Blobs

    def check_owner(self, ctx: Context, kind: Owner, owner: str, *, writable: bool = False) -> None:
        """Raises `NotFound` for what is not there or another workspace's, `Invalid` for a deleted run that is to be written to."""
        ctx.require(Scope.write if writable else Scope.read)
        with self.db.read() as c:
            _check_owner(c, ctx, kind, owner, writable=writable)

    def put(self, ctx: Context, kind: Owner, owner: str, path: str, blob: Blob) -> None:
        """Let `path` be the blob; a file that was there before is replaced."""
        ctx.require(Scope.write)
        checks.path(path)
        if (error := self.db.group_write(partial(_place, ctx, kind, owner, path, blob))) is not None:
            raise error

    def write(self, ctx: Context, kind: Owner, owner: str, path: str, data: bytes) -> Blob:
        """Let `path` hold these bytes, which are few: blob and path in one transaction."""
        ctx.require(Scope.write)
        checks.path(path)
        errors: list[DrivetrainError | None] = []
        blob = self.blobs.put([data], size=len(data), then=lambda c, blob: errors.append(_place(ctx, kind, owner, path, blob, c)))
        if errors[-1] is not None:
            raise errors[-1]
        return blob

    def listing(self, ctx: Context, kind: Owner, owner: str, folder: str = "") -> list[Artifact]:
        """The files and folders right below `folder`; for a file just that one; for nothing, nothing."""
        ctx.require(Scope.read)
        folder = checks.folder(folder)
        with self.db.read() as c:
            _check_owner(c, ctx, kind, owner)
            query = sa.select(_a.path, _a.sha256, _a.size).where(*_of(kind, owner))
            if folder:
                query = query.where(sa.or_(_a.path == folder, _below(folder)))
            rows = [(row.path, row.sha256, row.size) for row in c.execute(query)]
        return listed(rows, folder)

    def get(self, ctx: Context, kind: Owner, owner: str, path: str) -> Artifact:
        ctx.require(Scope.read)
        checks.path(path)
        with self.db.read() as c:
            _check_owner(c, ctx, kind, owner)
            row = c.execute(sa.select(_a.path, _a.sha256, _a.size).where(*_of(kind, owner), _a.path == path)).one_or_none()
        if row is None:
            raise NotFound(f"There is no artifact {checks.shown(path)} in {kind.value} {owner}: list what there is.", param="path")
        return Artifact(row.path, row.sha256, row.size)

    def delete(self, ctx: Context, kind: Owner, owner: str, path: str | None) -> int:
        """Delete a file, or a folder with all in it (None: all that the owner has); how many files that were."""
        ctx.require(Scope.write)
        if path is not None:
            checks.path(path)
        with self.db.write() as c:
            _check_owner(c, ctx, kind, owner, writable=True)
            mine = t.artifacts.delete().where(*_of(kind, owner))
            return c.execute(mine if path is None else mine.where(sa.or_(_a.path == path, _below(path)))).rowcount

    def manifest(self, ctx: Context, kind: Owner, owner: str, folder: str = "") -> dict[str, tuple[str, int]]:
        """All files below `folder`, as path (relative to it) → (sha256, size): what a commit of them names."""
        ctx.require(Scope.read)
        folder = checks.folder(folder)
        with self.db.read() as c:
            _check_owner(c, ctx, kind, owner)
            query = sa.select(_a.path, _a.sha256, _a.size).where(*_of(kind, owner)).order_by(_a.path)
            if folder:
                query = query.where(_below(folder))
            skip = len(folder) + 1 if folder else 0
            return {path[skip:]: (sha256, size) for path, sha256, size in c.execute(query)}

    def live_blobs(self) -> set[str]:
        """The blobs that some artifact names: what a sweep must keep."""
        with self.db.read() as c:
            return set(c.scalars(sa.select(_a.sha256).distinct()))


def _place(ctx: Context, kind: Owner, owner: str, path: str, blob: Blob, c: sa.Connection) -> DrivetrainError | None:
    try:
        _check_owner(c, ctx, kind, owner, writable=True)
    except DrivetrainError as error:
        return error
    folders = [path[:at] for at, letter in enumerate(path) if letter == "/"]
    first, end = _bounds(path)
    given = {"kind": kind.value, "owner": owner, "folders": folders, "first": first, "end": end}
    if (other := c.scalar(_CLASH, given)) is not None:
        return Invalid(f"{path!r} cannot be a file: there is {other!r} already, and no name is a file and a folder.", param="path")
    row = {"owner_kind": kind.value, "owner_id": owner, "path": path, "sha256": blob.sha256, "size": blob.size, "created_ms": now_ms()}
    upsert(c, t.artifacts, [row], key=["owner_kind", "owner_id", "path"], update=["sha256", "size", "created_ms"])
    return None


def _check_owner(c: sa.Connection, ctx: Context, kind: Owner, owner: str, *, writable: bool = False) -> None:
    if kind is Owner.run:
        run_row(c, ctx, owner, writable=writable)
    elif kind is Owner.model:
        model_row(c, ctx, owner)
    elif owner != ctx.workspace_id:
        raise NotFound("There is no such place for artifacts in this workspace.", param="path")


def listed(files: Iterable[tuple[str, str, int]], folder: str) -> list[Artifact]:
    """What is right below `folder`, out of all (path, sha256, size); for a file just that one."""
    prefix = f"{folder}/" if folder else ""
    found: dict[str, Artifact] = {}
    for path, sha256, size in files:
        if path == folder:
            return [Artifact(path, sha256, size)]
        if path.startswith(prefix):
            name, slash, _ = path[len(prefix) :].partition("/")
            found[name] = Artifact(prefix + name, "", 0) if slash else Artifact(path, sha256, size)
    return [found[name] for name in sorted(found)]


def _of(kind: Owner, owner: str) -> Sequence[sa.ColumnElement[bool]]:
    return _a.owner_kind == kind.value, _a.owner_id == owner


def _between(first: Any, end: Any) -> sa.ColumnElement[bool]:
    return sa.and_(_a.path >= first, _a.path < end)


def _below(folder: str) -> sa.ColumnElement[bool]:
    return _between(*_bounds(folder))


def _bounds(folder: str) -> tuple[str, str]:
    """Between these is all that lies below the folder: "0" comes right after "/"."""
    return f"{folder}/", f"{folder}0"


_CLASH = (
    sa.select(_a.path)
    .where(_a.owner_kind == sa.bindparam("kind"), _a.owner_id == sa.bindparam("owner"))
    .where(sa.or_(_a.path.in_(sa.bindparam("folders", expanding=True)), _between(sa.bindparam("first"), sa.bindparam("end"))))
    .limit(1)
)
