"""What becomes of what was deleted: the commits of versions go, unless something else has them.

Only commits that had a version are looked at: what was committed without one is history that people may name by its commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import sqlalchemy as sa

from drivetrain.lineage import service as lineage
from drivetrain.registry import tables as t
from drivetrain.registry.uploads import drop_drafts, forget_uploads
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, upsert

MOST = 1000
_o, _k, _r, _v = t.orphans.c, t.commits.c, t.refs.c, t.versions.c


def drop_version(c: sa.Connection, version_id: str, commit_id: str) -> None:
    """Delete a version, and note that its commit may be nobody's now."""
    c.execute(t.versions.delete().where(_v.id == version_id))
    lineage.forget(c, "version", [version_id])
    upsert(c, t.orphans, [{"commit_id": commit_id, "deleted_ms": now_ms()}], key=["commit_id"], update=["deleted_ms"])


def drop_repo(c: sa.Connection, repo_id: str) -> None:
    """Delete a repo. Commits that others' versions link to become theirs."""
    lineage.forget(c, "version", c.scalars(sa.select(_v.id).where(_v.repo_id == repo_id)).all())
    drop_drafts(c, t.drafts.c.repo_id == repo_id)
    c.execute(t.versions.delete().where(_v.repo_id == repo_id))
    linked = sa.select(_v.commit_id).where(_v.commit_id == _k.id)
    heir = sa.select(sa.func.min(_v.repo_id)).where(_v.commit_id == _k.id).scalar_subquery()
    c.execute(t.commits.update().where(_k.repo_id == repo_id, linked.exists()).values(repo_id=heir, parent=None))
    c.execute(t.repos.delete().where(t.repos.c.id == repo_id))


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
        versions = sa.select(_v.id).where(_v.commit_id == commit_id)
        tags = sa.select(_r.name).where(_r.commit_id == commit_id, _r.kind == "tag")
        if any(c.execute(query.limit(1)).first() is not None for query in (versions, tags)):
            return False
        heads = t.refs.update().where(_r.commit_id == commit_id)
        if row.parent is not None and c.scalar(sa.select(_k.id).where(_k.id == row.parent)) is not None:
            c.execute(heads.values(commit_id=row.parent))
        c.execute(t.commits.update().where(_k.repo_id == row.repo_id, _k.parent == commit_id).values(parent=row.parent))
        c.execute(t.commits.delete().where(_k.id == commit_id))
        return True
