"""What comes in for artifacts: files by their md5, parts of large ones, manifests."""

from __future__ import annotations

import itertools

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry import tables_artifacts as t
from drivetrain.registry.artifacts import Artifacts
from drivetrain.registry.reading import chunked
from drivetrain.store.blobs import Blob
from drivetrain.store.ids import uuid7
from drivetrain.store.sql import upsert

MAX_PARTS = 10_000
_d, _u, _p, _f = t.md5s.c, t.uploads.c, t.parts.c, t.manifests.c


class Incoming(Artifacts):
    """Files, parts and manifests of versions that are not committed yet."""

    def known(self, ctx: Context, md5s: list[str]) -> dict[str, str]:
        """md5 → sha256 of the content that this workspace has brought before and that is still there."""
        ctx.require(Scope.read)
        found: dict[str, str] = {}
        with self.db.read() as c:
            for some in chunked(dict.fromkeys(md5s)):
                query = sa.select(_d.md5, _d.sha256).where(_d.workspace_id == ctx.workspace_id, _d.md5.in_(some))
                found.update((row.md5, row.sha256) for row in c.execute(query))
        there = self.blobs.known(found.values())
        return {md5: sha256 for md5, sha256 in found.items() if sha256 in there}

    def keep(self, ctx: Context, artifact_id: str, digests: list[str]) -> None:
        """The version, not committed yet, needs these blobs."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            self._artifact(c, ctx, artifact_id)
            rows = [{"artifact_id": artifact_id, "sha256": one} for one in dict.fromkeys(digests)]
            upsert(c, t.pending, rows, key=["artifact_id", "sha256"])

    def check(self, ctx: Context, artifact_id: str) -> None:
        """Raises `NotFound` if no files can be sent for such a version. Addresses that are signed for sending cannot read."""
        ctx.require(Scope.write)
        with self.db.read() as c:
            self._artifact(c, ctx, artifact_id)

    def arrived(self, ctx: Context, artifact_id: str, md5: str, blob: Blob) -> None:
        """A file of the version is stored. Raises `Invalid` if it is not what was announced."""
        ctx.require(Scope.write)
        if blob.md5 != md5:
            raise Invalid(f"The file has the md5 {blob.md5}, not {md5} as announced: send it again.")
        with self.db.write() as c:
            self._artifact(c, ctx, artifact_id)
            upsert(c, t.pending, [{"artifact_id": artifact_id, "sha256": blob.sha256}], key=["artifact_id", "sha256"])
            row = {"workspace_id": ctx.workspace_id, "md5": md5, "sha256": blob.sha256}
            upsert(c, t.md5s, [row], key=["workspace_id", "md5"], update=["sha256"])

    # --- parts

    def begin_parts(self, ctx: Context, artifact_id: str, md5: str, count: int) -> str:
        ctx.require(Scope.write)
        if not 1 <= count <= MAX_PARTS:
            raise Invalid(f"A file has 1 to {MAX_PARTS} parts, not {count}.")
        with self.db.write() as c:
            self._artifact(c, ctx, artifact_id)
            upload_id = uuid7()
            c.execute(t.uploads.insert().values(id=upload_id, artifact_id=artifact_id, md5=md5, parts=count))
            return upload_id

    def put_part(self, ctx: Context, upload_id: str, number: int, blob: Blob) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            _, _, count = self._upload(c, ctx, upload_id)
            if not 1 <= number <= count:
                raise Invalid(f"This file has the parts 1 to {count}, not {number}.")
            value = {"upload_id": upload_id, "number": number, "sha256": blob.sha256}
            upsert(c, t.parts, [value], key=["upload_id", "number"], update=["sha256"])

    def complete(self, ctx: Context, upload_id: str) -> str:
        """Make the file of its parts; its md5. May be said again."""
        ctx.require(Scope.write)
        with self.db.read() as c:
            artifact_id, md5, count = self._upload(c, ctx, upload_id)
            found = c.execute(sa.select(_p.number, _p.sha256).where(_p.upload_id == upload_id).order_by(_p.number)).all()
        if not found and md5 in self.known(ctx, [md5]):
            return md5
        if len(found) != count:
            raise Conflict(f"Of the file's {count} parts {len(found)} have arrived: send the others, then complete it.")
        blob = self.blobs.put(itertools.chain.from_iterable(self.blobs.read(one.sha256) for one in found), md5=True)
        self.arrived(ctx, artifact_id, md5, blob)
        with self.db.write() as c:
            c.execute(t.parts.delete().where(_p.upload_id == upload_id))
        return md5

    def _upload(self, c: sa.Connection, ctx: Context, upload_id: str) -> tuple[str, str, int]:
        """Of an upload: its version, the file's md5, the number of parts."""
        row = c.execute(sa.select(_u.artifact_id, _u.md5, _u.parts).where(_u.id == upload_id)).one_or_none()
        if row is None:
            raise NotFound("There is no such upload: its artifact was deleted.")
        self._artifact(c, ctx, row.artifact_id)
        return row.artifact_id, row.md5, row.parts

    # --- manifests

    def add_manifest(self, ctx: Context, artifact_id: str, kind: str, base_id: str | None) -> str:
        ctx.require(Scope.write)
        if kind not in ("FULL", "INCREMENTAL", "PATCH"):
            raise Invalid(f"{kind[:40]!r} is no kind of manifest.")
        with self.db.write() as c:
            self._artifact(c, ctx, artifact_id)
            manifest_id = uuid7()
            c.execute(t.manifests.insert().values(id=manifest_id, artifact_id=artifact_id, kind=kind, base_id=base_id))
            return manifest_id

    def manifest_of(self, ctx: Context, manifest_id: str) -> str:
        """The version that the manifest, still to be written, is for."""
        ctx.require(Scope.write)
        with self.db.read() as c:
            artifact_id = c.scalar(sa.select(_f.artifact_id).where(_f.id == manifest_id))
            if artifact_id is None:
                raise NotFound("There is no such manifest: its artifact was committed or deleted.")
            return self._artifact(c, ctx, artifact_id).id

    def put_manifest(self, ctx: Context, manifest_id: str, blob: Blob) -> None:
        ctx.require(Scope.write)
        self.manifest_of(ctx, manifest_id)
        with self.db.write() as c:
            c.execute(t.manifests.update().where(_f.id == manifest_id).values(sha256=blob.sha256))

    def written(self, ctx: Context, artifact_id: str) -> list[tuple[str, str | None, str]]:
        """The manifests that have arrived, the first first: kind, base, sha256."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            self._artifact(c, ctx, artifact_id)
            query = sa.select(_f.kind, _f.base_id, _f.sha256).where(_f.artifact_id == artifact_id, _f.sha256.is_not(None))
            return [(row.kind, row.base_id, row.sha256) for row in c.execute(query.order_by(_f.id))]
