"""`drivetrain models`: what is registered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.answers.registry import RepoWithVersions
from drivetrain.cli import output
from drivetrain.cli.connect import connect, model_names
from drivetrain.cli.output import JsonFlag, ago, console, note, size
from drivetrain.errors import Invalid

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

Model = Annotated[str, typer.Argument(help="The model.", autocompletion=model_names)]
Only = Annotated[int | None, typer.Option(help="Only this version.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Ref = Annotated[str, typer.Option(help="Which one: a version number, an alias, a tag, a branch or a commit.")]


@app.callback()
def models(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Registered models: versions, aliases, files. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_models(as_json=as_json)


@app.command("list")
def list_models(as_json: JsonFlag = False) -> None:
    """List models, the latest changed first."""
    tell_repos("model", as_json, empty="No model is registered. Import one with: drivetrain pull ./model.gguf --name mine")


@app.command()
def show(name: Model, as_json: JsonFlag = False) -> None:
    """Show a model's versions: aliases, where each came from."""
    tell_versions(name, "model", as_json)


@app.command()
def files(name: Model, ref: Ref = "latest", as_json: JsonFlag = False) -> None:
    """List the files of a version."""
    tell_files(name, "model", ref, as_json)


@app.command()
def download(
    name: Model,
    target: Annotated[Path, typer.Argument(help="A folder; it is made.", file_okay=False)],
    ref: Ref = "latest",
    as_json: JsonFlag = False,
) -> None:
    """Download the files of a version into a folder."""
    fetch(name, "model", target, ref, as_json)


def tell_repos(kind: str, as_json: bool, *, empty: str) -> None:
    with connect() as client:
        found = client.models.list(kind=kind)
    made = output.table(kind, ">latest", "aliases", "changed", "description")
    lines = [(m.slug, m.latest, _aliases(m.aliases), ago(m.updated_ms), m.description) for m in found]
    output.show(found, lambda _: output.rows(made, lines, empty=empty), as_json=as_json)


def tell_versions(name: str, kind: str, as_json: bool) -> None:
    with connect() as client:
        found = client.models.get(name, kind=kind)
    output.show(found, _versions, as_json=as_json)


def _versions(found: RepoWithVersions) -> None:
    repo = found.repo
    console().print(f"[bold]{repo.slug}[/]  {repo.description}".rstrip())
    made = output.table(">version", "aliases", "run", "source", "by", "registered")
    lines = [(v.number, " ".join(v.aliases), (v.run_id or "")[:12], v.source, v.user, ago(v.created_ms)) for v in found.versions]
    output.rows(made, lines, empty="No version is registered yet.")


def tell_files(name: str, kind: str, ref: str, as_json: bool) -> None:
    with connect() as client:
        found = client.models.files(name, ref=ref, kind=kind)
    made = output.table("path", ">size", "sha256")
    lines = [(path, size(one.size), one.sha256[:16]) for path, one in found.files.items()]
    output.show(found, lambda _: output.rows(made, lines, empty="It has no files."), as_json=as_json)


def fetch(name: str, kind: str, target: Path, ref: str, as_json: bool) -> None:
    with connect(timeout=600.0) as client:
        found = client.models.files(name, ref=ref, kind=kind).files
        total = sum(file.size for file in found.values())
        done = 0
        with output.progress("downloading") as tell:
            for path, file in found.items():
                tell(done, total, path)
                place = target / path
                place.parent.mkdir(parents=True, exist_ok=True)
                part = place.with_name(f".{place.name}.part")
                done += client.models.download(name, path, part, ref=ref, kind=kind)
                part.replace(place)
                assert place.stat().st_size == file.size
    said = {"folder": str(target), "files": len(found), "bytes": total}
    output.show(said, f"{len(found)} files, {size(total)}, in {target}", as_json=as_json)


@app.command()
def alias(
    name: Model,
    alias: Annotated[str, typer.Argument(help="As in champion.")],
    version: Annotated[int | None, typer.Argument(help="The version that it names from now on.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Let an alias name a version, or remove it. Deployments made from an alias stay on the version that they were made with."""
    if delete == (version is not None):
        raise typer.BadParameter("name a version, or --delete")
    with connect() as client:
        if version is None:
            client.models.delete_alias(name, alias)
        else:
            client.models.set_alias(name, alias, version)
    said = f"{name}@{alias} is gone." if version is None else f"{name}@{alias} is version {version}."
    output.show({"model": name, "alias": alias, "version": version}, said, as_json=as_json)


@app.command()
def delete(
    name: Model,
    version: Only = None,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete a model with all its versions, or one version. It cannot be undone; a version's number is never given again."""
    remove(name, "model", version, yes, as_json)


def remove(name: str, kind: str, version: int | None, yes: bool, as_json: bool) -> None:
    what = f"version {version} of {name}" if version is not None else f"{name} with all its versions"
    if as_json and not yes:
        raise Invalid("With --json nobody is asked: add --yes.")
    if not yes:
        typer.confirm(f"Delete {what}?", abort=True, err=True)
    with connect() as client:
        if version is None:
            client.models.delete(name, kind=kind)
        else:
            client.models.delete_version(name, version, kind=kind)
    output.show({kind: name, "version": version, "deleted": True}, lambda _: _removed(what), as_json=as_json)


def _removed(what: str) -> None:
    console().print(f"Deleted {what}.")
    note("[dim]Files that nothing else uses are removed from the disk within the hour.[/]")


def _aliases(found: Mapping[str, int]) -> str:
    return " ".join(f"@{alias}={number}" for alias, number in found.items())
