"""The durable queue: what was submitted is done, once, by one of the servers, however often processes die."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.jobs.kinds import Kind, read_spec
from drivetrain.jobs.model import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Job
from drivetrain.jobs.tables import jobs as t
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database

_KEY = re.compile(r"[\x20-\x7e]{1,200}")
OPEN = (QUEUED, RUNNING)


class Jobs:
    """`kinds`: those that may be submitted, by their names."""

    def __init__(self, db: Database, kinds: Mapping[str, Kind], nudge: Callable[[str], None]) -> None:
        self._db = db
        self._kinds = kinds
        self._nudge = nudge

    # What people do.

    def submit(self, ctx: Context, kind: str, spec: msgspec.Struct | Mapping[str, Any], *, key: str | None = None) -> Job:
        """Queue a job. With the same idempotency `key`, the job that was queued before is the answer. Raises `Invalid` for an unknown
        kind, and for a specification that does not fit its kind."""
        ctx.require(Scope.write)
        if kind not in self._kinds:
            raise Invalid(f"There is no kind of job {kind!r}; there are: {', '.join(sorted(self._kinds))}.", param="kind")
        if key is not None and not _KEY.fullmatch(key):
            raise Invalid("The idempotency key has up to 200 printable ASCII characters.", param="key")
        fitting = read_spec(kind, self._kinds[kind].spec, msgspec.to_builtins(spec))
        row = {
            "id": uuid7(),
            "workspace_id": ctx.workspace_id,
            "workspace": ctx.workspace,
            "user_id": ctx.user_id,
            "user_name": ctx.user_name,
            "kind": kind,
            "spec": msgspec.to_builtins(fitting),
            "key": key,
            "state": QUEUED,
            "attempts": 0,
            "cancel_requested": False,
            "done": 0.0,
            "total": 0.0,
            "message": "",
            "error": "",
            "created_ms": now_ms(),
        }
        try:
            with self._db.write() as c:
                if key is not None:
                    same = t.c.workspace_id == ctx.workspace_id, t.c.kind == kind, t.c.key == key
                    if (before := c.execute(sa.select(t).where(*same)).one_or_none()) is not None:
                        return _job(before)
                c.execute(sa.insert(t).values(**row))
        except sa.exc.IntegrityError as error:
            raise Conflict("The same job was submitted at the same moment. Ask again.") from error
        self._nudge("jobs")
        return self.get(ctx, str(row["id"]))

    def get(self, ctx: Context, job_id: str) -> Job:
        ctx.require(Scope.read)
        with self._db.read() as c:
            row = c.execute(sa.select(t).where(t.c.id == job_id, t.c.workspace_id == ctx.workspace_id)).one_or_none()
        if row is None:
            raise NotFound(f"There is no job {job_id!r} in the workspace {ctx.workspace!r}. List them with: drivetrain jobs list")
        return _job(row)

    def list(self, ctx: Context, *, limit: int = 50) -> list[Job]:
        ctx.require(Scope.read)
        query = sa.select(t).where(t.c.workspace_id == ctx.workspace_id).order_by(t.c.created_ms.desc(), t.c.id.desc()).limit(limit)
        with self._db.read() as c:
            return [_job(row) for row in c.execute(query)]

    def cancel(self, ctx: Context, job_id: str) -> Job:
        """A queued job never starts; a running one is stopped. One that has ended stays as it is."""
        ctx.require(Scope.write)
        self.get(ctx, job_id)
        now = now_ms()
        with self._db.write() as c:
            c.execute(sa.update(t).where(t.c.id == job_id, t.c.state == QUEUED).values(state=CANCELLED, ended_ms=now))
            c.execute(sa.update(t).where(t.c.id == job_id, t.c.state == RUNNING).values(cancel_requested=True))
        self._nudge("jobs")
        return self.get(ctx, job_id)

    # What the job's own process says (with its token).

    def progress(self, ctx: Context, job_id: str, *, done: float, total: float, message: str) -> Job:
        ctx.require(Scope.write)
        mine = t.c.id == job_id, t.c.workspace_id == ctx.workspace_id, t.c.state == RUNNING
        with self._db.write() as c:
            c.execute(sa.update(t).where(*mine).values(done=done, total=total, message=message[:500]))
        return self.get(ctx, job_id)

    # What the loop does. No context: the supervisor acts for everybody.

    def claim(self, server_id: str, *, fits: Callable[[str], bool] = lambda kind: True) -> Job | None:
        """Take the oldest queued job; nobody else gets it. None if there is none, or if `fits` says that there is no room for its kind:
        nothing overtakes it then."""
        with self._db.write() as c:
            query = sa.select(t).where(t.c.state == QUEUED).order_by(t.c.created_ms).limit(1)
            row = c.execute(query.with_for_update(skip_locked=True)).one_or_none()
            if row is None or not fits(row.kind):
                return None
            taken = {"state": RUNNING, "server_id": server_id, "attempts": row.attempts + 1, "started_ms": row.started_ms or now_ms()}
            c.execute(sa.update(t).where(t.c.id == row.id).values(**taken))
            return _job(c.execute(sa.select(t).where(t.c.id == row.id)).one())

    def succeeded(self, job_id: str, result: dict[str, Any], *, by: str | None = None) -> None:
        """Of `by`: the server that ran it. One that was slow to notice that another took the job over has no say any more."""
        self._end(job_id, by, state=SUCCEEDED, result=result, error="")

    def failed(self, job_id: str, error: str, *, by: str | None = None) -> None:
        self._end(job_id, by, state=FAILED, error=error[:4000])

    def cancelled(self, job_id: str, *, by: str | None = None) -> None:
        self._end(job_id, by, state=CANCELLED)

    def died(self, job_id: str, error: str, *, most_attempts: int, by: str | None = None) -> None:
        """Its process ended without a word: queue it again, unless that happened too often."""
        with self._db.write() as c:
            row = c.execute(sa.select(t).where(*_held(job_id, by))).one_or_none()
            if row is None:
                return
            if row.cancel_requested:
                values: dict[str, Any] = {"state": CANCELLED, "ended_ms": now_ms()}
            elif row.attempts < most_attempts:
                values = {"state": QUEUED}
            else:
                values = {"state": FAILED, "error": f"{error} It was tried {row.attempts} times."[:4000], "ended_ms": now_ms()}
            c.execute(sa.update(t).where(*_held(job_id, by)).values(values))

    def running(self, server_id: str) -> set[str]:
        """Jobs that this server runs, or ran in an earlier life."""
        with self._db.read() as c:
            return set(c.scalars(sa.select(t.c.id).where(t.c.state == RUNNING, t.c.server_id == server_id)))

    def open(self) -> set[str]:
        """Jobs that have not ended, on any server."""
        with self._db.read() as c:
            return set(c.scalars(sa.select(t.c.id).where(t.c.state.in_(OPEN))))

    def others(self, server_id: str) -> set[str]:
        """The other servers that run jobs."""
        query = sa.select(t.c.server_id).where(t.c.state == RUNNING, t.c.server_id != server_id).distinct()
        with self._db.read() as c:
            return {str(other) for other in c.scalars(query)}

    def to_cancel(self, server_id: str) -> set[str]:
        with self._db.read() as c:
            return set(c.scalars(sa.select(t.c.id).where(t.c.server_id == server_id, t.c.state == RUNNING, t.c.cancel_requested)))

    def _end(self, job_id: str, by: str | None, **values: Any) -> None:
        with self._db.write() as c:
            c.execute(sa.update(t).where(*_held(job_id, by)).values(ended_ms=now_ms(), **values))


def _held(job_id: str, by: str | None) -> list[sa.ColumnElement[bool]]:
    """A running job, and run by this server if one is named."""
    held = [t.c.id == job_id, t.c.state == RUNNING]
    return held if by is None else [*held, t.c.server_id == by]


def _job(row: sa.Row[Any]) -> Job:
    return Job(**row._asdict())
