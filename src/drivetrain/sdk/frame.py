"""Runs and their histories as frames of polars or pandas, whichever is there."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Literal

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
    rows: list[Json] = []
    token: str | None = None
    with Client() as client:
        while len(rows) < limit:
            asked = {"filter": filter, "order_by": orders, "experiment": experiment, "limit": min(limit - len(rows), 1000), "token": token}
            page = client.connection.json("GET", "/api/v1/runs", params=asked)
            rows += [_row(one) for one in page["runs"]]
            token = page["token"]
            if not token:
                break
    return frame(rows, to)


def history(run_id: str, key: str, *, to: To | None = None) -> Any:
    """The points of a metric: step, timestamp_ms, value."""
    rows: list[Json] = []
    token: str | None = None
    with Client() as client:
        while True:
            page = client.connection.json("GET", f"/api/v1/runs/{run_id}/metrics/{key}", params={"token": token})
            rows += [{"step": step, "timestamp_ms": time, "value": float(value)} for step, time, value in page["points"]]
            token = page["token"]
            if not token:
                return frame(rows, to)


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


def _row(run: Json) -> Json:
    row = {key: value for key, value in run.items() if not isinstance(value, dict)}
    for group in ("params", "metrics", "tags"):
        values = run.get(group) or {}
        row |= {f"{group}.{key}": float(value) if group == "metrics" else value for key, value in values.items()}
    return row
