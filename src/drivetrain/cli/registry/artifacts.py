"""`drivetrain artifacts`: versions of files that are no models: data sets, tables, what runs hand to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli.connect import artifact_names
from drivetrain.cli.output import JsonFlag
from drivetrain.cli.registry import models
from drivetrain.cli.registry.models import Only, Ref, Yes

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

KIND = "artifact"
Artifact = Annotated[str, typer.Argument(help="The artifact: of wandb's, PROJECT--NAME.", autocompletion=artifact_names)]


@app.callback()
def artifacts(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Artifacts with versions: data sets, tables, files. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_artifacts(as_json=as_json)


@app.command("list")
def list_artifacts(as_json: JsonFlag = False) -> None:
    """List artifacts, the latest changed first."""
    models.tell_repos(KIND, as_json, empty="There is no artifact. wandb's run.log_artifact makes one.")


@app.command()
def show(name: Artifact, as_json: JsonFlag = False) -> None:
    """Show an artifact's versions, counted from 1: aliases, the runs that made them."""
    models.tell_versions(name, KIND, as_json)


@app.command()
def files(name: Artifact, ref: Ref = "latest", as_json: JsonFlag = False) -> None:
    """List the files of a version."""
    models.tell_files(name, KIND, ref, as_json)


@app.command()
def download(
    name: Artifact,
    target: Annotated[Path, typer.Argument(help="A folder; it is made.", file_okay=False)],
    ref: Ref = "latest",
    as_json: JsonFlag = False,
) -> None:
    """Download the files of a version into a folder."""
    models.fetch(name, KIND, target, ref, as_json)


@app.command()
def delete(name: Artifact, version: Only = None, yes: Yes = False, as_json: JsonFlag = False) -> None:
    """Delete an artifact with all its versions, or one version. It cannot be undone; a version's number is never given again."""
    models.remove(name, KIND, version, yes, as_json)
