"""Rows to runs: reads many runs with all that hangs on them in a fixed number of queries, none of which touches a metric's history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.store import maps
from drivetrain.store.sql import chunked, tuples
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import location, unpacked
from drivetrain.tracking.model import PURGING, Dataset, Input, Metric, ModelLink, Run


def runs(c: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Run]:
    """`rows` are whole rows of the table `runs`; the order stays."""
    where = _experiments(c, {row.experiment_uid for row in rows})
    params, tags = (maps.read(c, table, (row.id for row in rows)) for table in (t.params, t.run_tags))
    metrics: dict[str, dict[str, Metric]] = defaultdict(dict)
    inputs: dict[str, list[Input]] = defaultdict(list)
    models: dict[str, list[ModelLink]] = defaultdict(list)
    m, l = t.latest_metrics.c, t.run_models.c  # noqa: E741
    i, d = t.run_inputs.c, t.datasets.c
    for ids in chunked(row.id for row in rows):
        latest = sa.select(m.run_id, m.key, m.nan, m.value, m.timestamp_ms, m.step).where(m.run_id.in_(ids))
        for run_id, key, nan, value, timestamp_ms, step in tuples(c, latest):
            metrics[run_id][key] = Metric(key, unpacked(nan, value), timestamp_ms, step)
        used = sa.select(i.run_id, i.tags, t.datasets).join(t.datasets, d.id == i.dataset_id).where(i.run_id.in_(ids))
        for row in c.execute(used.order_by(i.run_id, i.position)):
            inputs[row.run_id].append(Input(dataset(row), row.tags))
        linked = sa.select(l.run_id, l.model_id, l.role, l.step).where(l.run_id.in_(ids)).order_by(l.run_id, l.step, l.model_id)
        for run_id, model_id, role, step in c.execute(linked):
            models[run_id].append(ModelLink(model_id, role, step))
    found: list[Run] = []
    for row in rows:
        number, root = where[row.experiment_uid]
        run = Run(
            id=row.id,
            workspace_id=row.workspace_id,
            experiment_id=str(number),
            name=row.name,
            user=row.user_name,
            status=row.status,
            lifecycle=lived(row),
            start_ms=row.start_ms,
            end_ms=row.end_ms,
            artifact_uri=f"{root}/{row.id}/artifacts",
            params=params.get(row.id, {}),
            tags=tags.get(row.id, {}),
            metrics=metrics.get(row.id, {}),
            inputs=inputs.get(row.id, ()),
            models=models.get(row.id, ()),
        )
        found.append(run)
    return found


def run_info(c: sa.Connection, row: sa.Row[Any]) -> Run:
    """The run without what hangs on it."""
    number, root = _experiments(c, {row.experiment_uid})[row.experiment_uid]
    return Run(
        id=row.id,
        workspace_id=row.workspace_id,
        experiment_id=str(number),
        name=row.name,
        user=row.user_name,
        status=row.status,
        lifecycle=lived(row),
        start_ms=row.start_ms,
        end_ms=row.end_ms,
        artifact_uri=f"{root}/{row.id}/artifacts",
    )


def lived(row: sa.Row[Any]) -> str:
    """The stage of life that clients see."""
    return "deleted" if row.lifecycle == PURGING else str(row.lifecycle)


def dataset(row: sa.Row[Any]) -> Dataset:
    return Dataset(row.name, row.digest, row.source_type, row.source, row.schema, row.profile, row.id)


def _experiments(c: sa.Connection, uids: set[int]) -> dict[int, tuple[int, str]]:
    """uid → (number, artifact location)."""
    e = t.experiments.c
    rows = c.execute(sa.select(e.uid, e.number, e.artifact_location).where(e.uid.in_(sorted(uids)))) if uids else ()
    return {row.uid: (row.number, location(row, row.number)) for row in rows}
