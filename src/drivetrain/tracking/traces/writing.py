"""Writing traces: spans and what a client tells of the whole trace come separately, in any order and perhaps twice, and are merged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.identity.model import Context
from drivetrain.store import maps
from drivetrain.store.sql import chunked, upsert
from drivetrain.tags import (
    SPAN_INPUTS,
    SPAN_OUTPUTS,
    TRACE_COST,
    TRACE_FINALIZED,
    TRACE_LOCATION,
    TRACE_NAME,
    TRACE_PROMPTS,
    TRACE_RUN,
    TRACE_SESSION,
    TRACE_SPANS,
    TRACE_TAG,
    TRACE_USAGE,
    TRACE_USER,
)
from drivetrain.tracking import tables as t
from drivetrain.tracking.checks import MAX_KEY, MAX_TAG
from drivetrain.tracking.traces import spans as s
from drivetrain.tracking.traces import tables as x
from drivetrain.tracking.traces.spans import Span, clean

KEPT = frozenset({TRACE_NAME, TRACE_LOCATION, TRACE_SPANS, TRACE_FINALIZED})
"""Tags and metadata that are told by the server, and not kept as entries."""
IN_PROGRESS = "IN_PROGRESS"

_x = x.traces.c


def entries(given: Mapping[str, Any]) -> dict[str, str]:
    """Tags or metadata as they are kept: what is too long is cut, as MLflow's server does it."""
    return {clean(key): clean(s.text(value))[:MAX_TAG] for key, value in given.items() if 0 < len(key) <= MAX_KEY and key not in KEPT}


def link_runs(c: sa.Connection, ctx: Context, uids: Iterable[int], run_id: str) -> bool:
    """Whether there is such a run in the workspace."""
    r = t.runs.c
    if c.scalar(sa.select(r.id).where(r.id == run_id, r.workspace_id == ctx.workspace_id)) is None:
        return False
    upsert(c, x.trace_runs, [{"trace_uid": uid, "run_id": run_id} for uid in sorted(uids)], key=["trace_uid", "run_id"])
    return True


def link_prompts(c: sa.Connection, uid: int, prompts: Iterable[tuple[str, str]]) -> None:
    rows = [{"trace_uid": uid, "prompt": f"{name}/{version}"[:300]} for name, version in sorted(set(prompts))]
    upsert(c, x.trace_prompts, rows, key=["trace_uid", "prompt"])


def note_tags(c: sa.Connection, uid: int, tags: Mapping[str, str]) -> None:
    """Keep tags, and what some of them say."""
    maps.put(c, x.trace_tags, uid, tags)
    if linked := s.decoded(tags.get(TRACE_PROMPTS)):
        found = [one for one in linked if isinstance(one, dict) and "name" in one and "version" in one] if isinstance(linked, list) else []
        link_prompts(c, uid, [(str(one["name"]), str(one["version"])) for one in found])


def note_metadata(c: sa.Connection, ctx: Context, uid: int, given: Mapping[str, str], *, keep: bool = False) -> None:
    maps.put(c, x.trace_metadata, uid, given, keep=keep)
    if run_id := given.get(TRACE_RUN):
        link_runs(c, ctx, [uid], run_id)


def ensure(c: sa.Connection, ctx: Context, experiment_uid: int, starts: Mapping[str, int]) -> dict[str, sa.Row[Any]]:
    """The rows of these traces (id → when it began), made where there are none, and locked until the transaction ends."""
    found: dict[str, sa.Row[Any]] = {}
    for some in chunked(sorted(starts)):
        mine = sa.select(x.traces).where(_x.workspace_id == ctx.workspace_id, _x.trace_id.in_(some)).order_by(_x.uid)
        known = {row.trace_id: row for row in c.execute(mine.with_for_update())}
        new = [
            {
                "workspace_id": ctx.workspace_id,
                "experiment_uid": experiment_uid,
                "trace_id": trace_id,
                "state": IN_PROGRESS,
                "start_ms": starts[trace_id],
                "told": 0,
                "spans": 0,
            }
            for trace_id in some
            if trace_id not in known
        ]
        if new:
            upsert(c, x.traces, new, key=["workspace_id", "trace_id"])
            known |= {row.trace_id: row for row in c.execute(mine.with_for_update())}
        found |= known
    return found


def write_spans(c: sa.Connection, ctx: Context, experiment_uid: int, given: Sequence[Span]) -> None:
    by_trace: dict[str, dict[str, Span]] = {}
    for span in given:
        mine = by_trace.setdefault(span.trace, {})
        if (known := mine.get(span.span_id)) is None or span.end_ns is not None or known.end_ns is None:
            mine[span.span_id] = span
    rows = ensure(c, ctx, experiment_uid, {trace: min(one.start_ns for one in some.values()) // 10**6 for trace, some in by_trace.items()})
    at_rest: list[dict[str, Any]] = []
    for trace, some in by_trace.items():
        uid = rows[trace].uid
        open_ones = [one.span_id for one in some.values() if one.end_ns is None]
        p = x.trace_spans.c
        ended: set[str] = set()
        for part in chunked(open_ones):
            ended |= set(c.scalars(sa.select(p.span_id).where(p.trace_uid == uid, p.span_id.in_(part), p.end_ns.is_not(None))))
        at_rest += [s.row(one) | {"trace_uid": uid} for one in some.values() if one.span_id not in ended]
    columns = [column.name for column in x.trace_spans.columns if column.name not in ("trace_uid", "span_id")]
    upsert(c, x.trace_spans, at_rest, key=["trace_uid", "span_id"], update=columns)
    counting = {row["trace_uid"] for row in at_rest if row["usage"] or row["cost"]} | _counted(c, {row.uid for row in rows.values()})
    for trace, some in sorted(by_trace.items()):
        _take_in(c, ctx, rows[trace], list(some.values()), counts=rows[trace].uid in counting)


def _counted(c: sa.Connection, uids: Iterable[int]) -> set[int]:
    """Traces of which something was added up already. A span that counts nothing itself may say now what is below what."""
    g = x.trace_metadata.c
    found: set[int] = set()
    for part in chunked(list(uids)):
        found |= set(c.scalars(sa.select(g.trace_uid).where(g.trace_uid.in_(part), g.key.in_([TRACE_USAGE, TRACE_COST]))))
    return found


def _take_in(c: sa.Connection, ctx: Context, row: sa.Row[Any], some: Sequence[Span], *, counts: bool) -> None:
    """What these spans say of their trace."""
    values: dict[str, Any] = {"spans": 1}
    metadata: dict[str, str] = {}
    if not row.told:
        start = min(row.start_ms, *(one.start_ns // 10**6 for one in some))
        ends = [one.end_ns // 10**6 for one in some if one.end_ns is not None]
        if row.duration_ms is not None:
            ends.append(row.start_ms + row.duration_ms)
        values |= {"start_ms": start, "duration_ms": max(max(ends) - start, 0) if ends else None}
    tags: dict[str, Any] = {}
    for one in some:
        tags |= {key: value for key, value in one.resource.items() if not key.startswith(("telemetry.sdk.", "mlflow."))}
        for key, names in ((TRACE_SESSION, ("session.id", "gen_ai.conversation.id")), (TRACE_USER, ("user.id",))):
            told = next((one.attributes[name] for name in names if one.attributes.get(name)), None)
            if told is not None:
                metadata.setdefault(key, s.text(told))
    root = next((one for one in some if one.parent_id is None), None)
    if root is not None:
        if row.state in (IN_PROGRESS, "STATE_UNSPECIFIED") and root.end_ns is not None:
            values["state"] = "ERROR" if root.status == "ERROR" else "OK"
        mine = {key.removeprefix(TRACE_TAG): value for key, value in root.attributes.items() if key.startswith(TRACE_TAG)}
        name = mine.get(TRACE_NAME)
        if name is not None or row.name is None:
            values["name"] = clean(s.text(name) if name is not None else root.name)
        tags |= mine
        if row.request_preview is None:
            values["request_preview"] = s.preview(root.attributes.get(SPAN_INPUTS), "user")
        if row.response_preview is None:
            values["response_preview"] = s.preview(root.attributes.get(SPAN_OUTPUTS), "assistant")
    if counts:
        values |= _count(c, row)
    if row.session is None and TRACE_SESSION in metadata:
        values["session"] = clean(metadata[TRACE_SESSION])
    c.execute(x.traces.update().where(_x.uid == row.uid).values(**values))
    if tags:
        note_tags(c, row.uid, entries(tags))
    if metadata:
        note_metadata(c, ctx, row.uid, entries(metadata), keep=True)


def _count(c: sa.Connection, row: sa.Row[Any]) -> dict[str, Any]:
    """Add up all spans that are there; what the client has told itself stays."""
    told: set[str] = set()
    g, p = x.trace_metadata.c, x.trace_spans.c
    if row.told:
        told = set(c.scalars(sa.select(g.key).where(g.trace_uid == row.uid, g.key.in_([TRACE_USAGE, TRACE_COST]))))
    all_spans = c.execute(sa.select(p.span_id, p.parent_id, p.usage, p.cost).where(p.trace_uid == row.uid)).all()
    values: dict[str, Any] = {}
    found: dict[str, str] = {}
    usage = s.summed_usage((one.span_id, one.parent_id, json.loads(one.usage or "{}")) for one in all_spans)
    if usage is not None and TRACE_USAGE not in told:
        found[TRACE_USAGE] = json.dumps(usage)
        values["tokens"] = usage["total_tokens"]
    cost = s.summed_cost((one.span_id, one.parent_id, json.loads(one.cost or "{}")) for one in all_spans)
    if cost is not None and TRACE_COST not in told:
        found[TRACE_COST] = json.dumps(cost)
    maps.put(c, x.trace_metadata, row.uid, found)
    return values
