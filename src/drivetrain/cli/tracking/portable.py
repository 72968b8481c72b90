"""`drivetrain runs export` and `import`; `drivetrain import`: runs on the move, also from mlflow's stores and wandb's offline folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, note
from drivetrain.errors import Invalid

if TYPE_CHECKING:
    from drivetrain.portable.bring import Brought

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Bring in runs of other trackers, under the same ids.")


def export(
    names: Annotated[list[str], typer.Argument(metavar="[RUN_ID]... FOLDER", help="Runs, then the folder to write to.")],
    experiment: Annotated[str | None, typer.Option(help="All runs of this experiment (name or id).")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write runs into folders of open formats (JSON, Parquet, the files themselves), each named by its run's id.

    What was cut off goes on; a run that is there already is written again only if it has changed.
    """
    from drivetrain.portable import export as portable

    *runs, folder = names
    if not runs and experiment is None:
        raise Invalid("Name the runs to export, or an --experiment, and then the folder.")
    with connect(patience=60) as client, output.progress("Exporting", of_bytes=False) as bar:
        if experiment is not None:
            runs += portable.runs_of(client.connection, experiment)
        done = list(portable.export(client.connection, list(dict.fromkeys(runs)), Path(folder), progress=bar))
    found = [{"run_id": one.run_id, "folder": str(one.folder), "state": one.state} for one in done]
    lines = [(one.run_id, one.state, one.folder) for one in done]
    made = output.table("run", "state", "folder")
    output.show(found, lambda _: output.rows(made, lines, empty="The experiment has no run."), as_json=as_json)


def import_(
    folder: Annotated[Path, typer.Argument(help="An exported run, or a folder of such.", metavar="FOLDER")],
    as_json: JsonFlag = False,
) -> None:
    """Bring in what `drivetrain runs export` has written. Checksums are compared first; the same again changes nothing.

    A run keeps its id, unless that is taken in another workspace: then the tag drivetrain.imported.run_id tells the old one.
    """
    from drivetrain.portable.bring import bring
    from drivetrain.portable.exported import ExportedRun, find

    with connect(patience=60) as client, output.progress("Checking", of_bytes=False) as bar:
        runs = [ExportedRun(one) for one in find(folder)]
        for one in runs:
            one.verify(bar)
        # Parents before their children, whose tags name them.
        runs.sort(key=lambda one: int(one.record["start_ms"]))
        done = [bring(client.connection, one, progress=bar) for one in runs]
    _tell(done, as_json)


@app.command("mlflow")
def mlflow(
    path: Annotated[Path, typer.Argument(help="A folder mlruns, or a database mlflow.db.", metavar="PATH")],
    artifacts: Annotated[
        Path | None, typer.Option(help="The folder mlartifacts, where the store's server kept artifacts; default: beside PATH.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring in everything of an mlflow store: experiments, runs, metrics, artifacts, logged and registered models. mlflow is not needed.

    Runs keep their ids. The store is only read; the same again brings what is new.
    """
    from drivetrain.portable.mlflow import bring_store

    with connect(patience=60) as client, output.progress("Importing", of_bytes=False) as bar:
        found = bring_store(client.connection, path, artifacts=artifacts, progress=bar)
    _tell(found.runs, as_json, found.warnings, found.versions)


@app.command("wandb")
def wandb(
    path: Annotated[Path, typer.Argument(help="A folder offline-run-…, or one that holds such, as wandb.", metavar="PATH")],
    project: Annotated[str | None, typer.Option(help="The project to put the runs into, in place of their own.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring in wandb's offline runs, as `wandb sync` would; wandb is not needed. A run that was cut off by a crash is read to its end."""
    from drivetrain.portable.wandb import bring_runs

    with connect(patience=60) as client, output.progress("Importing", of_bytes=False) as bar:
        done = list(bring_runs(client, path, project=project, progress=bar))
    _tell(done, as_json)


def _tell(done: Sequence[Brought], as_json: bool, warnings: Iterable[str] = (), versions: Sequence[str] = ()) -> None:
    said = [*warnings, *(f"{one.name}: {text}" for one in done for text in one.warnings)]
    runs = [{"source": one.source_id, "run_id": one.run_id, "name": one.name, "state": one.state} for one in done]
    lines = [(one.run_id, one.name, one.state, "" if one.source_id == one.run_id else one.source_id) for one in done]
    made = output.table("run", "name", "state", "was")
    found = {"runs": runs, "versions": list(versions), "warnings": said}
    output.show(found, lambda _: output.rows(made, lines, empty="There is no run to import."), as_json=as_json)
    for text in said:
        note(f"warning: {text}")
