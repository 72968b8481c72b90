"""`drivetrain runs`: what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago, console, emit

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

Experiment = Annotated[str | None, typer.Option(help="Only runs of this experiment (name or id).")]
Where = Annotated[str | None, typer.Option("--filter", help="As in mlflow: \"metrics.accuracy > 0.9 and params.seed = '7'\".")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")]
Deleted = Annotated[bool, typer.Option("--deleted", help="Those that were deleted, and can be restored.")]
RunIds = Annotated[list[str], typer.Argument(help="Ids of runs.", metavar="RUN_ID...")]


@app.callback()
def runs(
    context: typer.Context,
    experiment: Experiment = None,
    where: Where = None,
    limit: Limit = 20,
    as_json: JsonFlag = False,
) -> None:
    """Runs of experiments. Without a command: list the newest."""
    if context.invoked_subcommand is None:
        list_runs(experiment=experiment, where=where, limit=limit, as_json=as_json)


@app.command("list")
def list_runs(
    experiment: Experiment = None, where: Where = None, limit: Limit = 20, deleted: Deleted = False, as_json: JsonFlag = False
) -> None:
    """List runs, the newest first."""
    with connect() as client:
        found = client.runs.list(experiment=experiment, filter=where, limit=limit, deleted=deleted)
    if as_json:
        emit(found)
        return
    lines = [
        (
            one["id"],
            one["name"],
            one.get("experiment") or one.get("experiment_id"),
            output.state(one["status"]),
            _few(one.get("metrics") or {}),
            ago(one["start_ms"]),
        )
        for one in found
    ]
    empty = 'No run yet. Log one: eval "$(drivetrain env)", then run a script that uses mlflow.'
    output.rows(output.table("run", "name", "experiment", "status", "metrics", "started"), lines, empty=empty)


@app.command()
def show(run: Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN_ID")], as_json: JsonFlag = False) -> None:
    """Show one run: parameters, metrics, tags, data."""
    with connect() as client:
        found = client.runs.get(run)
    if as_json:
        emit(found)
    else:
        console().print_json(data=found)


@app.command()
def delete(runs: RunIds, as_json: JsonFlag = False) -> None:
    """Delete runs. They can be restored, until they are deleted for good."""
    with connect() as client:
        for run in runs:
            client.runs.delete(run)
    emit({"deleted": runs}) if as_json else output.note(f"Deleted. To have it back: drivetrain runs restore {runs[0]}")


@app.command()
def restore(runs: RunIds, as_json: JsonFlag = False) -> None:
    """Bring deleted runs back."""
    with connect() as client:
        for run in runs:
            client.runs.restore(run)
    emit({"restored": runs}) if as_json else output.note("Restored.")


@app.command()
def sync(
    folder: Annotated[
        Path | None, typer.Argument(help="A run's folder, or one of such folders; default: where dt.init keeps them.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send what runs have logged and the server does not have yet: after a crash, or offline."""
    from drivetrain.client.sdk import sender, spool

    waiting = spool.folders(folder or spool.outbox())
    done = [(str(one), sender.send(one, follow=False)) for one in waiting]
    if as_json:
        emit([{"folder": one, "complete": complete} for one, complete in done])
        return
    empty = "Nothing waits to be sent."
    lines = [(one, "sent" if complete else "its training or its sender still runs") for one, complete in done]
    output.rows(output.table("run", "state"), lines, empty=empty)


def _few(metrics: dict[str, Any], most: int = 3) -> str:
    shown = [f"{key} {value:.4g}" if isinstance(value, float | int) else f"{key} {value}" for key, value in list(metrics.items())[:most]]
    return "  ".join(shown) + (" …" if len(metrics) > most else "")
