"""What is on its way in: which blobs a workspace has brought, files in parts, manifests, and what versions still to be committed need.

The same for every protocol: content is known by its sha256 or md5, and a draft is what holds it until it is committed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage import service as lineage
from drivetrain.registry import finders
from drivetrain.registry import tables as t
from drivetrain.store.blobs import Blob, Blobs, blobs_table
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, chunked, upsert

MAX_PARTS = 10_000
DRAFT_MS = 7 * 24 * 3600 * 1000
"""How long a version may be on its way in."""
_b, _d, _m, _p, _f = t.uploads.c, t.drafts.c, t.multiparts.c, t.parts.c, t.manifests.c


class Uploads:
    """On one database and one blob store. Thread-safe."""

    def __init__(self, db: Database, blobs: Blobs) -> None:
        self.db = db
        self.blobs = blobs

    # --- blobs

    def brought(self, ctx: Context, sha256: str) -> None:
        """Note that this workspace brought the blob."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            _brought(c, ctx, sha256, None)

    def own(self, ctx: Context, digests: Sequence[str]) -> set[str]:
        """Which of these blobs are stored *and* were brought or committed by this workspace: the others are as unknown to it."""
        ctx.require(Scope.read)
        stored = sorted(self.blobs.known(digests))
        owned: set[str] = set()
        with self.db.read() as c:
            for part in chunked(stored):
                f = t.commit_files.c
                owned.update(c.scalars(sa.select(_b.sha256).where(_b.workspace_id == ctx.workspace_id, _b.sha256.in_(part))))
                committed = (
                    sa.select(f.sha256)
                    .join(t.commits, t.commits.c.id == f.commit_id)
                    .join(t.repos, t.repos.c.id == t.commits.c.repo_id)
                    .where(t.repos.c.workspace_id == ctx.workspace_id, f.sha256.in_(part))
                )
                owned.update(c.scalars(committed))
        return owned

    def known(self, ctx: Context, md5s: Iterable[str]) -> dict[str, str]:
        """md5 → sha256 of the content that this workspace has brought before and that is still there."""
        ctx.require(Scope.read)
        found: dict[str, str] = {}
        with self.db.read() as c:
            for some in chunked(dict.fromkeys(md5s)):
                query = sa.select(_b.md5, _b.sha256).where(_b.workspace_id == ctx.workspace_id, _b.md5.in_(some))
                found.update((str(row.md5), row.sha256) for row in c.execute(query.order_by(_b.created_ms)))
        there = self.blobs.known(found.values())
        return {md5: sha256 for md5, sha256 in found.items() if sha256 in there}

    # --- for a draft

    def check(self, ctx: Context, draft_id: str) -> None:
        """Raises `NotFound` if no files can be sent for it. Addresses that are signed for sending cannot read."""
        ctx.require(Scope.write)
        with self.db.read() as c:
            finders.draft(c, ctx, draft_id)

    def hold(self, ctx: Context, draft_id: str, digests: Iterable[str]) -> None:
        """The draft needs these blobs."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            finders.draft(c, ctx, draft_id)
            upsert(c, t.held, [{"draft_id": draft_id, "sha256": one} for one in dict.fromkeys(digests)], key=["draft_id", "sha256"])

    def arrived(self, ctx: Context, draft_id: str, md5: str, blob: Blob) -> None:
        """A file of the draft is stored. Raises `Invalid` if it is not what was announced."""
        ctx.require(Scope.write)
        if blob.md5 != md5:
            raise Invalid(f"The file has the md5 {blob.md5}, not {md5} as announced: send it again.")
        with self.db.write() as c:
            finders.draft(c, ctx, draft_id)
            upsert(c, t.held, [{"draft_id": draft_id, "sha256": blob.sha256}], key=["draft_id", "sha256"])
            _brought(c, ctx, blob.sha256, md5)

    # --- parts

    def begin_parts(self, ctx: Context, draft_id: str, md5: str, count: int) -> str:
        ctx.require(Scope.write)
        if not 1 <= count <= MAX_PARTS:
            raise Invalid(f"A file has 1 to {MAX_PARTS} parts, not {count}.")
        with self.db.write() as c:
            finders.draft(c, ctx, draft_id)
            upload_id = uuid7()
            c.execute(t.multiparts.insert().values(id=upload_id, draft_id=draft_id, md5=md5, parts=count))
            return upload_id

    def put_part(self, ctx: Context, upload_id: str, number: int, blob: Blob) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            _, _, count = _multipart(c, ctx, upload_id)
            if not 1 <= number <= count:
                raise Invalid(f"This file has the parts 1 to {count}, not {number}.")
            value = {"upload_id": upload_id, "number": number, "sha256": blob.sha256}
            upsert(c, t.parts, [value], key=["upload_id", "number"], update=["sha256"])

    def complete(self, ctx: Context, upload_id: str) -> str:
        """Make the file of its parts; its md5. May be said again."""
        ctx.require(Scope.write)
        with self.db.read() as c:
            draft_id, md5, count = _multipart(c, ctx, upload_id)
            found = c.execute(sa.select(_p.number, _p.sha256).where(_p.upload_id == upload_id).order_by(_p.number)).all()
        if not found and md5 in self.known(ctx, [md5]):
            return md5
        if len(found) != count:
            raise Conflict(f"Of the file's {count} parts {len(found)} have arrived: send the others, then complete it.")
        blob = self.blobs.put(itertools.chain.from_iterable(self.blobs.read(one.sha256) for one in found), md5=True)
        self.arrived(ctx, draft_id, md5, blob)
        with self.db.write() as c:
            c.execute(t.parts.delete().where(_p.upload_id == upload_id))
        return md5

    # --- manifests

    def add_manifest(self, ctx: Context, draft_id: str, kind: str, base_id: str | None) -> str:
        ctx.require(Scope.write)
        if kind not in ("FULL", "INCREMENTAL", "PATCH"):
            raise Invalid(f"{kind[:40]!r} is no kind of manifest.")
        with self.db.write() as c:
            finders.draft(c, ctx, draft_id)
            manifest_id = uuid7()
            c.execute(t.manifests.insert().values(id=manifest_id, draft_id=draft_id, kind=kind, base_id=base_id))
            return manifest_id

    def check_manifest(self, ctx: Context, manifest_id: str) -> None:
        """Raises `NotFound` if it cannot be written: its draft is not there any more."""
        ctx.require(Scope.write)
        with self.db.read() as c:
            _check_manifest(c, ctx, manifest_id)

    def put_manifest(self, ctx: Context, manifest_id: str, blob: Blob) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            _check_manifest(c, ctx, manifest_id)
            c.execute(t.manifests.update().where(_f.id == manifest_id).values(sha256=blob.sha256))

    def manifests(self, ctx: Context, draft_id: str) -> list[tuple[str, str | None, str]]:
        """Those that have arrived, the first first: kind, the version that it lies over, sha256."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            finders.draft(c, ctx, draft_id)
            query = sa.select(_f.kind, _f.base_id, _f.sha256).where(_f.draft_id == draft_id, _f.sha256.is_not(None))
            return [(row.kind, row.base_id, row.sha256) for row in c.execute(query.order_by(_f.id))]


def forget_uploads(db: Database) -> None:
    """Delete drafts that were never committed, and what is known of content that has gone."""
    there = sa.select(blobs_table.c.sha256).where(blobs_table.c.sha256 == _b.sha256)
    with db.write() as c:
        drop_drafts(c, _d.updated_ms < now_ms() - DRAFT_MS)
        c.execute(t.uploads.delete().where(~there.exists()))


def drop_drafts(c: sa.Connection, *where: sa.ColumnElement[bool]) -> None:
    lineage.forget(c, "version", c.scalars(sa.select(_d.id).where(*where)).all())
    c.execute(t.drafts.delete().where(*where))


def _brought(c: sa.Connection, ctx: Context, sha256: str, md5: str | None) -> None:
    value = {"workspace_id": ctx.workspace_id, "sha256": sha256, "md5": md5, "created_ms": now_ms()}
    upsert(c, t.uploads, [value], key=["workspace_id", "sha256"], update=["md5", "created_ms"] if md5 else [])


def _multipart(c: sa.Connection, ctx: Context, upload_id: str) -> tuple[str, str, int]:
    """Of an upload: its draft, the file's md5, the number of parts."""
    row = c.execute(sa.select(_m.draft_id, _m.md5, _m.parts).where(_m.id == upload_id)).one_or_none()
    if row is None:
        raise NotFound("There is no such upload: its draft was committed or deleted.")
    finders.draft(c, ctx, row.draft_id)
    return row.draft_id, row.md5, row.parts


def _check_manifest(c: sa.Connection, ctx: Context, manifest_id: str) -> None:
    draft_id = c.scalar(sa.select(_f.draft_id).where(_f.id == manifest_id))
    if draft_id is None:
        raise NotFound("There is no such manifest: its draft was committed or deleted.")
    finders.draft(c, ctx, draft_id)
