"""Deleted things: how long they are kept, what would go for good, and letting it go.

What clients delete is hidden, and can be restored while the workspace's time of grace lasts. After that a collection may take it: asked
for by somebody, or by itself where the workspace's policy says so. `Purger` does the deleting; here is what people say and see.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.audit import Audit
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, chunked, upsert
from drivetrain.tracking import tables as t
from drivetrain.tracking.deletion import tables as g
from drivetrain.tracking.deletion.model import DAY_MS, Collected, Deleted, Preview, Retention
from drivetrain.tracking.deletion.purging import mark
from drivetrain.tracking.model import PURGING

SHOWN = 20
BY_ITSELF = "drivetrain"
_PIECE = 500

_p, _c, _b = g.purges.c, g.collections.c, g.purged_blobs.c
_a, _r, _m, _e = t.artifacts.c, t.runs.c, t.logged_models.c, t.experiments.c


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which deleted things are meant: queries for their ids, of the workspace."""

    before_ms: int
    experiments: sa.Select[Any]
    runs: sa.Select[Any]
    models: sa.Select[Any]


class Deletion:
    """Thread-safe. `named` says which blobs are named by others than artifacts; `nudge` wakes who deletes."""

    def __init__(self, db: Database, named: Callable[[], Collection[str]], nudge: Callable[[str], None]) -> None:
        self._db = db
        self._named = named
        self._nudge = nudge
        self._audit = Audit(db)

    def policy(self, ctx: Context) -> Retention:
        ctx.require(Scope.read)
        with self._db.read() as c:
            return _policy(c, ctx.workspace_id)

    def set_policy(self, ctx: Context, *, grace_ms: int | None = None, automatic: bool | None = None) -> Retention:
        """Change what is given. A longer grace saves what has not gone yet."""
        ctx.require(Scope.admin)
        if grace_ms is not None and not 0 <= grace_ms <= 36_500 * DAY_MS:
            raise Invalid("The time of grace is 0 days to 100 years.", param="grace")
        with self._db.write() as c:
            before = _policy(c, ctx.workspace_id)
            row = {
                "workspace_id": ctx.workspace_id,
                "grace_ms": before.grace_ms if grace_ms is None else grace_ms,
                "automatic": before.automatic if automatic is None else automatic,
                "updated_ms": now_ms(),
                "updated_by": ctx.user_name[:256],
            }
            upsert(c, g.policies, [row], key=["workspace_id"], update=["grace_ms", "automatic", "updated_ms", "updated_by"])
            self._audit.record(c, ctx, "retention.set", ctx.workspace, {"grace_ms": row["grace_ms"], "automatic": row["automatic"]})
            found = _policy(c, ctx.workspace_id)
        self._nudge("purging")
        return found

    def preview(
        self,
        ctx: Context,
        *,
        older_than_ms: int | None = None,
        runs: Sequence[str] = (),
        experiments: Sequence[str] = (),
        made_models: bool = False,
    ) -> Preview:
        """What would go for good. `older_than_ms` stands in for the policy's grace; with `runs` or `experiments` (ids), only these.
        `made_models`: with the runs, the logged models that they made."""
        ctx.require(Scope.read)
        with self._db.read() as c:
            policy = _policy(c, ctx.workspace_id)
            choice = self._choose(c, ctx, policy, older_than_ms, runs, experiments, made_models)
            mine = sa.or_(
                sa.and_(_a.owner_kind == "run", _a.owner_id.in_(choice.runs)),
                sa.and_(_a.owner_kind == "model", _a.owner_id.in_(choice.models)),
            )
            files, size = c.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_a.size), 0)).where(mine)).one()
            by_blob = sa.select(_a.sha256, sa.func.max(_a.size).label("size"), sa.func.count().label("n")).where(mine)
            by_blob_ = by_blob.group_by(_a.sha256).subquery()
            other = t.artifacts.alias()
            everywhere = sa.select(sa.func.count()).where(other.c.sha256 == by_blob_.c.sha256).scalar_subquery()
            alone = c.execute(sa.select(by_blob_.c.sha256, by_blob_.c.size).where(by_blob_.c.n == everywhere)).all()
            shown_experiments = c.execute(
                sa.select(_e.number, _e.name, _e.updated_ms).where(_e.uid.in_(choice.experiments)).order_by(_e.updated_ms).limit(SHOWN)
            ).all()
            shown_runs = c.execute(
                sa.select(_r.id, _r.name, _r.deleted_ms, _e.name.label("of"))
                .join(t.experiments, _e.uid == _r.experiment_uid)
                .where(_r.id.in_(choice.runs))
                .order_by(_r.deleted_ms, _r.id)
                .limit(SHOWN)
            ).all()
            made = sa.select(_m.id).where(
                _m.workspace_id == ctx.workspace_id,
                _m.lifecycle == "active",
                _m.source_run_id.in_(choice.runs),
                _m.id.not_in(choice.models),
            )
            counts = [_counted(c, query) for query in (choice.experiments, choice.runs, choice.models, made)]
        named = self._named() if alone else ()
        freed = [row.size for row in alone if row.sha256 not in named]
        return Preview(
            before_ms=choice.before_ms,
            grace_ms=policy.grace_ms,
            automatic=policy.automatic,
            experiments=counts[0],
            runs=counts[1],
            models=counts[2],
            files=int(files),
            bytes=int(size),
            blobs=len(freed),
            freed_bytes=sum(freed),
            made_models=counts[3],
            some_experiments=[Deleted(str(row.number), row.name, row.updated_ms) for row in shown_experiments],
            some_runs=[Deleted(row.id, row.name, row.deleted_ms or 0, row.of) for row in shown_runs],
        )

    def collect(
        self,
        ctx: Context,
        *,
        older_than_ms: int | None = None,
        runs: Sequence[str] = (),
        experiments: Sequence[str] = (),
        made_models: bool = False,
    ) -> Collected:
        """Let go for good what `preview` shows. From here on it cannot be restored; look at `collection` for how far it has come."""
        ctx.require(Scope.admin)
        return self._collect(ctx, older_than_ms, runs, experiments, made_models)

    def collection(self, ctx: Context, collection_id: str) -> Collected:
        ctx.require(Scope.read)
        with self._db.read() as c:
            row = c.execute(sa.select(g.collections).where(_c.id == collection_id, _c.workspace_id == ctx.workspace_id)).one_or_none()
            if row is None:
                raise NotFound(f"There is no collection {collection_id[:40]!r} in this workspace. List them with: drivetrain gc list")
            return _collection(c, row)

    def collections(self, ctx: Context, *, limit: int = 20) -> list[Collected]:
        """The newest first."""
        ctx.require(Scope.read)
        query = sa.select(g.collections).where(_c.workspace_id == ctx.workspace_id)
        with self._db.read() as c:
            return [_collection(c, row) for row in c.execute(query.order_by(_c.created_ms.desc(), _c.id.desc()).limit(limit)).all()]

    def due(self) -> int:
        """Begin what the workspaces' policies ask for; how many collections that makes. For the loop."""
        with self._db.read() as c:
            workspaces = list(c.scalars(sa.select(g.policies.c.workspace_id).where(g.policies.c.automatic)))
        begun = 0
        for workspace_id in workspaces:
            ctx = Context("", BY_ITSELF, workspace_id, "")
            with self._db.read() as c:
                choice = self._choose(c, ctx, _policy(c, workspace_id), None, (), (), False)
                any_ = any(c.scalar(query.limit(1)) is not None for query in (choice.experiments, choice.runs, choice.models))
            if any_:
                self._collect(ctx, None, (), (), False)
                begun += 1
        return begun

    def _collect(
        self, ctx: Context, older_than_ms: int | None, runs: Sequence[str], experiments: Sequence[str], made_models: bool
    ) -> Collected:
        now = now_ms()
        with self._db.write() as c:
            choice = self._choose(c, ctx, _policy(c, ctx.workspace_id), older_than_ms, runs, experiments, made_models)
            columns = ("experiments", "runs", "models", "files", "blobs", "bytes", "later_blobs", "later_bytes")
            row = {"id": uuid7(), "workspace_id": ctx.workspace_id, "user_name": ctx.user_name[:256], "created_ms": now}
            c.execute(g.collections.insert().values(row | dict.fromkeys(columns, 0)))
            asked = {"older_than_ms": older_than_ms, "runs": [*runs][:SHOWN], "experiments": [*experiments][:SHOWN]}
            self._audit.record(c, ctx, "gc", f"collection {row['id']}", asked)
        kinds = (
            ("experiment", t.experiments, _e.uid, choice.experiments),
            ("model", t.logged_models, _m.id, choice.models),
            ("run", t.runs, _r.id, choice.runs),
        )
        for kind, table, key, query in kinds:
            with self._db.read() as c:
                found = list(c.scalars(query.order_by(key)))
            for start in range(0, len(found), _PIECE):
                with self._db.write() as c:
                    # They are locked, and looked at again: one that is restored at this moment stays.
                    some = query.where(table.c.lifecycle != PURGING, key.in_(found[start : start + _PIECE]))
                    ids = list(c.scalars(some.order_by(key).with_for_update(of=table)))
                    c.execute(table.update().where(key.in_(ids)).values(lifecycle=PURGING))
                    mark(c, kind, [str(one) for one in ids], ctx.workspace_id, str(row["id"]))
        with self._db.write() as c:
            # The loop may have found it before there was anything to do.
            waits = sa.select(_p.id).where(_p.collection_id == row["id"]).exists()
            c.execute(g.collections.update().where(_c.id == row["id"], waits).values(ended_ms=None))
        self._nudge("purging")
        with self._db.read() as c:
            return _collection(c, c.execute(sa.select(g.collections).where(_c.id == row["id"])).one())

    def _choose(
        self,
        c: sa.Connection,
        ctx: Context,
        policy: Retention,
        older_than_ms: int | None,
        runs: Sequence[str],
        experiments: Sequence[str],
        made_models: bool,
    ) -> _Choice:
        grace = policy.grace_ms if older_than_ms is None else older_than_ms
        if grace < 0:
            raise Invalid("An age cannot be negative.", param="older_than")
        before = now_ms() - grace
        workspace = ctx.workspace_id
        gone = sa.select(_e.uid).where(_e.workspace_id == workspace, _e.lifecycle == "deleted", _e.updated_ms <= before)
        mine = sa.select(_r.id).where(_r.workspace_id == workspace, _r.lifecycle == "deleted")
        models = sa.select(_m.id).where(_m.workspace_id == workspace)
        own, models_own = _r.deleted_ms <= before, sa.and_(_m.lifecycle == "deleted", _m.updated_ms <= before)
        if runs or experiments:
            self._check_named(c, ctx, before, runs, experiments)
            gone = gone.where(_e.number.in_([int(one) for one in experiments]))
            own = sa.and_(own, _r.id.in_(list(runs)))
            models_own = sa.false()
        mine = mine.where(sa.or_(own, _r.experiment_uid.in_(gone)))
        also = [_m.experiment_uid.in_(gone), *([_m.source_run_id.in_(mine)] if made_models else [])]
        return _Choice(
            before_ms=before,
            experiments=gone,
            runs=mine,
            models=models.where(_m.lifecycle != PURGING, sa.or_(models_own, *also)),
        )

    def _check_named(self, c: sa.Connection, ctx: Context, before: int, runs: Sequence[str], experiments: Sequence[str]) -> None:
        """Raise unless every one of these is there, deleted, and was so for long enough."""
        found: dict[str, tuple[str, int | None]] = {}
        for some in chunked(runs):
            query = sa.select(_r.id, _r.lifecycle, _r.deleted_ms).where(_r.workspace_id == ctx.workspace_id, _r.id.in_(some))
            found.update((f"run {row.id}", (row.lifecycle, row.deleted_ms)) for row in c.execute(query))
        if bad := next((one for one in experiments if not (one.isascii() and one.isdigit() and len(one) < 10)), None):
            raise NotFound(f"There is no experiment with the id {bad[:40]!r} in this workspace.", param="experiment")
        numbers = [int(one) for one in experiments]
        rows = c.execute(sa.select(t.experiments).where(_e.workspace_id == ctx.workspace_id, _e.number.in_(numbers)))
        found.update((f"experiment {row.number}", (row.lifecycle, row.updated_ms)) for row in rows)
        for what in [*(f"run {one}" for one in runs), *(f"experiment {int(one)}" for one in experiments)]:
            lifecycle, since = found.get(what, ("", None))
            if not lifecycle:
                raise NotFound(f"There is no {what} in this workspace.")
            if lifecycle == "active":
                raise Conflict(f"The {what} is not deleted: delete it first, and then for good.")
            if lifecycle == "deleted" and (since is None or since > before):
                raise Conflict(
                    f"The {what} was deleted too short a time ago, and can be restored still. To let it go at once: --older-than 0 "
                    "(older_than_s=0)."
                )


def _policy(c: sa.Connection, workspace_id: str) -> Retention:
    row = c.execute(sa.select(g.policies).where(g.policies.c.workspace_id == workspace_id)).one_or_none()
    return Retention() if row is None else Retention(row.grace_ms, bool(row.automatic), row.updated_ms, row.updated_by)


def _counted(c: sa.Connection, query: sa.Select[Any]) -> int:
    return int(c.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0)


def _collection(c: sa.Connection, row: sa.Row[Any]) -> Collected:
    waiting = [sa.select(sa.func.count()).where(column == row.id) for column in (_p.collection_id, _b.collection_id)]
    return Collected(
        id=row.id,
        user=row.user_name,
        created_ms=row.created_ms,
        ended_ms=row.ended_ms,
        experiments=row.experiments,
        runs=row.runs,
        models=row.models,
        files=row.files,
        blobs=row.blobs,
        bytes=row.bytes,
        later_blobs=row.later_blobs,
        later_bytes=row.later_bytes,
        waiting=sum(int(c.scalar(query) or 0) for query in waiting),
    )
