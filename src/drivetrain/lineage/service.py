"""The verbs of lineage. Each plane writes an edge at the moment when a thing happens, in the same transaction; all who ask read here.

That something was made stays known for as long as that is there, even if what made it is gone: who asks is told so.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from drivetrain.identity.model import Context, Scope
from drivetrain.lineage.model import Edge, Kind, Role, Thing
from drivetrain.lineage.tables import edges
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, chunked, upsert

MAKING: tuple[Role, ...] = ("made", "began", "brought")
_e = edges.c
_KEY = ("subject_kind", "subject_id", "role", "object_kind", "object_id")


def link(c: sa.Connection, ctx: Context, subject: Thing, role: Role, *objects: Thing) -> None:
    """Write down that `subject` did this with `objects`. The same again changes nothing: it happened when it first did."""
    now = now_ms()
    rows = [
        {
            "subject_kind": subject.kind,
            "subject_id": subject.id,
            "role": role,
            "object_kind": one.kind,
            "object_id": one.id,
            "workspace_id": ctx.workspace_id,
            "user_name": ctx.user_name,
            "created_ms": now,
        }
        for one in objects
    ]
    upsert(c, edges, rows, key=_KEY)


def forget(c: sa.Connection, kind: Kind, ids: Sequence[str]) -> None:
    """These things are deleted: so is what happened to them and what they used. What they made says still that it was they."""
    for some in chunked(ids):
        c.execute(edges.delete().where(_e.object_kind == kind, _e.object_id.in_(some)))
        c.execute(edges.delete().where(_e.subject_kind == kind, _e.subject_id.in_(some), _e.role.not_in(MAKING)))


def rename(c: sa.Connection, ctx: Context, kind: Kind, old: str, new: str) -> None:
    """What was told of the workspace's `old` before it came is told of it under its new id."""
    mine = (_e.workspace_id == ctx.workspace_id, _e.object_kind == kind, _e.object_id == old)
    c.execute(edges.update().where(*mine).values(object_id=new))


def objects(c: sa.Connection, ctx: Context, subject: Thing, role: Role, kind: Kind) -> list[str]:
    """What the subject did this with, in the order in which it happened."""
    mine = (_e.subject_kind == subject.kind, _e.subject_id == subject.id, _e.role == role, _e.object_kind == kind)
    query = sa.select(_e.object_id).where(*mine, _e.workspace_id == ctx.workspace_id)
    return list(c.scalars(query.order_by(_e.created_ms, _e.object_id)))


def subjects(c: sa.Connection, ctx: Context, object_: Thing, role: Role, kind: Kind) -> list[str]:
    """What did this with the object, in the order in which it happened."""
    mine = (_e.object_kind == object_.kind, _e.object_id == object_.id, _e.role == role, _e.subject_kind == kind)
    query = sa.select(_e.subject_id).where(*mine, _e.workspace_id == ctx.workspace_id)
    return list(c.scalars(query.order_by(_e.created_ms, _e.subject_id)))


class Lineage:
    """What is asked of lineage. Thread-safe."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def of(self, ctx: Context, thing: Thing) -> list[Edge]:
        """What the thing did, and what happened to it, the first first."""
        ctx.require(Scope.read)
        did = sa.and_(_e.subject_kind == thing.kind, _e.subject_id == thing.id)
        done = sa.and_(_e.object_kind == thing.kind, _e.object_id == thing.id)
        query = sa.select(edges).where(_e.workspace_id == ctx.workspace_id, sa.or_(did, done))
        with self.db.read() as c:
            return [
                Edge(
                    subject=Thing(row.subject_kind, row.subject_id),
                    role=row.role,
                    object=Thing(row.object_kind, row.object_id),
                    user=row.user_name,
                    created_ms=row.created_ms,
                )
                for row in c.execute(query.order_by(_e.created_ms, _e.subject_id, _e.object_id))
            ]

    def objects(self, ctx: Context, subject: Thing, role: Role, kind: Kind) -> list[str]:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return objects(c, ctx, subject, role, kind)

    def subjects(self, ctx: Context, object_: Thing, role: Role, kind: Kind) -> list[str]:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return subjects(c, ctx, object_, role, kind)

    def makers(self, ctx: Context, version_ids: Sequence[str]) -> dict[str, str]:
        """version → the run that made it, also if that was deleted; without those that no run made. Of several that made the same files,
        the first."""
        ctx.require(Scope.read)
        found: dict[str, str] = {}
        mine = (_e.workspace_id == ctx.workspace_id, _e.object_kind == "version", _e.subject_kind == "run", _e.role == "made")
        with self.db.read() as c:
            for some in chunked(version_ids):
                query = sa.select(_e.object_id, _e.subject_id).where(*mine, _e.object_id.in_(some))
                for version, run in c.execute(query.order_by(_e.created_ms, _e.subject_id)):
                    found.setdefault(version, run)
        return found

    def maker(self, ctx: Context, version_id: str) -> str | None:
        return self.makers(ctx, [version_id]).get(version_id)
