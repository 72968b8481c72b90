"""Runs as they come in from an export or from another tracker: exactly as they were there, under the same id if that is free.

An import is `begin_run`, any number of `add`, files by the ordinary ways, models, and `finish_run`. Each part can be sent again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Thing
from drivetrain.store import maps
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert
from drivetrain.tags import DATA_CONTEXT, PARENT, RUN_NAME
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.experiments import Experiments
from drivetrain.tracking.finders import deleted_run, experiment_row, no_run, packed, run_row
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.history.entries import MAX_TEXT
from drivetrain.tracking.history.reporting import STATES
from drivetrain.tracking.metrics import points
from drivetrain.tracking.metrics.summaries import Packed
from drivetrain.tracking.model import MODEL_STATUSES, RUN_STATUSES, Dataset, Line, Series
from drivetrain.tracking.runs.inputs import DID, ensure_dataset
from drivetrain.tracking.transfer.records import ModelRecord, RunRecord
from drivetrain.tracking.transfer.tables import imports
from drivetrain.tracking.values import Json, parse_object, stored

WAS_RUN = "drivetrain.imported.run_id"
WAS_MODEL = "drivetrain.imported.model_id"
_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"m-[0-9a-f]{32}")
_i = imports.c


@dataclass(frozen=True, slots=True)
class Imports:
    db: Database
    experiments: Experiments

    def begin_run(self, ctx: Context, record: RunRecord, digest: str) -> tuple[str, str]:
        """(its id here, what that is): `new`; `resumed` after an import that did not end, or of more than last time; `unchanged`; or
        `exists` for a run that was always here. A run whose id is another workspace's gets a new one, and its old one as a tag."""
        ctx.require(Scope.write)
        _check_run(record)
        _check_digest(digest)
        experiment = self._experiment_of(ctx, record.experiment.name, record.experiment.tags)
        with self.db.write() as c:
            target, state = _target(c, ctx, f"run:{record.id}", digest, t.runs, record.id, uuid7())
            if state in ("unchanged", "exists"):
                return target, state
            tags = dict(record.tags)
            if target != record.id:
                tags[WAS_RUN] = record.id
            if parent := tags.get(PARENT):
                tags[PARENT] = _mapped(c, ctx, f"run:{parent}") or parent
            row = {
                "id": target,
                "workspace_id": ctx.workspace_id,
                "experiment_uid": experiment_row(c, ctx, experiment, writable=True).uid,
                "name": record.name,
                "user_name": record.user,
                "status": record.status,
                "lifecycle": "active",
                "start_ms": record.start_ms,
                "end_ms": record.end_ms,
                "created_ms": now_ms(),
            }
            upsert(c, t.runs, [row], key=["id"], update=["name", "user_name", "status", "lifecycle", "start_ms", "end_ms"])
            maps.put(c, t.run_tags, target, tags)
            maps.put(c, t.params, target, record.params)
            for position, one in enumerate(record.inputs):
                dataset = Dataset(one.name, one.digest, one.source_type, one.source, one.schema, one.profile)
                dataset_id = ensure_dataset(c, ctx, row["experiment_uid"], dataset)
                used = {
                    "run_id": target,
                    "dataset_id": dataset_id,
                    "context": one.tags.get(DATA_CONTEXT, ""),
                    "tags": one.tags,
                    "position": position,
                }
                upsert(c, t.run_inputs, [used], key=["run_id", "dataset_id"], update=["context", "tags", "position"])
                lineage.link(c, ctx, Thing("run", target), "used", Thing("dataset", dataset_id))
            for link in record.models:
                model = _mapped(c, ctx, f"model:{link.id}") or link.id
                linked = {"run_id": target, "model_id": model, "role": link.role, "step": link.step}
                upsert(c, t.run_models, [linked], key=["run_id", "model_id", "role"], update=["step"])
                lineage.link(c, ctx, Thing("run", target), DID[link.role], Thing("model", model))
            if record.client is not None:
                _put_client(c, record, target, row["experiment_uid"])
        return target, state

    def add(
        self, ctx: Context, run_id: str, *, series: Sequence[Series] = (), rows: Sequence[tuple[int, str]] = (), lines: Sequence[Line] = ()
    ) -> None:
        """Points, rows and console lines as they are; a row or line that was there is replaced."""
        ctx.require(Scope.write)
        found = _points(series)
        for number in (*(step for step, _ in rows), *(one.number for one in lines)):
            if checks.int64(number, "step") < 0:
                raise Invalid("Rows and lines are counted from 0.", param="rows")
        for _, text in rows:
            parse_object(text, "row")
        bodies = [{"run_id": run_id, "step": step, "body": text} for step, text in dict(rows).items()]
        texts = [
            {"run_id": run_id, "number": one.number, "level": one.level[:16], "time": one.time[:40], "text": _line(one.text)}
            for one in {one.number: one for one in lines}.values()
        ]

        def work(c: sa.Connection) -> DrivetrainError | None:
            run = c.execute(sa.select(t.runs).where(t.runs.c.id == run_id, t.runs.c.workspace_id == ctx.workspace_id)).one_or_none()
            if run is None:
                return no_run(run_id)
            if run.lifecycle != "active":
                return deleted_run(run_id)
            if found:
                points.write(c, run_id, run.experiment_uid, found)
            upsert(c, d.run_rows, bodies, key=["run_id", "step"], update=["body"])
            upsert(c, d.run_lines, texts, key=["run_id", "number"], update=["level", "time", "text"])
            return None

        if (error := self.db.group_write(work)) is not None:
            raise error

    def finish_run(self, ctx: Context, source: str, digest: str, lifecycle: str) -> None:
        """All of it is there: the same again will change nothing. `source` is the id where it came from."""
        ctx.require(Scope.write)
        _check_digest(digest)
        if lifecycle not in ("active", "deleted"):
            raise Invalid(f"{lifecycle!r} is no lifecycle of a run: active or deleted.", param="lifecycle")
        with self.db.write() as c:
            mine = sa.and_(_i.workspace_id == ctx.workspace_id, _i.source == f"run:{source}", _i.digest == digest)
            target = c.scalar(sa.select(_i.target).where(mine))
            if target is None:
                raise NotFound(f"No import of the run {checks.shown(source)} has begun.", param="run_id")
            c.execute(imports.update().where(mine).values(complete=True, updated_ms=now_ms()))
            gone = now_ms() if lifecycle == "deleted" else None
            c.execute(t.runs.update().where(t.runs.c.id == target).values(lifecycle=lifecycle, deleted_ms=gone))

    def mark(self, ctx: Context, source: str, run_id: str, digest: str, *, start_ms: int | None = None, end_ms: int | None = None) -> None:
        """Remember that a run has come from `source`, by way of another protocol, which knows no times of the past: those are set here."""
        ctx.require(Scope.write)
        _check_digest(digest)
        _check_text(source, 200, "source")
        times = {"start_ms": start_ms, "end_ms": end_ms}
        values = {name: checks.int64(time, "time") for name, time in times.items() if time is not None}
        with self.db.write() as c:
            run_row(c, ctx, run_id, writable=True)
            row = {"workspace_id": ctx.workspace_id, "source": source, "target": run_id, "digest": digest, "complete": True}
            changing = ["target", "digest", "complete", "updated_ms"]
            upsert(c, imports, [{**row, "updated_ms": now_ms()}], key=["workspace_id", "source"], update=changing)
            if values:
                c.execute(t.runs.update().where(t.runs.c.id == run_id).values(**values))

    def marked(self, ctx: Context, source: str) -> tuple[str, str]:
        """(run, digest) of an import that was marked, while its run is there. Raises `NotFound`."""
        ctx.require(Scope.read)
        r = t.runs.c
        mine = sa.select(_i.target, _i.digest).join(t.runs, r.id == _i.target)
        mine = mine.where(_i.workspace_id == ctx.workspace_id, _i.source == source, _i.complete, r.lifecycle == "active")
        with self.db.read() as c:
            row = c.execute(mine).one_or_none()
        if row is None:
            raise NotFound(f"Nothing was imported from {checks.shown(source)}.")
        return row.target, row.digest

    def model(self, ctx: Context, record: ModelRecord) -> str:
        """The logged model's id here: its own if that is free, else a new one, and its old one as a tag."""
        ctx.require(Scope.write)
        _check_model(record)
        experiment = self._experiment_of(ctx, record.experiment.name, record.experiment.tags)
        with self.db.write() as c:
            target, state = _target(c, ctx, f"model:{record.id}", "0" * 64, t.logged_models, record.id, f"m-{uuid7()}")
            if state == "exists":
                return target
            run = record.source_run_id
            row = {
                "id": target,
                "workspace_id": ctx.workspace_id,
                "experiment_uid": experiment_row(c, ctx, experiment, writable=True).uid,
                "name": record.name,
                "status": record.status,
                "status_message": record.status_message,
                "model_type": record.model_type,
                "source_run_id": (_mapped(c, ctx, f"run:{run}") or run) if run else None,
                "lifecycle": "active",
                "created_ms": record.created_ms,
                "updated_ms": record.updated_ms,
            }
            changing = ["name", "status", "status_message", "model_type", "source_run_id", "updated_ms"]
            upsert(c, t.logged_models, [row], key=["id"], update=changing)
            if target != record.id:
                lineage.rename(c, ctx, "model", record.id, target)
            if row["source_run_id"]:
                lineage.link(c, ctx, Thing("run", row["source_run_id"]), "made", Thing("model", target))
            tags = record.tags if target == record.id else {**record.tags, WAS_MODEL: record.id}
            maps.put(c, t.logged_model_tags, target, tags)
            maps.put(c, t.logged_model_params, target, record.params)
            if target != record.id:
                links = t.run_models.update().where(t.run_models.c.model_id == record.id)
                own = sa.select(t.runs.c.id).where(t.runs.c.workspace_id == ctx.workspace_id)
                c.execute(links.where(t.run_models.c.run_id.in_(own)).values(model_id=target))
            for one in record.metrics:
                nan, value = packed(float(one.value))
                names = ["model_id", "key", "run_id", "dataset_name", "dataset_digest"]
                point = {
                    "model_id": target,
                    "key": one.key,
                    "run_id": _mapped(c, ctx, f"run:{one.run_id}") or one.run_id,
                    "dataset_name": one.dataset_name,
                    "dataset_digest": one.dataset_digest,
                    "step": one.step,
                    "timestamp_ms": one.timestamp_ms,
                    "nan": nan,
                    "value": value,
                }
                upsert(c, t.logged_model_metrics, [point], key=names, update=["step", "timestamp_ms", "nan", "value"])
            return target

    def _experiment_of(self, ctx: Context, name: str, tags: Mapping[str, str]) -> str:
        """The id of the experiment of that name, made now with those tags if it is not there."""
        try:
            return self.experiments.find(ctx, name).id
        except NotFound:
            return self.experiments.create(ctx, name, tags=tags).id


def _target(c: sa.Connection, ctx: Context, source: str, digest: str, table: sa.Table, wanted: str, other: str) -> tuple[str, str]:
    mine = sa.and_(_i.workspace_id == ctx.workspace_id, _i.source == source)
    known = c.execute(sa.select(imports).where(mine)).one_or_none()
    if known is not None and c.scalar(sa.select(table.c.id).where(table.c.id == known.target)) is not None:
        if known.complete and known.digest == digest:
            return known.target, "unchanged"
        target, state = known.target, "resumed"
    else:
        owner = c.scalar(sa.select(table.c.workspace_id).where(table.c.id == wanted))
        if owner == ctx.workspace_id:
            return wanted, "exists"
        target, state = wanted if owner is None else other, "new"
    row = {
        "workspace_id": ctx.workspace_id,
        "source": source,
        "target": target,
        "digest": digest,
        "complete": False,
        "updated_ms": now_ms(),
    }
    upsert(c, imports, [row], key=["workspace_id", "source"], update=["target", "digest", "complete", "updated_ms"])
    return target, state


def _mapped(c: sa.Connection, ctx: Context, source: str) -> str | None:
    found: str | None = c.scalar(sa.select(_i.target).where(_i.workspace_id == ctx.workspace_id, _i.source == source))
    return found


def _put_client(c: sa.Connection, record: RunRecord, target: str, experiment_uid: int) -> None:
    said = record.client
    assert said is not None
    client_id = target if said.client_id == record.id else said.client_id
    o = d.run_details.c
    taken = sa.select(o.run_id).where(o.experiment_uid == experiment_uid, o.client_id == client_id, o.run_id != target)
    if c.scalar(taken) is not None:
        client_id = f"{client_id[:90]}~{target}"
    row = {
        "run_id": target,
        "experiment_uid": experiment_uid,
        "client_id": client_id,
        "sweep": said.sweep,
        "state": said.state,
        "config": _text(said.config, "config"),
        "private": _text(said.private, "private"),
        "summary": _text(said.summary, "summary"),
        "exit_code": said.exit_code,
        "stop_requested": said.stop_requested,
        "events": said.events,
        "heartbeat_ms": said.heartbeat_ms,
    }
    upsert(c, d.run_details, [row], key=["run_id"], update=[name for name in row if name not in ("run_id", "experiment_uid", "client_id")])


def _points(series: Iterable[Series]) -> dict[str, set[Packed]]:
    found: dict[str, set[Packed]] = {}
    for one in series:
        _check_key(one.key, "metric")
        if not len(one.steps) == len(one.times) == len(one.values):
            raise Invalid(f"The columns of {checks.shown(one.key)} differ in length.", param="series")
        for number in (min(one.steps, default=0), max(one.steps, default=0), min(one.times, default=0), max(one.times, default=0)):
            checks.int64(number, "step or time")
        try:
            values = [packed(float(value)) for value in one.values]
        except ValueError:
            raise Invalid(f"A value of {checks.shown(one.key)} is no number: NaN, Infinity and -Infinity are the only words.") from None
        found.setdefault(one.key, set()).update(
            (step, time, nan, value) for step, time, (nan, value) in zip(one.steps, one.times, values, strict=True)
        )
    return {key: mine for key, mine in found.items() if mine}


def _check_run(record: RunRecord) -> None:
    if not _RUN.fullmatch(record.id):
        raise Invalid(f"{checks.shown(record.id)} cannot be the id of a run: it has 32 lower-case hex digits.", param="id")
    if record.status not in RUN_STATUSES or record.lifecycle not in ("active", "deleted"):
        raise Invalid(f"The run's status {record.status!r} or lifecycle {record.lifecycle!r} is unknown.", param="status")
    checks.name(record.name, "a run", 250)
    _check_text(record.user, 256, "user")
    for number in (record.start_ms, record.end_ms or 0):
        checks.int64(number, "time")
    _check_map(record.params, checks.MAX_TAG, "param")
    _check_map(record.tags, checks.MAX_TAG, "tag")
    if record.tags.get(RUN_NAME, record.name) != record.name:
        record.tags[RUN_NAME] = record.name
    for one in record.inputs:
        if not (0 < len(one.name) <= 500 and 0 < len(one.digest) <= 64 and len(one.source_type) <= 64):
            raise Invalid("A dataset has a name of 1 to 500 characters, a digest of 1 to 64, and a type of 64 at most.", param="inputs")
        _check_map(one.tags, checks.MAX_TAG, "tag of a dataset")
    if any(link.role not in ("input", "output") or len(link.id) > 64 for link in record.models):
        raise Invalid("A model of a run is its input or its output.", param="models")
    if (said := record.client) is not None:
        bad = said.state not in STATES or not 0 < len(said.client_id) <= 128 or len(said.sweep or "") > 64
        if bad or (said.exit_code is not None and abs(said.exit_code) >= 1 << 31):
            raise Invalid("What the run's client said of it has a state, id, sweep or exit code that cannot be.", param="client")
        for number in (said.events, said.heartbeat_ms):
            checks.int64(number, "time")


def _check_model(record: ModelRecord) -> None:
    if not _MODEL.fullmatch(record.id):
        raise Invalid(f"{checks.shown(record.id)} cannot be the id of a logged model: it is m- and 32 hex digits.", param="id")
    if record.status not in MODEL_STATUSES:
        raise Invalid(f"{record.status!r} is no status of a logged model: use one of {', '.join(MODEL_STATUSES)}.", param="status")
    checks.name(record.name, "a logged model")
    _check_text(record.model_type, 500, "type")
    _check_text(record.status_message, 5000, "message")
    _check_text(record.source_run_id or "", 32, "run")
    _check_map(record.params, checks.MAX_TAG, "param")
    _check_map(record.tags, checks.MAX_TAG, "tag")
    for one in record.metrics:
        _check_key(one.key, "metric")
        for number in (one.step, one.timestamp_ms):
            checks.int64(number, "step or time")
        if isinstance(one.value, str) and one.value not in ("NaN", "Infinity", "-Infinity"):
            raise Invalid(f"{checks.shown(one.value)} is no value of a metric.", param="metrics")


def _check_map(values: Mapping[str, str], limit: int, what: str) -> None:
    for key, value in values.items():
        _check_key(key, what)
        checks.value(value, limit, what, key)


def _check_key(key: str, what: str) -> None:
    """Any text: other trackers take keys that this one's own clients could not use."""
    if not 0 < len(key) <= checks.MAX_KEY or "\x00" in key:
        raise Invalid(
            f"The key of a {what} has 1 to {checks.MAX_KEY} characters, and no NUL; this one is {checks.shown(key)}.", param="key"
        )


def _check_text(text: str, limit: int, what: str) -> None:
    if len(text) > limit or "\x00" in text:
        raise Invalid(f"The {what} has {limit} characters at most, and no NUL.", param=what)


def _check_digest(digest: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Invalid("The digest has 64 hex digits.", param="digest")


def _text(given: Json | str, what: str) -> str:
    return stored(parse_object(given, what) if isinstance(given, str) else given)


def _line(text: str) -> str:
    return text.replace("\x00", "")[:MAX_TEXT]
