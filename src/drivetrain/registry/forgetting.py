"""What becomes of what was deleted. The commits of versions go, unless something else has them; artifacts go from where they were linked.

Only commits that had a version are looked at: what was committed without one is history that people may name by its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import sqlalchemy as sa

from drivetrain.registry import tables as t
from drivetrain.registry import tables_artifacts as a
from drivetrain.registry.tables_retention import orphans
from drivetrain.store.blobs import blobs_table
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, upsert

MOST = 1000
PENDING_MS = 7 * 24 * 3600 * 1000
"""How long a version may be on its way in."""
LATEST = "latest"
_o, _k, _r = orphans.c, t.commits.c, t.refs.c
_c, _a, _m, _l = a.collections.c, a.artifacts.c, a.members.c, a.member_aliases.c


def note(c: sa.Connection, commit_id: str) -> None:
    """A version of this commit was deleted."""
    upsert(c, orphans, [{"commit_id": commit_id, "deleted_ms": now_ms()}], key=["commit_id"], update=["deleted_ms"])


def drop_artifact(c: sa.Connection, artifact_id: str) -> None:
    """Delete a version of an artifact from all collections."""
    places = list(c.scalars(sa.select(_m.collection_id).where(_m.artifact_id == artifact_id)))
    c.execute(a.artifacts.delete().where(_a.id == artifact_id))
    for place in places:
        _point_latest(c, place)


def drop_member(c: sa.Connection, repo_id: str, number: int) -> None:
    """A version of the repo was deleted: if an artifact's collection stands behind that, the version goes from there, too."""
    mine = sa.select(_m.collection_id, _m.artifact_id, _c.linked).join(a.collections, _c.id == _m.collection_id)
    row = c.execute(mine.where(_c.repo_id == repo_id, _m.number == number)).one_or_none()
    if row is None:
        return
    if not row.linked:
        drop_artifact(c, row.artifact_id)
        return
    c.execute(a.member_aliases.delete().where(_l.collection_id == row.collection_id, _l.artifact_id == row.artifact_id))
    c.execute(a.members.delete().where(_m.collection_id == row.collection_id, _m.artifact_id == row.artifact_id))
    _point_latest(c, row.collection_id)


def _point_latest(c: sa.Connection, collection_id: str) -> None:
    if c.scalar(sa.select(_l.artifact_id).where(_l.collection_id == collection_id, _l.alias == LATEST)) is not None:
        return
    newest = c.scalar(sa.select(_m.artifact_id).where(_m.collection_id == collection_id).order_by(_m.number.desc()).limit(1))
    if newest is not None:
        c.execute(a.member_aliases.insert().values(collection_id=collection_id, alias=LATEST, artifact_id=newest))


def forget_uploads(db: Database) -> None:
    """Delete artifacts' versions that were begun and never committed, and md5s of content that has gone."""
    there = sa.select(blobs_table.c.sha256).where(blobs_table.c.sha256 == a.md5s.c.sha256)
    with db.write() as c:
        c.execute(a.artifacts.delete().where(_a.state == "PENDING", _a.updated_ms < now_ms() - PENDING_MS))
        c.execute(a.md5s.delete().where(~there.exists()))


def forget(db: Database, served: Callable[[], Collection[str]], *, older_than_s: float) -> int:
    """Delete commits whose last version was deleted so long ago, and that nothing else names; how many. `served`: those that deployments
    need. A branch that ends with such a commit goes back to the one before it."""
    before = now_ms() - int(older_than_s * 1000)
    forget_uploads(db)
    with db.read() as c:
        old = list(c.scalars(sa.select(_o.commit_id).where(_o.deleted_ms <= before).order_by(_o.deleted_ms).limit(MOST)))
    return sum(_forget(db, commit_id) for commit_id in old if commit_id not in served())


def _forget(db: Database, commit_id: str) -> bool:
    with db.write() as c:
        row = c.execute(sa.select(_k.repo_id, _k.parent).where(_k.id == commit_id)).one_or_none()
        if row is None:
            return False
        # Whoever registers or commits locks the repo, too.
        c.execute(sa.select(t.repos.c.id).where(t.repos.c.id == row.repo_id).with_for_update())
        versions = sa.select(t.versions.c.id).where(t.versions.c.commit_id == commit_id)
        tags = sa.select(_r.name).where(_r.commit_id == commit_id, _r.kind == "tag")
        if any(c.execute(query.limit(1)).first() is not None for query in (versions, tags)):
            return False
        heads = t.refs.update().where(_r.commit_id == commit_id)
        if row.parent is not None and c.scalar(sa.select(_k.id).where(_k.id == row.parent)) is not None:
            c.execute(heads.values(commit_id=row.parent))
        c.execute(t.commits.update().where(_k.repo_id == row.repo_id, _k.parent == commit_id).values(parent=row.parent))
        c.execute(t.commits.delete().where(_k.id == commit_id))
        return True
