"""Assessments of traces: feedback (how good was it?) and expectations (what should it have been?), by people, code or judges."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, chunked, upsert
from drivetrain.tracking.checks import shown
from drivetrain.tracking.traces import tables as x
from drivetrain.tracking.traces.finders import trace_row

Kind = Literal["feedback", "expectation", "issue"]
_a = x.trace_assessments.c


class Assessment(Struct, frozen=True, kw_only=True):
    """`value` and `error` are JSON. `overrides`: the one that this replaces, which is no longer `valid`."""

    id: str = ""
    trace_id: str = ""
    kind: Kind
    name: str
    value: Any = None
    error: Mapping[str, Any] | None = None
    source_type: str = "SOURCE_TYPE_UNSPECIFIED"
    source_id: str = ""
    span_id: str | None = None
    rationale: str | None = None
    metadata: Mapping[str, str] = {}
    overrides: str | None = None
    valid: bool = True
    created_ms: int = 0
    updated_ms: int = 0


@dataclass(frozen=True, slots=True)
class Assessments:
    db: Database

    def create(self, ctx: Context, trace_id: str, given: Assessment) -> Assessment:
        """Add an assessment. The one that it overrides is valid no more. Raises `NotFound`."""
        ctx.require(Scope.write)
        check(given)
        row = stored(given, f"a-{uuid7()}")

        def work(c: sa.Connection) -> Assessment | DrivetrainError:
            try:
                uid = trace_row(c, ctx, trace_id).uid
                if given.overrides:
                    _found(c, uid, trace_id, given.overrides)
            except DrivetrainError as error:
                return error
            if given.overrides:
                c.execute(x.trace_assessments.update().where(_a.trace_uid == uid, _a.id == given.overrides).values(valid=0))
            c.execute(x.trace_assessments.insert().values(trace_uid=uid, **row))
            return _assessment(_found(c, uid, trace_id, row["id"]), trace_id)

        return _or_raise(self.db.group_write(work))

    def get(self, ctx: Context, trace_id: str, assessment_id: str) -> Assessment:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return _assessment(_found(c, trace_row(c, ctx, trace_id).uid, trace_id, assessment_id), trace_id)

    def update(self, ctx: Context, trace_id: str, assessment_id: str, changes: Mapping[str, Any]) -> Assessment:
        """Change name, value, error, rationale; entries of metadata are added. `kind`, if it is among them, must be what it is."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            uid = trace_row(c, ctx, trace_id).uid
            before = _assessment(_found(c, uid, trace_id, assessment_id), trace_id)
            kind = changes.get("kind", before.kind)
            if kind != before.kind:
                raise Invalid(f"The assessment {before.name!r} is of the kind {before.kind}: it cannot take the value of one of {kind}.")
            about = {key: changes.get(key, getattr(before, key)) for key in ("name", "value", "error", "rationale")}
            after = Assessment(
                id=before.id,
                kind=before.kind,
                source_type=before.source_type,
                source_id=before.source_id,
                span_id=before.span_id,
                metadata={**before.metadata, **changes.get("metadata", {})},
                overrides=before.overrides,
                valid=before.valid,
                created_ms=before.created_ms,
                updated_ms=max(now_ms(), before.updated_ms),
                **about,
            )
            check(after)
            values = stored(after, before.id)
            c.execute(x.trace_assessments.update().where(_a.trace_uid == uid, _a.id == assessment_id).values(**values))
            return _assessment(_found(c, uid, trace_id, assessment_id), trace_id)

    def delete(self, ctx: Context, trace_id: str, assessment_id: str) -> None:
        """What it had overridden is valid again. One that is gone already is no error. Raises `NotFound` for the trace."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            uid = trace_row(c, ctx, trace_id).uid
            mine = sa.and_(_a.trace_uid == uid, _a.id == assessment_id)
            overridden = c.scalar(sa.select(_a.overrides).where(mine))
            c.execute(x.trace_assessments.delete().where(mine))
            if overridden:
                c.execute(x.trace_assessments.update().where(_a.trace_uid == uid, _a.id == overridden).values(valid=1))


def _found(c: sa.Connection, uid: int, trace_id: str, assessment_id: str) -> sa.Row[Any]:
    row = c.execute(sa.select(x.trace_assessments).where(_a.trace_uid == uid, _a.id == assessment_id)).one_or_none()
    if row is None:
        raise NotFound(f"The trace {shown(trace_id)} has no assessment {shown(assessment_id)}.", param="assessment_id")
    return row


def _or_raise(found: Assessment | DrivetrainError) -> Assessment:
    if isinstance(found, DrivetrainError):
        raise found
    return found


def check(given: Assessment) -> None:
    if not 0 < len(given.name) <= 250:
        raise Invalid("An assessment has a name of 1 to 250 characters.", param="assessment_name")
    if len(given.id) > 64 or len(given.overrides or "") > 64 or len(given.source_type) > 64:
        raise Invalid("The ids of an assessment, and the type of its source, have at most 64 characters.", param="assessment")


def stored(given: Assessment, assessment_id: str) -> dict[str, Any]:
    """Its columns."""
    now = now_ms()
    created = given.created_ms or now
    return {
        "id": assessment_id,
        "kind": given.kind,
        "name": given.name,
        "source_type": given.source_type,
        "source_id": given.source_id,
        "span_id": given.span_id,
        "value": json.dumps(given.value, ensure_ascii=False).replace("\\u0000", "\ufffd"),
        "number": _number(given.value),
        "error": json.dumps(given.error) if given.error else None,
        "rationale": given.rationale,
        "metadata": json.dumps(dict(given.metadata)),
        "overrides": given.overrides or None,
        "valid": int(given.valid),
        "created_ms": created,
        "updated_ms": given.updated_ms or created,
    }


def put(c: sa.Connection, uid: int, given: Sequence[Assessment]) -> None:
    """Those that come with their trace. One without an id has one that follows from what it says: it is one, however often it comes."""
    rows = []
    for one in given:
        said = json.dumps([one.kind, one.name, one.source_type, one.source_id, one.span_id, one.value, one.created_ms])
        rows.append(stored(one, one.id or f"a-{hashlib.sha256(said.encode()).hexdigest()[:32]}") | {"trace_uid": uid})
    columns = [column.name for column in x.trace_assessments.columns if column.name not in ("trace_uid", "id")]
    upsert(c, x.trace_assessments, rows, key=["trace_uid", "id"], update=columns)


def read(c: sa.Connection, ids: Mapping[int, str]) -> dict[int, list[Assessment]]:
    """By trace: uid → its id. The oldest first."""
    found: dict[int, list[Assessment]] = {}
    for some in chunked(ids):
        query = sa.select(x.trace_assessments).where(_a.trace_uid.in_(some)).order_by(_a.trace_uid, _a.created_ms, _a.id)
        for row in c.execute(query):
            found.setdefault(row.trace_uid, []).append(_assessment(row, ids[row.trace_uid]))
    return found


def _assessment(row: Any, trace_id: str) -> Assessment:
    return Assessment(
        id=row.id,
        trace_id=trace_id,
        kind=row.kind,
        name=row.name,
        value=json.loads(row.value),
        error=json.loads(row.error) if row.error else None,
        source_type=row.source_type,
        source_id=row.source_id,
        span_id=row.span_id,
        rationale=row.rationale,
        metadata=json.loads(row.metadata),
        overrides=row.overrides,
        valid=bool(row.valid),
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e308 or math.isnan(value):
        return None
    return float(value)
