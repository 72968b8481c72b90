"""`drivetrain jobs`: long work on the server."""

from __future__ import annotations

from typing import Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago
from drivetrain.errors import DrivetrainError
from drivetrain.jobs.model import SUCCEEDED, Job

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

Limit = Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")]
JobId = Annotated[str, typer.Argument(help="The job.", metavar="JOB_ID")]


@app.callback()
def jobs(
    context: typer.Context,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """Long work on the server: pulls, environments. Without a command: list it."""
    if context.invoked_subcommand is None:
        list_jobs(limit=limit, as_json=as_json)


@app.command("list")
def list_jobs(limit: Limit = 50, as_json: JsonFlag = False) -> None:
    """List jobs, the newest first."""
    with connect() as client:
        found = client.jobs.list(limit=limit)
    output.show(found, _table, as_json=as_json)


@app.command()
def show(
    job: JobId, follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait until it has ended.")] = False, as_json: JsonFlag = False
) -> None:
    """Show one job. With --follow, wait for its end; a job that failed makes the exit code 1."""
    with connect(patience=20.0) as client:
        found = client.jobs.get(job)
        if follow:
            with output.progress(found.kind, of_bytes=False) as tell:
                for found in client.jobs.follow(job):
                    tell(found.done, found.total, found.message or found.kind)
    output.show(found, output.as_text, as_json=as_json)
    if follow and found.state != SUCCEEDED:
        raise DrivetrainError(f"{found.error or found.state}   (log: drivetrain jobs log {job})")


@app.command()
def log(job: JobId, as_json: JsonFlag = False) -> None:
    """Print what a job has said."""
    with connect() as client:
        text = client.jobs.log(job)
    output.show({"job": job, "log": text}, lambda _: typer.echo(text, nl=False), as_json=as_json)


@app.command()
def cancel(job: JobId, as_json: JsonFlag = False) -> None:
    """Stop a job."""
    with connect() as client:
        found = client.jobs.cancel(job)
    output.show(found, f"{job}: {found.state}", as_json=as_json)


def _table(jobs: list[Job]) -> None:
    lines = [(one.id, one.kind, output.state(one.state), one.message or one.error, ago(one.created_ms)) for one in jobs]
    output.rows(output.table("job", "kind", "state", "", "submitted"), lines, empty="There is no job.")
