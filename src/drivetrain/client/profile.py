"""Logging what training data look like, with the run that a model comes from: what drift is measured against later."""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec
from msgspec import Struct

from drivetrain.client.client import Client
from drivetrain.client.push import segment
from drivetrain.errors import Invalid
from drivetrain.profiles.build import profile
from drivetrain.profiles.calibration import calibrate, confidence_of
from drivetrain.profiles.model import FILE


class LoggedProfile(Struct, frozen=True, kw_only=True):
    """The profile of so many rows and columns, at a path of a run's artifacts."""

    run_id: str
    path: str
    rows: int
    columns: int


def log_profile(
    frame: Any,
    *,
    target: str | None = None,
    run_id: str | None = None,
    probabilities: Any = None,
    truth: Any = None,
    client: Client | None = None,
) -> LoggedProfile:
    """Log the profile of training data with a run; models of the run are then watched for drift against it, by themselves.

        with mlflow.start_run():
            drivetrain.log_profile(train, target="label")     # a polars, pandas or pyarrow frame, or a 2-D array
            mlflow.sklearn.log_model(model, …, registered_model_name="digits")

    The profile holds sketches, counts of categories and common words, no rows. `target`: the column that the model predicts. `run_id`: by
    default the active run of mlflow, else MLFLOW_RUN_ID. `probabilities` (rows × classes) that the model gave rows it was not trained on,
    and the numbers of their right classes, `truth`: with them, the share of right answers is estimated live before labels come. Raises
    `Invalid` where there is no run, or for what is no table.
    """
    run = run_id or _active_run()
    if not run:
        raise Invalid("Which run? Call log_profile() within mlflow.start_run(), or give it run_id=…", param="run_id")
    try:
        made = profile(frame, target=target, source=f"the training data of run {run}")
        if probabilities is not None:
            if truth is None:
                raise ValueError("`truth`, the right class of each row, goes with `probabilities`")
            made.calibration = calibrate(*confidence_of(probabilities, truth))
    except ValueError as error:
        raise Invalid(f"This cannot be profiled: {error}.", param="frame") from error
    whole = client or _client()
    try:
        whole.connection.send("PUT", f"/api/v1/runs/{segment(run)}/artifacts/{FILE}", content=iter([msgspec.json.encode(made)]))
    finally:
        if client is None:
            whole.close()
    return LoggedProfile(run_id=run, path=FILE, rows=made.rows, columns=len(made.columns))


def _active_run() -> str:
    mlflow = sys.modules.get("mlflow")
    active = mlflow.active_run() if mlflow is not None and hasattr(mlflow, "active_run") else None
    return str(active.info.run_id) if active is not None else os.environ.get("MLFLOW_RUN_ID", "")


def _client() -> Client:
    """A client of the server that mlflow logs to, where it logs to one of ours; else of the one that clients find."""
    mlflow = sys.modules.get("mlflow")
    at = str(mlflow.get_tracking_uri()) if mlflow is not None and hasattr(mlflow, "get_tracking_uri") else ""
    at = (at or os.environ.get("MLFLOW_TRACKING_URI", "")).rstrip("/")
    if at.startswith(("http://", "https://")) and at.endswith("/mlflow"):
        return Client(at.removesuffix("/mlflow"), os.environ.get("MLFLOW_TRACKING_TOKEN"))
    return Client()
