"""Logged models: what a run made, with files of its own, registered or not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Thing
from drivetrain.search.conditions import And, Condition
from drivetrain.search.grammar import parse_filter, parse_order
from drivetrain.search.languages import LOGGED_MODELS
from drivetrain.search.paging import Term, page
from drivetrain.search.sql import Column, Entries, Fields, Numbers, rows, text, where
from drivetrain.store import maps
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, chunked
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.experiments import check_limit
from drivetrain.tracking.finders import ensure_default, experiment_row, location, model_row, run_row, unpacked
from drivetrain.tracking.model import MODEL_STATUSES, LoggedModel, Metric, Page
from drivetrain.tracking.runs.names import random_name

MAX_MODELS = 1000

_l = t.logged_models.c
_ATTRIBUTES: dict[str, Any] = {
    "name": _l.name,
    "model_id": _l.id,
    "model_type": _l.model_type,
    "status": _l.status,
    "source_run_id": _l.source_run_id,
    "creation_timestamp": _l.created_ms,
    "last_updated_timestamp": _l.updated_ms,
    "experiment_id": sa.cast(t.experiments.c.number, sa.String),
}
_MAPS = {"param": t.logged_model_params, "tag": t.logged_model_tags}


@dataclass(frozen=True, slots=True)
class LoggedModels:
    db: Database

    def create(
        self,
        ctx: Context,
        experiment_id: str,
        *,
        name: str | None = None,
        model_type: str = "",
        source_run_id: str | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> LoggedModel:
        """Begin a logged model: its status is PENDING until `finalize_model`."""
        ctx.require(Scope.write)
        name = checks.name(name or random_name(), "a logged model")
        if any(letter in name for letter in "/:.%\"'") or len(model_type) > 500:
            raise Invalid(
                f"The name of a logged model must not contain '/', ':', '.', '%' or quotes; this one is {checks.shown(name)}.", param="name"
            )
        checks.params(params or {})
        checks.tags(tags or {})
        ensure_default(self.db, ctx, experiment_id)
        model_id = f"m-{uuid7()}"
        now = now_ms()
        with self.db.write() as c:
            experiment = experiment_row(c, ctx, experiment_id, writable=True)
            if source_run_id:
                run_row(c, ctx, source_run_id)
            row = {
                "id": model_id,
                "workspace_id": ctx.workspace_id,
                "experiment_uid": experiment.uid,
                "name": name,
                "status": "PENDING",
                "status_message": "",
                "model_type": model_type,
                "source_run_id": source_run_id or None,
                "lifecycle": "active",
                "created_ms": now,
                "updated_ms": now,
            }
            c.execute(t.logged_models.insert().values(**row))
            if source_run_id:
                lineage.link(c, ctx, Thing("run", source_run_id), "made", Thing("model", model_id))
            for table, entries in ((t.logged_model_params, params), (t.logged_model_tags, tags)):
                maps.put(c, table, model_id, entries or {})
            return _models(c, [model_row(c, ctx, model_id)])[0]

    def get(self, ctx: Context, model_id: str, *, deleted: bool = False) -> LoggedModel:
        """`deleted`: it may be one that was deleted."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            return _models(c, [model_row(c, ctx, model_id, deleted=deleted)])[0]

    def finalize(self, ctx: Context, model_id: str, status: str, message: str = "") -> LoggedModel:
        ctx.require(Scope.write)
        if status not in MODEL_STATUSES:
            raise Invalid(f"{status!r} is no status of a logged model: use one of {', '.join(MODEL_STATUSES)}.", param="status")
        with self.db.write() as c:
            model_row(c, ctx, model_id)
            values = {"status": status, "status_message": message[:5000], "updated_ms": now_ms()}
            c.execute(t.logged_models.update().where(_l.id == model_id).values(**values))
            return _models(c, [model_row(c, ctx, model_id)])[0]

    def delete(self, ctx: Context, model_id: str) -> None:
        """Hide a logged model; once more changes nothing. Versions registered from it keep their files."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            model_row(c, ctx, model_id, deleted=True)
            mine = t.logged_models.update().where(_l.id == model_id, _l.lifecycle == "active")
            c.execute(mine.values(lifecycle="deleted", updated_ms=now_ms()))

    def set_tags(self, ctx: Context, model_id: str, tags: Mapping[str, str]) -> LoggedModel:
        ctx.require(Scope.write)
        checks.tags(tags)
        with self.db.write() as c:
            model_row(c, ctx, model_id)
            maps.put(c, t.logged_model_tags, model_id, tags)
            return _models(c, [model_row(c, ctx, model_id)])[0]

    def delete_tag(self, ctx: Context, model_id: str, key: str) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            model_row(c, ctx, model_id)
            if not maps.drop(c, t.logged_model_tags, model_id, key):
                raise NotFound(f"The logged model {model_id} has no tag {checks.shown(key)}.", param="key")

    def log_params(self, ctx: Context, model_id: str, params: Mapping[str, str]) -> None:
        """Params of a model are written once, as those of a run."""
        ctx.require(Scope.write)
        checks.params(params)
        with self.db.write() as c:
            model_row(c, ctx, model_id)
            old = maps.read(c, t.logged_model_params, [model_id]).get(model_id, {})
            for key, value in params.items():
                if old.get(key, value) != value:
                    raise Invalid(f"Changing param values is not allowed: {key!r} is {checks.shown(old[key])} already.", param=key)
            maps.put(c, t.logged_model_params, model_id, params, keep=True)

    def of_run(self, ctx: Context, run_id: str) -> list[LoggedModel]:
        """The models that the run made, the oldest first."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            query = sa.select(t.logged_models).where(_l.source_run_id == run_id, _l.lifecycle == "active")
            return _models(c, c.execute(query.order_by(_l.created_ms, _l.id)).all())

    def search(
        self,
        ctx: Context,
        experiment_ids: Sequence[str],
        *,
        filter: str | None = None,  # noqa: A002  the word of every client
        datasets: Sequence[tuple[str, str | None]] = (),
        order_by: Sequence[tuple[str, bool]] = (),
        limit: int = 100,
        token: str | None = None,
    ) -> Page[LoggedModel]:
        """Logged models of the experiments.

        `datasets` (name, digest or None for any) narrow which measurements a condition on a metric means; without such a condition, they
        leave the models that were measured on one of them.
        """
        ctx.require(Scope.read)
        check_limit(limit, MAX_MODELS)
        sqlite = self.db.kind == "sqlite"
        numbers = [int(one) for one in experiment_ids if one.isascii() and one.isdigit() and len(one) < 10][:500]
        e = t.experiments.c
        query = sa.select(t.logged_models).join(t.experiments, e.uid == _l.experiment_uid)
        query = query.where(_l.workspace_id == ctx.workspace_id, _l.lifecycle == "active", e.number.in_(numbers))
        conditions = parse_filter(filter, LOGGED_MODELS)
        if datasets and not any(condition.entity == "metric" for condition in conditions):
            k = t.logged_model_metrics
            query = query.where(rows(k, k.c.model_id == _l.id, _measured_on(datasets)).exists())
        query = query.where(where(And([_plain(one) for one in conditions]), _fields(datasets), sqlite=sqlite))
        terms: list[Term] = []
        for written, ascending in order_by:
            (order,) = parse_order([written], LOGGED_MODELS)
            terms += _terms(order.entity, order.key, ascending, sqlite)
        terms += [Term(_l.created_ms, False), Term(_l.id, True, "string")]
        with self.db.read() as c:
            found, more = page(c, query, terms, limit, token)
            return Page(_models(c, found), more)


def _plain(condition: Condition) -> Condition:
    """Clients write the status as LOGGED_MODEL_READY or READY."""
    if condition.key == "status" and isinstance(condition.value, str):
        plain = condition.value.removeprefix("LOGGED_MODEL_").removeprefix("UPLOAD_")
        return Condition(condition.entity, condition.key, condition.op, plain)
    return condition


def _measured_on(datasets: Sequence[tuple[str, str | None]]) -> sa.ColumnElement[bool]:
    k = t.logged_model_metrics.c
    return sa.or_(*(sa.and_(k.dataset_name == name, sa.true() if d is None else k.dataset_digest == d) for name, d in datasets))


def _fields(datasets: Sequence[tuple[str, str | None]]) -> Fields:
    """Of a query that is joined with `experiments`."""
    k = t.logged_model_metrics
    return {
        "attribute": {key: Column(column) for key, column in _ATTRIBUTES.items()},
        "metric": Numbers(k, k.c.model_id, _l.id, _measured_on(datasets) if datasets else None),
        **{entity: Entries(table, table.c.model_id, _l.id) for entity, table in _MAPS.items()},
    }


def _terms(entity: str, key: str, ascending: bool, sqlite: bool) -> list[Term]:
    if entity == "attribute" and key in ("creation_timestamp", "last_updated_timestamp"):
        return [Term(_ATTRIBUTES[key], ascending)]
    if entity == "attribute" and key in _ATTRIBUTES:
        return [Term(text(sa.func.coalesce(_ATTRIBUTES[key], ""), sqlite=sqlite), ascending, "string")]
    if entity == "metric":
        k = t.logged_model_metrics.c
        best = sa.func.max if not ascending else sa.func.min
        value = sa.select(best(k.value)).where(k.model_id == _l.id, k.key == key, k.nan == 0).scalar_subquery()
        return [Term(sa.case((value.is_(None), 1), else_=0)), Term(sa.func.coalesce(value, 0.0), ascending)]
    if entity in _MAPS:
        table = _MAPS[entity].c
        value = sa.select(table.value).where(table.model_id == _l.id, table.key == key).scalar_subquery()
        return [
            Term(sa.case((value.is_(None), 1), else_=0)),
            Term(text(sa.func.coalesce(value, ""), sqlite=sqlite), ascending, "string"),
        ]
    raise Invalid(f"Logged models cannot be ordered by {key!r}.", param="order_by")


def _models(c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[LoggedModel]:
    params, tags = (maps.read(c, table, (row.id for row in rows)) for table in (t.logged_model_params, t.logged_model_tags))
    metrics: dict[str, list[Metric]] = defaultdict(list)
    k, e = t.logged_model_metrics.c, t.experiments.c
    where: dict[int, sa.Row[Any]] = {}
    for some in {row.experiment_uid for row in rows}:
        where[some] = c.execute(sa.select(t.experiments).where(e.uid == some)).one()
    for ids in chunked(row.id for row in rows):
        for row in c.execute(sa.select(t.logged_model_metrics).where(k.model_id.in_(ids)).order_by(k.model_id, k.key, k.run_id)):
            about = (row.dataset_name, row.dataset_digest) if row.dataset_name else None
            value = unpacked(row.nan, row.value)
            metrics[row.model_id].append(Metric(row.key, value, row.timestamp_ms, row.step, row.model_id, about, row.run_id))
    return [
        LoggedModel(
            id=row.id,
            workspace_id=row.workspace_id,
            experiment_id=str(where[row.experiment_uid].number),
            name=row.name,
            status=row.status,
            status_message=row.status_message,
            model_type=row.model_type,
            source_run_id=row.source_run_id,
            artifact_uri=f"{location(where[row.experiment_uid], where[row.experiment_uid].number)}/models/{row.id}/artifacts",
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            params=params.get(row.id, {}),
            tags=tags.get(row.id, {}),
            metrics=metrics.get(row.id, ()),
        )
        for row in rows
    ]
