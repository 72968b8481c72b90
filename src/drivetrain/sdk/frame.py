"""Runs and their histories as frames of polars or pandas, whichever is there."""

from __future__ import annotations

import importlib
import importlib.util
from itertools import islice
from typing import Any, Literal

from msgspec.structs import asdict

from drivetrain.answers.tracking import Run
from drivetrain.client.client import Client
from drivetrain.client.http import Json
from drivetrain.errors import Invalid

To = Literal["polars", "pandas", "dicts"]


def runs(
    filter: str | None = None,  # noqa: A002  the word of every client
    *,
    order_by: str | list[str] | None = None,
    experiment: str | None = None,
    limit: int = 1000,
    to: To | None = None,
) -> Any:
    """One row for each run: its fields, then `params.…`, `metrics.…` and `tags.…`. `filter` and `order_by` are as in mlflow."""
    orders = [order_by] if isinstance(order_by, str) else order_by
    with Client() as client:
        found = client.runs.each(experiment=experiment, filter=filter, order_by=orders or (), page=min(limit, 1000))
        rows = [_row(one) for one in islice(found, limit)]
    return frame(rows, to)


def history(run_id: str, key: str, *, to: To | None = None) -> Any:
    """The points of a metric: step, timestamp_ms, value."""
    with Client() as client:
        points = client.runs.history(run_id, key)
        return frame([{"step": step, "timestamp_ms": time, "value": float(value)} for step, time, value in points], to)


def frame(rows: list[Json], to: To | None) -> Any:
    if to is None:
        to = next((name for name in ("polars", "pandas") if importlib.util.find_spec(name)), "dicts")
    if to == "dicts":
        return rows
    if to not in ("polars", "pandas"):
        raise Invalid(f"to={to!r}: use 'polars', 'pandas' or 'dicts'.", param="to")
    if to == "polars":
        return importlib.import_module("polars").DataFrame(rows, infer_schema_length=None)
    return importlib.import_module("pandas").DataFrame(rows)


def _row(run: Run) -> Json:
    row = {name: value for name, value in asdict(run).items() if name not in ("params", "metrics", "tags")}
    row |= {f"params.{key}": value for key, value in run.params.items()}
    row |= {f"metrics.{key}": float(value) for key, value in run.metrics.items()}
    return row | {f"tags.{key}": value for key, value in run.tags.items()}
