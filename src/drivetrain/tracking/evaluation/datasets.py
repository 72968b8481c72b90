"""Evaluation datasets: cases (inputs, expectations, perhaps outputs) that a client tries models on. One case for the same inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.search.conditions import And
from drivetrain.search.grammar import parse_filter, parse_order
from drivetrain.search.languages import EVALUATION_DATASETS
from drivetrain.search.paging import Term, page
from drivetrain.search.sql import Column, Entries, Fields, text, where
from drivetrain.store import maps
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, chunked, upsert
from drivetrain.tags import USER
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.evaluation import tables as v
from drivetrain.tracking.evaluation.cases import Case, checked, merged, schema_of
from drivetrain.tracking.evaluation.scorers import numbers
from drivetrain.tracking.experiments import check_limit
from drivetrain.tracking.finders import ensure_default, experiment_row
from drivetrain.tracking.model import Page

MAX_NAME = 255
MAX_PAGE = 50_000

_d, _g, _x, _r = v.datasets.c, v.dataset_tags.c, v.dataset_experiments.c, v.records.c
_COLUMNS: dict[str, sa.Column[Any]] = {
    "name": _d.name,
    "created_by": _d.created_by,
    "last_updated_by": _d.updated_by,
    "created_time": _d.created_ms,
    "last_update_time": _d.updated_ms,
}
_FIELDS: Fields = {
    "attribute": {key: Column(column) for key, column in _COLUMNS.items()},
    "tag": Entries(v.dataset_tags, _g.dataset_id, _d.id),
}


class EvaluationDataset(Struct, frozen=True):
    """`schema` and `profile` are JSON texts that the server works out; `digest` changes with the records."""

    id: str
    name: str
    digest: str
    schema: str | None
    profile: str | None
    created_by: str | None
    updated_by: str | None
    created_ms: int
    updated_ms: int
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EvaluationDatasets:
    db: Database

    # --- datasets

    def create(
        self, ctx: Context, name: str, *, tags: Mapping[str, object] | None = None, experiment_ids: Sequence[str] = ()
    ) -> EvaluationDataset:
        """Names need not be unique. Raises `NotFound` for an experiment that is not there."""
        ctx.require(Scope.write)
        checks.name(name, "an evaluation dataset", MAX_NAME)
        given = _tags(tags or {})
        ensure_default(self.db, ctx, *experiment_ids)
        with self.db.write() as c:
            uids = [experiment_row(c, ctx, one).uid for one in experiment_ids]
            now, dataset_id = now_ms(), f"d-{uuid7()}"
            row = {
                "id": dataset_id,
                "workspace_id": ctx.workspace_id,
                "name": name,
                "digest": _digest(name, now),
                "created_by": given.get(USER),
                "updated_by": given.get(USER),
                "created_ms": now,
                "updated_ms": now,
            }
            c.execute(v.datasets.insert().values(**row))
            _set_tags(c, dataset_id, given)
            _join(c, dataset_id, uids)
            return _datasets(c, [_evaluated(c, ctx, dataset_id)])[0]

    def get(self, ctx: Context, dataset_id: str) -> EvaluationDataset:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return _datasets(c, [_evaluated(c, ctx, dataset_id)])[0]

    def delete(self, ctx: Context, dataset_id: str) -> None:
        """Delete a dataset with its records; one that is not there is no error."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            c.execute(v.datasets.delete().where(_d.id == dataset_id, _d.workspace_id == ctx.workspace_id))

    def search(
        self,
        ctx: Context,
        *,
        experiment_ids: Sequence[str] = (),
        filter: str | None = None,  # noqa: A002  the word of every client
        order_by: Sequence[str] = (),
        limit: int = 1000,
        token: str | None = None,
    ) -> Page[EvaluationDataset]:
        """Datasets that meet the filter and belong to one of the experiments (none named: all); the latest made first."""
        ctx.require(Scope.read)
        check_limit(limit, MAX_PAGE)
        sqlite = self.db.kind == "sqlite"
        query = sa.select(v.datasets).where(_d.workspace_id == ctx.workspace_id)
        if experiment_ids:
            mine = sa.select(_x.dataset_id).join(t.experiments, t.experiments.c.uid == _x.experiment_uid)
            query = query.where(_d.id.in_(mine.where(t.experiments.c.number.in_(numbers(experiment_ids)))))
        query = query.where(where(And(parse_filter(filter, EVALUATION_DATASETS)), _FIELDS, sqlite=sqlite))
        with self.db.read() as c:
            rows, more = page(c, query, _terms(order_by, sqlite), limit, token)
            return Page(_datasets(c, rows), more)

    def set_tags(self, ctx: Context, dataset_id: str, tags: Mapping[str, object]) -> None:
        """Set these tags beside those that are there; a value of None changes nothing."""
        ctx.require(Scope.write)
        given = _tags(tags)
        with self.db.write() as c:
            _set_tags(c, _evaluated(c, ctx, dataset_id).id, given)

    def delete_tag(self, ctx: Context, dataset_id: str, key: str) -> None:
        """Remove a tag; one that is not there is no error."""
        ctx.require(Scope.write)
        mine = sa.select(_d.id).where(_d.id == dataset_id, _d.workspace_id == ctx.workspace_id)
        with self.db.write() as c:
            c.execute(v.dataset_tags.delete().where(_g.dataset_id.in_(mine), _g.key == key))

    # --- experiments

    def experiments(self, ctx: Context, dataset_id: str) -> list[str]:
        """The experiments that a dataset belongs to."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            _evaluated(c, ctx, dataset_id)
            e = t.experiments.c
            query = sa.select(e.number).join(v.dataset_experiments, _x.experiment_uid == e.uid).where(_x.dataset_id == dataset_id)
            return [str(number) for number in c.scalars(query.order_by(e.number))]

    def join(self, ctx: Context, dataset_id: str, experiment_ids: Sequence[str]) -> EvaluationDataset:
        """Let a dataset belong to these experiments too. Raises `NotFound` for one that is not there."""
        ctx.require(Scope.write)
        ensure_default(self.db, ctx, *experiment_ids)
        with self.db.write() as c:
            _evaluated(c, ctx, dataset_id)
            _join(c, dataset_id, [experiment_row(c, ctx, one).uid for one in experiment_ids])
            c.execute(v.datasets.update().where(_d.id == dataset_id).values(updated_ms=now_ms()))
            return _datasets(c, [_evaluated(c, ctx, dataset_id)])[0]

    def leave(self, ctx: Context, dataset_id: str, experiment_ids: Sequence[str]) -> EvaluationDataset:
        """The reverse; an experiment that it does not belong to is no error."""
        ctx.require(Scope.write)
        e = t.experiments.c
        with self.db.write() as c:
            _evaluated(c, ctx, dataset_id)
            uids = sa.select(e.uid).where(e.workspace_id == ctx.workspace_id, e.number.in_(numbers(experiment_ids)))
            gone = c.execute(v.dataset_experiments.delete().where(_x.dataset_id == dataset_id, _x.experiment_uid.in_(uids))).rowcount
            if gone:
                c.execute(v.datasets.update().where(_d.id == dataset_id).values(updated_ms=now_ms()))
            return _datasets(c, [_evaluated(c, ctx, dataset_id)])[0]

    # --- records

    def merge_records(self, ctx: Context, dataset_id: str, records: Sequence[object]) -> tuple[int, int]:
        """Add records; those with inputs that are there already are merged into what is. How many were (added, merged)."""
        ctx.require(Scope.write)
        given = [checked(one, number) for number, one in enumerate(records, 1)]
        hashed = [(_hash(one.inputs), one) for one in given]
        with self.db.write() as c:
            # Held until the end, so that no other writer adds the same inputs meanwhile.
            dataset = _evaluated(c, ctx, dataset_id, lock=True)
            now = now_ms()
            rows: dict[str, dict[str, Any]] = {}
            for some in chunked({key for key, _ in hashed}):
                found = c.execute(sa.select(v.records).where(_r.dataset_id == dataset_id, _r.input_hash.in_(some)))
                rows |= {row.input_hash: dict(row._mapping) for row in found}
            added: dict[str, None] = {}
            updated_by: str | None = None
            for key, one in hashed:
                updated_by = one.user or updated_by
                if key in rows:
                    rows[key] |= merged(rows[key], one, now)
                else:
                    added[key] = None
                    rows[key] = one.row(now) | {"id": f"dr-{uuid7()}", "dataset_id": dataset_id, "input_hash": key}
            changed = ["outputs", "expectations", "tags", "updated_by", "updated_ms"]
            for part in chunked(rows):
                upsert(c, v.records, [rows[key] for key in part], key=["dataset_id", "input_hash"], update=changed)
            values = {"updated_ms": now, "updated_by": updated_by, "digest": _digest(dataset.name, now)}
            if (schema := schema_of(dataset.schema, given)) is not None:
                values["schema"] = json.dumps(schema)
            if count := c.scalar(sa.select(sa.func.count()).select_from(v.records).where(_r.dataset_id == dataset_id)):
                values["profile"] = _profile(count)
            c.execute(v.datasets.update().where(_d.id == dataset_id).values(**values))
        return len(added), len(hashed) - len(added)

    def records(self, ctx: Context, dataset_id: str, *, limit: int = 1000, token: str | None = None) -> Page[Case]:
        """A dataset's records in the order they were added."""
        ctx.require(Scope.read)
        check_limit(limit, MAX_PAGE)
        terms = [Term(_r.created_ms), Term(_r.id, True, "string")]
        with self.db.read() as c:
            _evaluated(c, ctx, dataset_id)
            rows, more = page(c, sa.select(v.records).where(_r.dataset_id == dataset_id), terms, limit, token)
        return Page([Case.of(row) for row in rows], more)

    def delete_records(self, ctx: Context, dataset_id: str, record_ids: Sequence[str]) -> int:
        """How many of them there were."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            dataset = _evaluated(c, ctx, dataset_id, lock=True)
            gone = 0
            for some in chunked(record_ids):
                gone += c.execute(v.records.delete().where(_r.dataset_id == dataset_id, _r.id.in_(some))).rowcount
            if gone:
                left = c.scalar(sa.select(sa.func.count()).select_from(v.records).where(_r.dataset_id == dataset_id)) or 0
                c.execute(v.datasets.update().where(_d.id == dataset.id).values(profile=_profile(left)))
            return gone


def _evaluated(c: sa.Connection, ctx: Context, dataset_id: str, *, lock: bool = False) -> sa.Row[Any]:
    query = sa.select(v.datasets).where(_d.id == dataset_id, _d.workspace_id == ctx.workspace_id)
    row = c.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"Evaluation dataset with id {checks.shown(dataset_id)} not found.", param="dataset_id")
    return row


def _terms(order_by: Sequence[str], sqlite: bool) -> list[Term]:
    terms: list[Term] = []
    for order in parse_order(order_by, EVALUATION_DATASETS):
        if order.entity != "attribute" or order.key not in ("name", "created_time", "last_update_time"):
            raise Invalid("Evaluation datasets are ordered by name, created_time or last_update_time.", param="order_by")
        column = _COLUMNS[order.key]
        named = order.key == "name"
        terms.append(Term(text(column, sqlite=sqlite) if named else column, order.ascending, "string" if named else "number"))
    return [*(terms or [Term(_d.created_ms, False)]), Term(_d.id, False, "string")]


def _tags(given: Mapping[str, object]) -> dict[str, str]:
    tags = {key: value if isinstance(value, str) else str(value) for key, value in given.items() if value is not None}
    for key, value in tags.items():
        if not 0 < len(key) <= checks.MAX_KEY or "\x00" in key:
            raise Invalid(f"The key of a tag has 1 to {checks.MAX_KEY} characters; this one has {len(key)}.", param="tags")
        checks.value(value, checks.MAX_TAG, "tag", key)
    return tags


def _set_tags(c: sa.Connection, dataset_id: str, tags: Mapping[str, str]) -> None:
    maps.put(c, v.dataset_tags, dataset_id, tags)


def _join(c: sa.Connection, dataset_id: str, uids: Iterable[int]) -> None:
    rows = [{"dataset_id": dataset_id, "experiment_uid": uid} for uid in sorted(set(uids))]
    upsert(c, v.dataset_experiments, rows, key=["dataset_id", "experiment_uid"])


def _datasets(c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[EvaluationDataset]:
    tags = maps.read(c, v.dataset_tags, (row.id for row in rows))
    names = [name for name in EvaluationDataset.__struct_fields__ if name != "tags"]
    return [EvaluationDataset(**{name: getattr(row, name) for name in names}, tags=tags.get(row.id, {})) for row in rows]


def _digest(name: str, updated_ms: int) -> str:
    return hashlib.sha256(f"{name}:{updated_ms}".encode()).hexdigest()[:8]


def _hash(inputs: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _profile(records: int) -> str:
    # As MLflow's own server has it: of none left, `null`.
    return json.dumps({"num_records": records} if records else None)
