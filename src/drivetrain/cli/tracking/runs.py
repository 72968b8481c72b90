"""`drivetrain runs`: what was trained."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.answers.tracking import Number, Run
from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago, emit
from drivetrain.errors import Invalid

PAGE = 10_000
POLL_SECONDS = 1.0

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
    output.show(found, _table, as_json=as_json)


def _table(runs: list[Run]) -> None:
    lines = [
        (
            one.id,
            one.name,
            one.experiment or one.experiment_id,
            output.state(one.status),
            _few(one.metrics),
            ago(one.start_ms),
        )
        for one in runs
    ]
    empty = 'No run yet. Log one: eval "$(drivetrain env)", then run a script that uses mlflow.'
    output.rows(output.table("run", "name", "experiment", "status", "metrics", "started"), lines, empty=empty)


@app.command()
def show(run: Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN_ID")], as_json: JsonFlag = False) -> None:
    """Show one run: parameters, metrics, tags, data."""
    with connect() as client:
        found = client.runs.get(run)
    output.show(found, output.as_text, as_json=as_json)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="Id of the run.", metavar="RUN_ID")],
    tail: Annotated[int | None, typer.Option(min=1, max=PAGE, help="Only the last lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print what a run has written to its console."""
    if follow and as_json:
        raise Invalid("--follow prints lines as they come: leave out --json.")
    with connect() as client:
        found = list(client.runs.console(run, limit=tail or PAGE, last=tail is not None))
        after = found[-1].number if found else -1
        while True:
            if not as_json:
                for line in found:
                    typer.echo(_plain(line.text))
                found = []
            # Asked before the lines are: what a run prints at its end is there when it says that it has ended.
            running = follow and client.runs.get(run).status in ("RUNNING", "SCHEDULED")
            more = client.runs.console(run, after=after, limit=PAGE)
            if more:
                after = more[-1].number
                found += more
            elif running:
                time.sleep(POLL_SECONDS)
            else:
                break
    if as_json:
        emit(found)


@app.command()
def delete(runs: RunIds, as_json: JsonFlag = False) -> None:
    """Delete runs. They can be restored, until they are deleted for good."""
    with connect() as client:
        for run in runs:
            client.runs.delete(run)
    said = f"Deleted. To have it back: drivetrain runs restore {runs[0]}"
    output.show({"deleted": runs}, lambda _: output.note(said), as_json=as_json)


@app.command()
def restore(runs: RunIds, as_json: JsonFlag = False) -> None:
    """Bring deleted runs back."""
    with connect() as client:
        for run in runs:
            client.runs.restore(run)
    output.show({"restored": runs}, lambda _: output.note("Restored."), as_json=as_json)


@app.command()
def sync(
    folder: Annotated[
        Path | None, typer.Argument(help="A run's folder, or one of such folders; default: where dt.init keeps them.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Send what runs have logged and the server does not have yet: after a crash, or offline."""
    from drivetrain.sdk import sender, spool

    waiting = spool.folders(folder or spool.outbox())
    done = [(str(one), sender.send(one, follow=False)) for one in waiting]
    found = [{"folder": one, "complete": complete} for one, complete in done]
    lines = [(one, "sent" if complete else "its training or its sender still runs") for one, complete in done]
    made = output.table("run", "state")
    output.show(found, lambda _: output.rows(made, lines, empty="Nothing waits to be sent."), as_json=as_json)


def _plain(text: str) -> str:
    """Without what a terminal would obey."""
    from rich.text import Text

    return "".join(letter for letter in Text.from_ansi(text).plain if letter == "\t" or letter.isprintable())


def _few(metrics: Mapping[str, Number], most: int = 3) -> str:
    shown = [f"{key} {value:.4g}" if isinstance(value, float | int) else f"{key} {value}" for key, value in list(metrics.items())[:most]]
    return "  ".join(shown) + (" …" if len(metrics) > most else "")
