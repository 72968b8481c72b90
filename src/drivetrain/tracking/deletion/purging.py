"""Deleting for good, in transactions so short that everybody else goes on writing.

What is to go was written down first (`gc_purges`): after a crash in the middle the next `step` goes on where this one was. An experiment
takes its runs and logged models with it. Blobs come last, when no row names them.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.lineage import service as lineage
from drivetrain.store.blobs import Blobs
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, chunked, upsert
from drivetrain.tracking import tables as t
from drivetrain.tracking.deletion import tables as g
from drivetrain.tracking.deletion.dependants import Kind, delete_some, dependants
from drivetrain.tracking.model import PURGING

T = TypeVar("T")

log = logging.getLogger(__name__)

BATCH = 100
"""Runs at a time."""
PIECE = {"sqlite": 1000, "postgresql": 20_000}
"""Rows in one statement. PostgreSQL passes over those that it has deleted before, each time; and there, nobody waits for it."""
BUDGET_SECONDS = {"sqlite": 0.03, "postgresql": 0.3}
"""How long a transaction may take before it ends: on SQLite it holds the only writer."""
SOME = 500
MARGIN_SECONDS = 24 * 3600.0
"""Longer than anything takes from an upload to the row that refers to it."""
BLOBS = 2000
FEW = 10
"""Files in one transaction."""

_p, _c, _b = g.purges.c, g.collections.c, g.purged_blobs.c
_a, _r, _m, _e = t.artifacts.c, t.runs.c, t.logged_models.c, t.experiments.c
_ROOTS: dict[Kind, tuple[sa.Table, sa.Column[Any]]] = {
    "run": (t.runs, _r.id),
    "model": (t.logged_models, _m.id),
    "experiment": (t.experiments, _e.uid),
}


class Purger:
    """`named` says which blobs something names, in all of the store. One server at a time drives it."""

    def __init__(
        self,
        db: Database,
        blobs: Blobs,
        named: Callable[[], Collection[str]],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._named = named
        self._clock = clock
        self._sleep = sleep

    def step(self) -> bool:
        """Delete as much as one short transaction can, and let others write for as long; whether there may be more."""
        return self._paced(self._step)

    def _step(self) -> bool:
        with self._db.read() as c:
            runs, models, experiments = (
                list(c.scalars(sa.select(_p.id).where(_p.kind == kind).order_by(_p.id).limit(BATCH)))
                for kind in ("run", "model", "experiment")
            )
        if runs:
            self._purge("run", runs)
        elif models:
            self._purge("model", models)
        elif experiments:
            uids = [int(uid) for uid in experiments]
            if not any(self._unfold(uid) for uid in uids):
                self._purge("experiment", uids)
        else:
            return self._sweep()
        return True

    def _unfold(self, uid: int) -> bool:
        """Let the experiment's runs and logged models go with it; whether there were any that did not yet."""
        with self._db.write() as c:
            order = c.execute(sa.select(g.purges).where(_p.kind == "experiment", _p.id == str(uid))).one_or_none()
            if order is None:
                return False
            for kind, table, x in (("run", t.runs, _r), ("model", t.logged_models, _m)):
                some = sa.select(x.id).where(x.experiment_uid == uid, x.lifecycle != PURGING).limit(SOME)
                if ids := list(c.scalars(some.with_for_update())):
                    c.execute(table.update().where(x.id.in_(ids)).values(lifecycle=PURGING))
                    mark(c, kind, ids, order.workspace_id, order.collection_id)
                    return True
        return False

    def _purge(self, kind: Kind, ids: list[Any]) -> None:
        """Delete rows of these until the time is over or they are gone."""
        with self._db.write() as c:
            end, most = self._clock() + BUDGET_SECONDS[self._db.kind], PIECE[self._db.kind]
            if self._db.kind == "postgresql":
                # To read a whole index, or table, for one piece of it is what these would do.
                for way in ("bitmapscan", "seqscan", "hashjoin", "mergejoin"):
                    c.exec_driver_sql(f"SET LOCAL enable_{way} = off")
            while self._files(c, kind, ids):
                if self._clock() >= end:
                    return
            for dependant in dependants(kind):
                while number := delete_some(c, dependant, ids, most):
                    if self._clock() >= end:
                        return
                    if number < most:
                        break
            if kind == "experiment":
                _keep_numbers(c, ids)
            else:
                lineage.forget(c, kind, ids)
            table, key = _ROOTS[kind]
            c.execute(table.delete().where(key.in_(ids)))
            while self._files(c, kind, ids):
                pass  # one that came in the moment before the run was marked, from another server
            done = g.purges.delete().where(_p.kind == kind, _p.id.in_([str(one) for one in ids])).returning(_p.collection_id)
            _count(c, f"{kind}s", Counter(c.scalars(done)))

    def _files(self, c: sa.Connection, kind: Kind, ids: list[Any]) -> bool:
        """Note the blobs of some artifacts, and delete these; whether there were any."""
        if kind == "experiment":
            return False
        mine = sa.select(t.artifacts, _p.collection_id).join(g.purges, sa.and_(_p.kind == _a.owner_kind, _p.id == _a.owner_id))
        rows = c.execute(mine.where(_a.owner_kind == kind, _a.owner_id.in_(ids)).limit(SOME)).all()
        if not rows:
            return False
        blobs = {row.sha256: {"sha256": row.sha256, "size": row.size, "collection_id": row.collection_id} for row in rows}
        upsert(c, g.purged_blobs, list(blobs.values()), key=["sha256"])
        for owner in {row.owner_id for row in rows}:
            paths = [row.path for row in rows if row.owner_id == owner]
            c.execute(t.artifacts.delete().where(_a.owner_kind == kind, _a.owner_id == owner, _a.path.in_(paths)))
        _count(c, "files", Counter(row.collection_id for row in rows))
        return True

    def _sweep(self) -> bool:
        with self._db.read() as c:
            first = c.execute(sa.select(g.collections).where(_c.id.in_(sa.select(_b.collection_id).limit(1)))).one_or_none()
            rows = [] if first is None else c.execute(sa.select(g.purged_blobs).where(_b.collection_id == first.id).limit(BLOBS)).all()
        if first is None:
            return self._end()
        named = self._named()
        dead = {row.sha256: row for row in rows if row.sha256 not in named}
        gone: dict[str, int] = {}
        for some in chunked(dead, FEW):
            # What was sent after somebody had let this go is meant for something else.
            discard = partial(self._blobs.discard, some, sent_until_ms=first.created_ms, older_than_s=MARGIN_SECONDS)
            gone |= self._paced(discard)
        later = [row for digest, row in dead.items() if digest not in gone and self._there(digest)]
        with self._db.write() as c:
            _count(c, "blobs", {first.id: len(gone)})
            _count(c, "bytes", {first.id: sum(gone.values())})
            _count(c, "later_blobs", {first.id: len(later)})
            _count(c, "later_bytes", {first.id: sum(row.size for row in later)})
            for some in chunked(row.sha256 for row in rows):
                c.execute(g.purged_blobs.delete().where(_b.sha256.in_(some)))
        return True

    def _there(self, digest: str) -> bool:
        try:
            self._blobs.stat(digest)
        except NotFound:
            return False
        return True

    def _paced(self, work: Callable[[], T]) -> T:
        """Do it, and then nothing for as long as it took: whoever else wants to write has a turn, also from another process."""
        began = self._clock()
        done = work()
        self._sleep(max(0.0, self._clock() - began))
        return done

    def _end(self) -> bool:
        """Close the collections that have nothing left to do."""
        with self._db.write() as c:
            open_ = sa.select(_p.collection_id).union(sa.select(_b.collection_id))
            ended = g.collections.update().where(_c.ended_ms.is_(None), _c.id.not_in(open_)).values(ended_ms=now_ms())
            for row in c.execute(ended.returning(g.collections)):
                log.info(
                    "deleted for good: %d runs, %d logged models, %d experiments; %d blobs, %d bytes",
                    *(row.runs, row.models, row.experiments, row.blobs, row.bytes),
                )
        return False


def mark(c: sa.Connection, kind: str, ids: Iterable[str], workspace_id: str, collection_id: str) -> None:
    rows = [{"kind": kind, "id": one, "workspace_id": workspace_id, "collection_id": collection_id} for one in ids]
    upsert(c, g.purges, rows, key=["kind", "id"])


def _count(c: sa.Connection, column: str, by_collection: Mapping[str, int]) -> None:
    for collection_id, number in sorted(by_collection.items()):
        counted = g.collections.update().where(_c.id == collection_id)
        c.execute(counted.values({column: g.collections.c[column] + number}))


def _keep_numbers(c: sa.Connection, uids: list[int]) -> None:
    highest = sa.select(_e.workspace_id, sa.func.max(_e.number)).where(_e.uid.in_(uids)).group_by(_e.workspace_id)
    n = g.numbers.c
    for workspace_id, number in c.execute(highest).all():
        upsert(c, g.numbers, [{"workspace_id": workspace_id, "highest": number}], key=["workspace_id"])
        c.execute(g.numbers.update().where(n.workspace_id == workspace_id, n.highest < number).values(highest=number))
