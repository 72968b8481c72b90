"""`drivetrain profile`: log what training data look like with a run that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, console, note
from drivetrain.errors import Invalid

if TYPE_CHECKING:
    from drivetrain.client.profile import LoggedProfile


def profile(
    file: Annotated[Path, typer.Argument(help="The training data: .parquet, .csv, .jsonl or .npy.", exists=True, dir_okay=False)],
    run: Annotated[str, typer.Option("--run", help="The run that trained on them.")],
    target: Annotated[str | None, typer.Option(help="The column that the model predicts.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Log the profile of training data with a run, so that its models are watched for drift.

    In a training script, one line does the same: `drivetrain.log_profile(frame, target="label")`
    """
    from drivetrain.client.profile import log_profile

    with connect() as client:
        logged = log_profile(_read(file), target=target, run_id=run, client=client)
    output.show(logged, _logged, as_json=as_json)


def _logged(found: LoggedProfile) -> None:
    console().print(f"{found.columns} columns of {found.rows:,} rows are the reference of the models of run {found.run_id}.")
    note("[dim]Sketches and counts were sent, no rows.[/]")


def _read(file: Path) -> Any:
    import polars as pl

    kind = file.suffix.casefold()
    if kind == ".parquet":
        return pl.read_parquet(file)
    if kind == ".csv":
        return pl.read_csv(file, infer_schema_length=10_000)
    if kind in (".jsonl", ".ndjson"):
        return pl.read_ndjson(file)
    if kind == ".npy":
        import numpy as np

        return np.load(file, allow_pickle=False)
    raise Invalid(f"{file.name}: .parquet, .csv, .jsonl and .npy can be read.", param="file")
