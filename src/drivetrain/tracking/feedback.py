"""What people, judges and labels said of answers, by request id. It may come long after the answer, and still counts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert
from drivetrain.tracking.tables_feedback import feedback as table

KINDS = ("feedback", "label")
MAX_TEXT = 20_000

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Opinion:
    """One thing that was said of one answer. A `label` is the right answer; `feedback` is an opinion of the given one."""

    id: str
    request_id: str
    kind: str
    name: str
    value: Scalar
    source: str
    comment: str
    user: str
    created_ms: int


def request_id(text: str) -> str:
    """The id in the form in which it is stored. Raises `Invalid` for what no answer can have had as its `x-request-id`."""
    plain = text.strip().lower().replace("-", "").removeprefix("tr")
    if not re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{19}", plain):
        raise Invalid(f"{text[:80]!r} is not a request id: it is the value of the header x-request-id of an answer.", param="request_id")
    return plain


class Feedback:
    """Feedback and labels of one database. Thread-safe."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(
        self,
        ctx: Context,
        request: str,
        name: str,
        value: Scalar,
        *,
        kind: str = "feedback",
        source: str = "",
        comment: str = "",
    ) -> Opinion:
        """Say something of an answer. The same source saying it again under the same name replaces what it said before."""
        ctx.require(Scope.invoke)
        request = request_id(request)
        if kind not in KINDS:
            raise Invalid(f"{kind!r} is no kind: use 'feedback' (an opinion of the answer) or 'label' (the right answer).", param="kind")
        if not name or len(name) > 250:
            raise Invalid(f"The name must have 1 to 250 characters; it has {len(name)}.", param="name")
        if len(source) > 250:
            raise Invalid("The source is longer than 250 characters.", param="source")
        if isinstance(value, float) and not math.isfinite(value):
            raise Invalid("The value must be a finite number.", param="value")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise Invalid("The value must fit in 64 bits.", param="value")
        if len(comment) > MAX_TEXT or (isinstance(value, str) and len(value) > MAX_TEXT):
            raise Invalid(f"The value and the comment may have {MAX_TEXT} characters at most.", param="value")
        row: dict[str, object] = {
            "id": uuid7(),
            "workspace_id": ctx.workspace_id,
            "request_id": request,
            "kind": kind,
            "name": name,
            "source": source or ctx.user_name,
            "value": value,
            "comment": comment,
            "user_name": ctx.user_name,
            "created_ms": now_ms(),
        }
        key = ["workspace_id", "request_id", "kind", "name", "source"]

        def write(c: sa.Connection) -> None:
            upsert(c, table, [row], key=key, update=["id", "value", "comment", "user_name", "created_ms"])

        self._db.group_write(write)
        return Opinion(
            id=str(row["id"]),
            request_id=request,
            kind=kind,
            name=name,
            value=value,
            source=str(row["source"]),
            comment=comment,
            user=ctx.user_name,
            created_ms=now_ms(),
        )

    def of(self, ctx: Context, request: str) -> list[Opinion]:
        """All that was said of one answer, the oldest first."""
        ctx.require(Scope.read)
        query = self._mine(ctx).where(table.c.request_id == request_id(request)).order_by(table.c.id)
        with self._db.read() as c:
            return [_opinion(row) for row in c.execute(query)]

    def recent(self, ctx: Context, *, name: str | None = None, kind: str | None = None, limit: int = 100) -> list[Opinion]:
        """The last things that were said in the workspace, the newest first."""
        ctx.require(Scope.read)
        query = self._mine(ctx).order_by(table.c.created_ms.desc(), table.c.id.desc()).limit(limit)
        if name is not None:
            query = query.where(table.c.name == name)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        with self._db.read() as c:
            return [_opinion(row) for row in c.execute(query)]

    def labels(self, ctx: Context, requests: Iterable[str], *, name: str | None = None) -> dict[str, Scalar]:
        """The label of each of these requests that has one (the last one said, of that `name` or of any)."""
        ctx.require(Scope.read)
        ids = list(requests)
        found: dict[str, Scalar] = {}
        with self._db.read() as c:
            for start in range(0, len(ids), 500):
                query = self._mine(ctx).where(table.c.kind == "label", table.c.request_id.in_(ids[start : start + 500]))
                if name is not None:
                    query = query.where(table.c.name == name)
                for row in c.execute(query.order_by(table.c.id)):
                    found[row.request_id] = row.value
        return found

    def delete(self, ctx: Context, feedback_id: str) -> None:
        ctx.require(Scope.write)
        with self._db.write() as c:
            where = (table.c.workspace_id == ctx.workspace_id, table.c.id == feedback_id)
            if c.execute(table.delete().where(*where)).rowcount == 0:
                raise NotFound(f"There is no feedback {feedback_id[:40]!r}.")

    def _mine(self, ctx: Context) -> sa.Select[tuple[object, ...]]:
        return sa.select(table).where(table.c.workspace_id == ctx.workspace_id)


def _opinion(row: sa.Row[tuple[object, ...]]) -> Opinion:
    return Opinion(
        id=row.id,
        request_id=row.request_id,
        kind=row.kind,
        name=row.name,
        value=row.value,
        source=row.source,
        comment=row.comment,
        user=row.user_name,
        created_ms=row.created_ms,
    )
