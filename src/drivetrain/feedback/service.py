"""What people, judges and labels said of answers, by request id. It may come long after the answer, and still counts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import sqlalchemy as sa

from drivetrain.errors import Invalid, NotFound
from drivetrain.feedback.labels import prediction, same
from drivetrain.feedback.model import About, Opinion, Scalar
from drivetrain.feedback.tables import feedback as table
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert

KINDS = ("feedback", "label")
OF_EACH = 5
"""Opinions of each version that tell how long they take to come."""
PATIENCE_MS = 60_000
"""How long opinions of one version alone wait for those of the other, and three times as long as they took themselves."""
NEWEST = 1_000
"""Opinions of one name that tell it."""
NAMES = 100
"""Names of opinions that are looked at in one go, those first that wait longest."""
AT_ONCE = 1_000
"""Opinions that are counted in one transaction."""
_OLD = 0.95
MAX_TEXT = 20_000
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Said:
    """An opinion that is to be counted, and what was counted in its place before, if it was."""

    opinion: Opinion
    before: Opinion | None


def request_id(text: str) -> str:
    """The id in the form in which it is stored. Raises `Invalid` for what no answer can have had as its `x-request-id`."""
    plain = text.strip().lower().replace("-", "").removeprefix("tr")
    if not re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{19}", plain):
        raise Invalid(f"{text[:80]!r} is not a request id: it is the value of the header x-request-id of an answer.", param="request_id")
    return plain


class Feedback:
    """Feedback and labels of one database. Thread-safe. `clock`: Unix milliseconds."""

    def __init__(self, db: Database, *, clock: Callable[[], int] = now_ms) -> None:
        self._db = db
        self._clock = clock

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
        about: About | None = None,
    ) -> Opinion:
        """Say something of an answer. The same source saying it again under the same name replaces what it said before.

        `about`: the answer, where its event is known already; else `join` finds out later."""
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
            "created_ms": self._clock(),
            "counted": False,
            **_joined(kind, value, about),
        }
        key = ["workspace_id", "request_id", "kind", "name", "source"]
        changed = ["id", "value", "comment", "user_name", "created_ms", "counted", *_joined(kind, value, about)]

        def write(c: sa.Connection) -> None:
            upsert(c, table, [row], key=key, update=changed)

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
            created_ms=self._clock(),
            about=about,
            correct=_correct(kind, value, about),
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

    def take(self, connection: sa.Connection, rollout: str, *, limit: int = AT_ONCE) -> list[Said]:
        """What was said of answers of this rollout and has not been taken yet, or has changed since, within the caller's transaction: each
        once. It is taken when it is `ripe`."""
        rows = connection.execute(self._ripe(connection, rollout).order_by(table.c.id).limit(limit).with_for_update()).all()
        if rows:
            taken = [{"of": row.id, "as_": {"value": row.value, "correct": row.correct}} for row in rows]
            update = sa.update(table).where(table.c.id == sa.bindparam("of"))
            connection.execute(update.values(counted=True, counted_as=sa.bindparam("as_", type_=sa.JSON)), taken)
        return [_said(row) for row in rows]

    def ripe(self, rollout: str) -> bool:
        """Whether `take` would find something.

        Opinions of one name are compared at equal age: of answers that are so old that nearly all opinions of either version's have come
        by then. So a version whose answers or labels take longer is not judged before they are there, nor the other one without it."""
        with self._db.read() as c:
            return c.execute(self._ripe(c, rollout).with_only_columns(table.c.id).limit(1)).first() is not None

    def waiting(self, connection: sa.Connection, rollout: str) -> list[tuple[Opinion, int]]:
        """What was said of answers of this rollout and is not counted yet: one opinion of each name, version and phase, and how many there
        are of the like."""
        of = table.c
        mine = of.rollout == rollout, ~of.counted
        groups = sa.select(sa.func.min(of.id), sa.func.count()).where(*mine).group_by(of.kind, of.name, of.variant, of.phase)
        counts = {row[0]: int(row[1]) for row in connection.execute(groups.limit(500))}
        if not counts:
            return []
        return [(_opinion(row), counts[row.id]) for row in connection.execute(sa.select(table).where(of.id.in_(list(counts))))]

    def _ripe(self, c: sa.Connection, rollout: str) -> sa.Select[tuple[object, ...]]:
        """What is not counted yet, of answers that are old enough, or was counted as something else."""
        of = table.c
        untaken = of.rollout == rollout, ~of.counted, of.event_ms.is_not(None)
        names = sa.select(of.kind, of.name).where(*untaken).group_by(of.kind, of.name).order_by(sa.func.min(of.id)).limit(NAMES)
        now = self._clock()
        enough: list[sa.ColumnElement[bool]] = [of.counted_as.is_not(sa.null())]
        for kind, name in c.execute(names).all():
            enough.append(sa.and_(of.kind == kind, of.name == name, of.event_ms <= now - self._age(c, rollout, kind, name)))
        return sa.select(table).where(*untaken, sa.or_(*enough))

    def _age(self, c: sa.Connection, rollout: str, kind: str, name: str) -> int:
        """How old answers must be before what is said of them under this name is compared, by how long the newest opinions took."""
        of = table.c
        mine = of.rollout == rollout, of.kind == kind, of.name == name, of.event_ms.is_not(None)
        delays: dict[str, list[int]] = {}
        newest = sa.select(of.variant, of.created_ms - of.event_ms).where(*mine).order_by(of.id.desc()).limit(NEWEST)
        for variant, delay in c.execute(newest):
            delays.setdefault(variant, []).append(delay)
        return _age(list(delays.values()))

    def said(self, deployment: str, name: str) -> bool:
        """Whether anything of this name has been said of the deployment's answers."""
        query = sa.select(table.c.id).where(table.c.deployment == deployment, table.c.name == name).limit(1)
        with self._db.read() as c:
            return c.execute(query).first() is not None

    def unjoined(self, *, since_ms: int, limit: int = 1000) -> list[tuple[str, str]]:
        """(workspace, request) of what was said since then of answers whose events were not known at the time."""
        query = sa.select(table.c.workspace_id, table.c.request_id).distinct()
        with self._db.read() as c:
            fresh = query.where(table.c.event_ms.is_(None), table.c.created_ms >= since_ms)
            return [(row.workspace_id, row.request_id) for row in c.execute(fresh.limit(limit))]

    def join(self, workspace_id: str, request: str, about: About) -> None:
        """Say which answer it was that something was said of."""
        mine = (table.c.workspace_id == workspace_id) & (table.c.request_id == request) & table.c.event_ms.is_(None)
        with self._db.write() as c:
            for row in c.execute(sa.select(table.c.id, table.c.kind, table.c.value).where(mine)).all():
                c.execute(sa.update(table).where(table.c.id == row.id).values(**_joined(row.kind, row.value, about)))

    def names(self, workspace_id: str, deployment: str) -> dict[str, int]:
        """What has been said of a deployment's answers (its id): how often under each name. Labels are under `label`."""
        name = sa.case((table.c.kind == "label", "label"), else_=table.c.name).label("name")
        query = sa.select(name, sa.func.count().label("count")).where(
            table.c.workspace_id == workspace_id, table.c.deployment == deployment
        )
        with self._db.read() as c:
            return {row.name: int(row[1]) for row in c.execute(query.group_by(sa.text("1")))}

    def labels_of(self, ctx: Context, deployment: str, *, name: str | None = None, upto_ms: int) -> dict[str, tuple[Scalar, int]]:
        """The labels of a deployment's answers (its id) that had come by `upto_ms`: by request, the label and the time of the answer."""
        ctx.require(Scope.read)
        query = self._labels(ctx.workspace_id, deployment, name).where(table.c.created_ms <= upto_ms)
        with self._db.read() as c:
            return {row.request_id: (row.value, row.event_ms) for row in c.execute(query.order_by(table.c.id))}

    def count_labels(self, workspace_id: str, deployment: str, *, name: str | None = None, since_ms: int | None = None) -> int:
        """How many labels of a deployment's answers (its id) there are; of those since then, if that is said."""
        query = self._labels(workspace_id, deployment, name)
        if since_ms is not None:
            query = query.where(table.c.event_ms >= since_ms)
        with self._db.read() as c:
            return int(c.scalar(sa.select(sa.func.count()).select_from(query.subquery())) or 0)

    def labelled(self, workspace_id: str, deployment: str, *, name: str | None = None, since_ms: int) -> Iterator[str]:
        """The ids of a deployment's answers since then that have labels, one for each label: stop when that is enough."""
        query = self._labels(workspace_id, deployment, name).where(table.c.event_ms >= since_ms)
        query = query.with_only_columns(table.c.id, table.c.request_id).order_by(table.c.id).limit(PAGE)
        last = ""
        while True:
            with self._db.read() as c:
                rows = c.execute(query.where(table.c.id > last)).all()
            yield from (str(row.request_id) for row in rows)
            if len(rows) < PAGE:
                return
            last = str(rows[-1].id)

    def _labels(self, workspace_id: str, deployment: str, name: str | None) -> sa.Select[tuple[object, ...]]:
        query = sa.select(table).where(table.c.workspace_id == workspace_id, table.c.deployment == deployment, table.c.kind == "label")
        return query if name is None else query.where(table.c.name == name)

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
        about=None if row.event_ms is None else About(row.event_ms, row.deployment, row.variant, row.unit, row.rollout or "", row.phase),
        correct=row.correct,
    )


def _said(row: sa.Row[tuple[object, ...]]) -> Said:
    now = _opinion(row)
    before = None if row.counted_as is None else replace(now, value=row.counted_as["value"], correct=row.counted_as["correct"])
    return Said(now, before)


def _age(delays: list[list[int]]) -> int:
    """How old an answer must be, in milliseconds, by how long opinions of either version's answers took."""
    usual = [sorted(some)[int(_OLD * (len(some) - 1))] for some in delays]
    if len(delays) > 1 and min(map(len, delays)) >= OF_EACH:
        return max(usual)
    return max(usual) * 3 + PATIENCE_MS  # of one of them too little is known


def _joined(kind: str, value: Scalar, about: About | None) -> dict[str, object]:
    """The columns that tell of the answer. A label that is said again is compared with the answer again, as soon as that is found."""
    if about is None:
        return {"event_ms": None, "correct": None} if kind == "label" else {}
    return {
        "event_ms": about.event_ms,
        "deployment": about.deployment,
        "variant": about.variant,
        "unit": about.unit,
        "rollout": about.rollout or None,
        "phase": about.phase,
        "correct": _correct(kind, value, about),
    }


def _correct(kind: str, value: Scalar, about: About | None) -> bool | None:
    found = prediction(about.output) if kind == "label" and about is not None else None
    return None if found is None else same(found, value)
