"""Traces: taking in spans and what clients tell of whole traces, and finding them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.search.tokens import to_token
from drivetrain.store import maps
from drivetrain.store.sql import INT64, Database, chunked
from drivetrain.tags import TRACE_LOCATION, TRACE_NAME, TRACE_SESSION, TRACE_SIZES, TRACE_SPANS, TRACE_USAGE
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.experiments import check_limit
from drivetrain.tracking.finders import experiment_row, experiment_uids, run_row
from drivetrain.tracking.model import Page
from drivetrain.tracking.traces import assessments as a
from drivetrain.tracking.traces import spans as s
from drivetrain.tracking.traces import tables as x
from drivetrain.tracking.traces import writing as w
from drivetrain.tracking.traces.assessments import Assessment
from drivetrain.tracking.traces.finders import trace_row, trace_rows
from drivetrain.tracking.traces.search import matching_rows
from drivetrain.tracking.traces.spans import Span, clean

MAX_PAGE = 500
MAX_IDS = 1000
MAX_LINKS = 100
DELETED_AT_ONCE = 200
STATES = frozenset({"STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS"})
_x = x.traces.c


class TraceInfo(Struct, frozen=True, kw_only=True):
    """A trace without its spans. Tags and metadata have what the server tells, too."""

    id: str
    experiment_id: str
    start_ms: int
    duration_ms: int | None = None
    state: str = "OK"
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    tags: Mapping[str, str] = {}
    metadata: Mapping[str, str] = {}
    assessments: Sequence[Assessment] = ()

    @property
    def name(self) -> str:
        return self.tags.get(TRACE_NAME, "")

    @property
    def tokens(self) -> int | None:
        found = s.numbers(s.decoded(self.metadata.get(TRACE_USAGE))).get("total_tokens")
        return None if found is None else int(found)


class Trace(Struct, frozen=True):
    """`complete`: all spans are here that the client says there are."""

    info: TraceInfo
    spans: Sequence[Span]
    complete: bool


@dataclass(frozen=True, slots=True)
class Traces:
    db: Database

    # --- writing

    def log_spans(self, ctx: Context, experiment_id: str, spans: Sequence[Span], *, run_id: str | None = None) -> None:
        """Keep spans, and make their traces where there are none. The same span again replaces itself. `run_id`: a run that the traces
        belong to; none that is there is passed over, since spans are sent once."""
        ctx.require(Scope.write)
        for span in spans:
            s.check(span)

        def work(c: sa.Connection) -> DrivetrainError | None:
            try:
                experiment = experiment_row(c, ctx, experiment_id, writable=True)
            except DrivetrainError as error:
                return error
            w.write_spans(c, ctx, experiment.uid, spans)
            if run_id is not None:
                ids = {span.trace for span in spans}
                w.link_runs(c, ctx, [row.uid for row in trace_rows(c, ctx, list(ids))], run_id)
            return None

        if spans and (error := self.db.group_write(work)) is not None:
            raise error

    def put(self, ctx: Context, info: TraceInfo) -> TraceInfo:
        """What a client tells of a whole trace. What it leaves out stays as the spans say it. The same again changes nothing."""
        ctx.require(Scope.write)
        if not 0 < len(info.id) <= 128 or any(letter in info.id for letter in "/\\\x00"):
            raise Invalid(f"{checks.shown(info.id)} cannot be the id of a trace.", param="trace_id")
        if info.state not in STATES:
            raise Invalid(f"{info.state!r} is no state of a trace: use one of {', '.join(sorted(STATES))}.", param="state")
        if not (-INT64 < info.start_ms < INT64 and 0 <= (info.duration_ms or 0) < INT64):
            raise Invalid("The time of the trace is beyond what can be kept.", param="request_time")
        for one in info.assessments:
            a.check(one)
        tags, metadata = w.entries(info.tags), w.entries(info.metadata)
        values: dict[str, Any] = {"start_ms": info.start_ms, "duration_ms": info.duration_ms, "state": info.state, "told": 1}
        optional = {
            "client_request_id": info.client_request_id,
            "request_preview": info.request_preview,
            "response_preview": info.response_preview,
            "name": info.tags.get(TRACE_NAME),
            "session": metadata.get(TRACE_SESSION),
        }
        values |= {key: clean(value) for key, value in optional.items() if value is not None}
        if info.tokens is not None:
            values["tokens"] = info.tokens

        def work(c: sa.Connection) -> TraceInfo | DrivetrainError:
            try:
                experiment = experiment_row(c, ctx, info.experiment_id, writable=True)
            except DrivetrainError as error:
                return error
            row = w.ensure(c, ctx, experiment.uid, {info.id: info.start_ms})[info.id]
            c.execute(x.traces.update().where(_x.uid == row.uid).values(experiment_uid=experiment.uid, **values))
            w.note_tags(c, row.uid, tags)
            w.note_metadata(c, ctx, row.uid, metadata)
            a.put(c, row.uid, info.assessments)
            return _infos(c, trace_rows(c, ctx, [info.id]))[0]

        found = self.db.group_write(work)
        if isinstance(found, DrivetrainError):
            raise found
        return found

    def set_tag(self, ctx: Context, trace_id: str, key: str, value: str) -> None:
        ctx.require(Scope.write)
        checks.key(key, "trace tag")
        with self.db.write() as c:
            uid = trace_row(c, ctx, trace_id).uid
            if key == TRACE_NAME:
                c.execute(x.traces.update().where(_x.uid == uid).values(name=clean(value)))
            w.note_tags(c, uid, w.entries({key: value}))

    def delete_tag(self, ctx: Context, trace_id: str, key: str) -> None:
        """Raises `NotFound` for a tag that is not there."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            uid = trace_row(c, ctx, trace_id).uid
            if not maps.drop(c, x.trace_tags, uid, key):
                raise NotFound(f"The trace {trace_id} has no tag {checks.shown(key)}.", param="key")

    def link(self, ctx: Context, trace_ids: Sequence[str], run_id: str) -> None:
        """Say that traces belong to a run. Those that are not there are passed over."""
        ctx.require(Scope.write)
        if not 0 < len(trace_ids) <= MAX_LINKS:
            raise Invalid(f"1 to {MAX_LINKS} traces are linked at once.", param="trace_ids")
        with self.db.write() as c:
            run_row(c, ctx, run_id, writable=True)
            w.link_runs(c, ctx, [row.uid for row in trace_rows(c, ctx, trace_ids)], run_id)

    def link_prompts(self, ctx: Context, trace_id: str, prompts: Sequence[tuple[str, str]]) -> None:
        """Say which prompts, as (name, version), a trace has used."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            w.link_prompts(c, trace_row(c, ctx, trace_id).uid, prompts)

    def delete(
        self,
        ctx: Context,
        experiment_id: str,
        *,
        trace_ids: Sequence[str] = (),
        max_timestamp_ms: int | None = None,
        limit: int | None = None,
    ) -> int:
        """Delete an experiment's traces for good: these, or the oldest up to a time. How many there were."""
        ctx.require(Scope.write)
        if bool(trace_ids) == (max_timestamp_ms is not None):
            raise Invalid("Say which traces to delete: either by their ids, or up to which time.", param="request_ids")
        if trace_ids and limit is not None:
            raise Invalid("The number of traces is limited only when they are deleted by time.", param="max_traces")
        if len(trace_ids) > MAX_IDS or (limit is not None and limit <= 0):
            raise Invalid(f"1 to {MAX_IDS} traces are deleted at once.", param="request_ids")
        with self.db.read() as c:
            uid = experiment_row(c, ctx, experiment_id).uid
        query = sa.select(_x.uid).where(_x.experiment_uid == uid).order_by(_x.start_ms, _x.trace_id)
        if max_timestamp_ms is not None:
            query = query.where(_x.start_ms <= max_timestamp_ms)
        deleted = 0
        pieces: list[list[str] | None] = [*chunked(trace_ids, DELETED_AT_ONCE)] if trace_ids else [None]
        for piece in pieces:
            while limit is None or deleted < limit:
                some = query.limit(min(DELETED_AT_ONCE, (limit - deleted) if limit is not None else DELETED_AT_ONCE))
                if piece is not None:
                    some = some.where(_x.trace_id.in_(piece))
                with self.db.write() as c:  # in pieces: nobody else waits long
                    uids = list(c.scalars(some))
                    c.execute(x.traces.delete().where(_x.uid.in_(uids)))
                deleted += len(uids)
                if len(uids) < DELETED_AT_ONCE:
                    break
        return deleted

    # --- reading

    def info(self, ctx: Context, trace_id: str) -> TraceInfo:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return _infos(c, [trace_row(c, ctx, trace_id)])[0]

    def get(self, ctx: Context, trace_id: str) -> Trace:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return _traces(c, [trace_row(c, ctx, trace_id)])[0]

    def infos(self, ctx: Context, trace_ids: Sequence[str], *, experiment_ids: Sequence[str] | None = None) -> list[TraceInfo]:
        """Those that are there, in the order asked for."""
        return [one for one in self._some(ctx, trace_ids, experiment_ids, _infos) if isinstance(one, TraceInfo)]

    def get_many(self, ctx: Context, trace_ids: Sequence[str], *, experiment_ids: Sequence[str] | None = None) -> list[Trace]:
        """With their spans."""
        return [one for one in self._some(ctx, trace_ids, experiment_ids, _traces) if isinstance(one, Trace)]

    def _some(self, ctx: Context, trace_ids: Sequence[str], experiment_ids: Sequence[str] | None, build: Any) -> list[TraceInfo | Trace]:
        ctx.require(Scope.read)
        if len(trace_ids) > MAX_IDS:
            raise Invalid(f"At most {MAX_IDS} traces are read at once.", param="trace_ids")
        with self.db.read() as c:
            rows = trace_rows(c, ctx, trace_ids)
            if experiment_ids is not None:
                uids = set(experiment_uids(c, ctx, experiment_ids, active=True))
                rows = [row for row in rows if row.experiment_uid in uids]
            return list(build(c, rows))

    def search(
        self,
        ctx: Context,
        experiment_ids: Sequence[str],
        *,
        filter: str | None = None,  # noqa: A002  the word of every client
        order_by: Sequence[str] = (),
        limit: int = 100,
        token: str | None = None,
    ) -> Page[TraceInfo]:
        """Traces that meet the filter; the latest first. Experiments that are not there have none."""
        ctx.require(Scope.read)
        check_limit(limit, MAX_PAGE)
        with self.db.read() as c:
            rows, ends = matching_rows(c, filter, order_by, experiment_uids(c, ctx, experiment_ids, active=True), limit, token)
            return Page(_infos(c, rows), to_token(ends) if ends is not None else None)


def _infos(c: sa.Connection, rows: Sequence[Any]) -> list[TraceInfo]:
    ids = {row.uid: row.trace_id for row in rows}
    tags, metadata, assessed = maps.read(c, x.trace_tags, ids), maps.read(c, x.trace_metadata, ids), a.read(c, ids)
    e = t.experiments.c
    numbers = {row.uid: row.number for row in c.execute(sa.select(e.uid, e.number).where(e.uid.in_({row.experiment_uid for row in rows})))}
    found: list[TraceInfo] = []
    for row in rows:
        number = numbers[row.experiment_uid]
        told = {TRACE_LOCATION: f"mlflow-artifacts:/{number}/traces/{row.trace_id}/artifacts"}
        if row.name is not None:
            told[TRACE_NAME] = row.name
        if row.spans:
            told[TRACE_SPANS] = "TRACKING_STORE"
        info = TraceInfo(
            id=row.trace_id,
            experiment_id=str(number),
            start_ms=row.start_ms,
            duration_ms=row.duration_ms,
            state=row.state,
            client_request_id=row.client_request_id,
            request_preview=row.request_preview,
            response_preview=row.response_preview,
            tags=tags.get(row.uid, {}) | told,
            metadata=metadata.get(row.uid, {}),
            assessments=assessed.get(row.uid, ()),
        )
        found.append(info)
    return found


def _traces(c: sa.Connection, rows: Sequence[Any]) -> list[Trace]:
    p = x.trace_spans.c
    by_trace: dict[int, list[Span]] = {row.uid: [] for row in rows}
    ids = {row.uid: row.trace_id for row in rows}
    for some in chunked(by_trace):
        query = sa.select(x.trace_spans).where(p.trace_uid.in_(some))
        for one in c.execute(query.order_by(sa.case((p.parent_id.is_(None), 0), else_=1), p.start_ns, p.span_id)):
            by_trace[one.trace_uid].append(s.from_row(one, ids[one.trace_uid]))
    found: list[Trace] = []
    for row, info in zip(rows, _infos(c, rows), strict=True):
        spans = by_trace[row.uid]
        wanted = s.numbers(s.decoded(info.metadata.get(TRACE_SIZES))).get("num_spans", 0)
        found.append(Trace(info, spans, bool(spans) and len(spans) >= wanted))
    return found
