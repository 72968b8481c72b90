"""Runs as they leave: the whole record, and every point, row and line in pages of a fixed order, so that a reader can go on anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.identity.model import Context, Scope
from drivetrain.search.tokens import from_token, to_token
from drivetrain.store.sql import Database, chunked, tuples
from drivetrain.tags import GIT_BRANCH, GIT_REPO
from drivetrain.tracking import tables as t
from drivetrain.tracking.artifacts import Artifacts
from drivetrain.tracking.experiments import Experiments, check_limit
from drivetrain.tracking.finders import run_row, unpacked
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.history.entries import SYSTEM
from drivetrain.tracking.history.reports import Reports
from drivetrain.tracking.metrics import points
from drivetrain.tracking.model import LoggedModel, Owner, Page, Series
from drivetrain.tracking.models.service import LoggedModels
from drivetrain.tracking.transfer.records import (
    ClientRecord,
    DatasetRecord,
    ExperimentRecord,
    LinkRecord,
    ModelMetricRecord,
    ModelRecord,
    RunRecord,
)
from drivetrain.tracking.values import Json, loaded
from drivetrain.words import spelled

MAX_POINTS = 100_000
_m = t.metrics.c


@dataclass(frozen=True, slots=True)
class Exports:
    db: Database
    reports: Reports
    experiments: Experiments
    models: LoggedModels
    artifacts: Artifacts

    def record(self, ctx: Context, run_id: str) -> Json:
        """All that is known of a run but its points, rows, lines and files' bytes; of those, how many there are. NaN may stand in it."""
        report = self.reports.get(ctx, run_id)
        run = report.run
        experiment = self.experiments.get(ctx, run.experiment_id)
        at = ExperimentRecord(experiment.name, dict(sorted(experiment.tags.items())))
        record = RunRecord(
            id=run.id,
            experiment=at,
            name=run.name,
            user=run.user,
            status=run.status,
            start_ms=run.start_ms,
            end_ms=run.end_ms,
            lifecycle=run.lifecycle,
            params=dict(sorted(run.params.items())),
            tags=dict(sorted(run.tags.items())),
            inputs=[
                DatasetRecord(i.name, i.digest, i.source_type, i.source, i.schema, i.profile, dict(one.tags))
                for one in run.inputs
                for i in (one.dataset,)
            ],
            models=[LinkRecord(one.model_id, one.role, one.step) for one in run.models],
            client=self._client(run.id),
        )
        tags = run.tags
        source = {
            "name": run.source,
            "git_commit": run.git_commit,
            "git_branch": tags.get(GIT_BRANCH),
            "git_repo": tags.get(GIT_REPO),
        }
        found: Json = msgspec.to_builtins(record)
        return found | {
            "source": source,
            "config": report.config,
            "summary": dict(sorted(report.summary.items())),
            "counts": self._counts(run_id),
            "artifacts": self._files(ctx, Owner.run, run_id),
            "logged_models": [self._model_record(ctx, one, at) for one in self.models.of_run(ctx, run_id)],
        }

    def points(self, ctx: Context, run_id: str, *, system: bool = False, limit: int = MAX_POINTS, token: str | None = None) -> Page[Series]:
        """Exactly `limit` points unless it is the end, ordered by key, step, time, value. `system`: the system metrics instead."""
        ctx.require(Scope.read)
        check_limit(limit, MAX_POINTS)
        key, *after = from_token(token, 5) if token else ("",)
        found: list[Series] = []
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            left = limit
            for name, series in _series(c, run_id, system=system):
                if name < key or left == 0:
                    continue
                query = sa.select(_m.step, _m.timestamp_ms, _m.nan, _m.value).where(_m.series_id == series)
                if name == key and after:
                    query = query.where(points.beyond(after))
                rows = tuples(c, query.order_by(_m.step, _m.timestamp_ms, _m.nan, _m.value).limit(left))
                if rows:
                    left -= len(rows)
                    found.append(_packed(name, rows))
                    key, after = name, list(rows[-1])
        return Page(found, to_token([key, *after]) if left == 0 else None)

    def rows(self, ctx: Context, run_id: str, *, after: int = -1, limit: int = 1000) -> list[tuple[int, str]]:
        """(step, JSON text of what is no number) of the rows after a step."""
        ctx.require(Scope.read)
        b = d.run_rows.c
        with self.db.read() as c:
            run_row(c, ctx, run_id)
            query = sa.select(b.step, b.body).where(b.run_id == run_id, b.step > after).order_by(b.step).limit(limit)
            return [(step, body) for step, body in tuples(c, query)]

    def _client(self, run_id: str) -> ClientRecord | None:
        with self.db.read() as c:
            row = c.execute(sa.select(d.run_details).where(d.run_details.c.run_id == run_id)).one_or_none()
        if row is None:
            return None
        return ClientRecord(
            client_id=row.client_id,
            state=row.state,
            sweep=row.sweep,
            config=loaded(row.config),
            private=loaded(row.private),
            summary=loaded(row.summary),
            exit_code=row.exit_code,
            stop_requested=bool(row.stop_requested),
            events=row.events,
            heartbeat_ms=row.heartbeat_ms,
        )

    def _counts(self, run_id: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        with self.db.read() as c:
            for name, system in (("points", False), ("system_points", True)):
                counts[name] = 0
                for some in chunked(n for _, n in _series(c, run_id, system=system)):
                    query = sa.select(sa.func.count()).select_from(t.metrics).where(_m.series_id.in_(some))
                    counts[name] += c.scalar(query) or 0
            for name, table in (("rows", d.run_rows), ("lines", d.run_lines)):
                counts[name] = c.scalar(sa.select(sa.func.count()).select_from(table).where(table.c.run_id == run_id)) or 0
        return counts

    def _files(self, ctx: Context, kind: Owner, owner: str) -> list[Json]:
        found = self.artifacts.manifest(ctx, kind, owner, "")
        return [{"path": path, "size": size, "sha256": sha256} for path, (sha256, size) in sorted(found.items())]

    def _model_record(self, ctx: Context, one: LoggedModel, at: ExperimentRecord) -> Json:
        record = ModelRecord(
            id=one.id,
            experiment=at,
            name=one.name,
            status=one.status,
            status_message=one.status_message,
            model_type=one.model_type,
            source_run_id=one.source_run_id,
            created_ms=one.created_ms,
            updated_ms=one.updated_ms,
            params=dict(sorted(one.params.items())),
            tags=dict(sorted(one.tags.items())),
            metrics=sorted(
                (
                    ModelMetricRecord(m.key, spelled(m.value), m.step, m.timestamp_ms, m.run_id or "", *(m.dataset or ("", "")))
                    for m in one.metrics
                ),
                key=lambda m: (m.key, m.run_id, m.dataset_name, m.dataset_digest),
            ),
        )
        found: Json = msgspec.to_builtins(record)
        return found | {"artifacts": self._files(ctx, Owner.model, one.id)}


def _series(c: sa.Connection, run_id: str, *, system: bool) -> list[tuple[str, int]]:
    """(key, id), in one order on every database."""
    m = t.latest_metrics.c
    found = tuples(c, sa.select(m.key, m.id).where(m.run_id == run_id))
    return sorted((key, n) for key, n in found if key.startswith(SYSTEM) == system)


def _packed(key: str, rows: list[tuple[Any, ...]]) -> Series:
    steps, times, nans, values = (list(column) for column in zip(*rows, strict=True))
    spelt = [spelled(unpacked(nan, value)) for nan, value in zip(nans, values, strict=True)]
    return Series(key, steps, times, spelt)
