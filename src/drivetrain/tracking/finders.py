"""What all of tracking's verbs share: finding rows of the caller's workspace, and the forms of stored values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeVar

import sqlalchemy as sa

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, chunked, upsert
from drivetrain.tracking import tables as t
from drivetrain.tracking.checks import shown

T = TypeVar("T")
DEFAULT = "Default"
_RUN = sa.select(t.runs).where(t.runs.c.id == sa.bindparam("run"), t.runs.c.workspace_id == sa.bindparam("workspace"))


def experiment_row(c: sa.Connection, ctx: Context, experiment_id: str, *, writable: bool = False) -> sa.Row[Any]:
    """The experiment's row. "0" exists in every workspace; its row is made at the first write."""
    e = t.experiments.c
    row = None
    if experiment_id.isascii() and experiment_id.isdigit() and len(experiment_id) < 10:
        query = sa.select(t.experiments).where(e.workspace_id == ctx.workspace_id, e.number == int(experiment_id))
        row = c.execute(query).one_or_none()
        if row is None and int(experiment_id) == 0:
            row = _default(c, ctx) if writable else None
    if row is None:
        raise NotFound(f"There is no experiment with the id {shown(experiment_id)} in this workspace.", param="experiment_id")
    if writable and row.lifecycle != "active":
        raise Invalid(f"The experiment {row.name!r} ({experiment_id}) is deleted: restore it before writing to it.")
    return row


def ensure_default(db: Database, ctx: Context, *experiment_ids: str) -> None:
    """Make the workspace's experiment "0" if it is not there yet. With `experiment_ids`: only if it is one of them."""
    if experiment_ids and "0" not in experiment_ids:
        return
    e = t.experiments.c
    with db.read() as c:
        if c.scalar(sa.select(e.uid).where(e.workspace_id == ctx.workspace_id, e.number == 0)) is not None:
            return
    with db.write() as c:
        _default(c, ctx)


def _default(c: sa.Connection, ctx: Context) -> sa.Row[Any]:
    now = now_ms()
    values = {"workspace_id": ctx.workspace_id, "number": 0, "name": DEFAULT, "lifecycle": "active", "artifact_location": ""}
    upsert(c, t.experiments, [values | {"created_ms": now, "updated_ms": now}])
    e = t.experiments.c
    return c.execute(sa.select(t.experiments).where(e.workspace_id == ctx.workspace_id, e.number == 0)).one()


def run_row(c: sa.Connection, ctx: Context, run_id: str, *, writable: bool = False) -> sa.Row[Any]:
    """The run's row. Raises `NotFound`, and `Invalid` for a deleted one that is to be written to."""
    row = c.execute(_RUN, {"run": run_id, "workspace": ctx.workspace_id}).one_or_none()
    if row is None:
        raise no_run(run_id)
    if writable and row.lifecycle != "active":
        raise deleted_run(run_id)
    return row


def model_row(c: sa.Connection, ctx: Context, model_id: str, *, deleted: bool = False) -> sa.Row[Any]:
    """The logged model's row. Raises `NotFound`, also for a deleted one unless it may be that (`deleted`)."""
    m = t.logged_models.c
    query = sa.select(t.logged_models).where(m.id == model_id, m.workspace_id == ctx.workspace_id)
    row = c.execute(query).one_or_none()
    if row is None or (row.lifecycle != "active" and not deleted):
        raise NotFound(f"There is no logged model {shown(model_id)} in this workspace.", param="model_id")
    return row


def no_run(run_id: str) -> NotFound:
    return NotFound(f"There is no run {shown(run_id)} in this workspace.", param="run_id")


def deleted_run(run_id: str) -> Invalid:
    return Invalid(f"The run {run_id} is deleted: restore it before writing to it.", param="run_id")


def packed(value: float) -> tuple[int, float]:
    """(nan, value) as it is stored."""
    return (1, 0.0) if math.isnan(value) else (0, float(value))


def unpacked(nan: int, value: float) -> float:
    return math.nan if nan else value


def location(row: Any, number: int) -> str:
    """Where an experiment's artifacts are, in the client's terms. `row` has an `artifact_location`."""
    return row.artifact_location or f"mlflow-artifacts:/{number}"


def experiment_uids(c: sa.Connection, ctx: Context, experiment_ids: Iterable[str], *, active: bool = False) -> list[int]:
    """The rows of these experiments of the workspace, in order; those that are not there have none. `active`: nor have deleted ones."""
    e = t.experiments.c
    numbers = sorted({int(one) for one in experiment_ids if one.isascii() and one.isdigit() and len(one) < 10})
    found: list[int] = []
    for some in chunked(numbers):
        mine = sa.select(e.uid).where(e.workspace_id == ctx.workspace_id, e.number.in_(some))
        found += c.scalars(mine.where(e.lifecycle == "active") if active else mine)
    return sorted(found)
