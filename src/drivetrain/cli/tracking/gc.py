"""`drivetrain gc`: let what was deleted go for good. And `drivetrain experiments`."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago, console, note, size
from drivetrain.errors import Invalid
from drivetrain.tracking.deletion.model import Collected, Preview
from drivetrain.words import span

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")
experiments = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
OlderThan = Annotated[
    str | None,
    typer.Option(
        help="What was deleted this long ago: 30d, 12h, 1d6h; 0 for everything that was. Default: the workspace's grace.",
        show_default=False,
    ),
]
Runs = Annotated[list[str] | None, typer.Option("--run", help="Only this run, which was deleted (repeatable).", show_default=False)]
Experiments = Annotated[
    list[str] | None,
    typer.Option("--experiment", help="Only this experiment, which was deleted (name or id; repeatable).", show_default=False),
]
Names = Annotated[list[str], typer.Argument(help="Names or ids.", metavar="EXPERIMENT...")]


@app.callback()
def gc(
    context: typer.Context,
    older_than: OlderThan = None,
    run: Runs = None,
    experiment: Experiments = None,
    models: Annotated[bool, typer.Option("--models", help="With the runs, the logged models that they made, deleted or not.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete it, without asking.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete for good what was deleted, with its files.

    Shows what would go, how many bytes that frees, and asks (at a terminal) or ends there; with --yes it goes. It cannot be undone. Files
    that something else has too, as a registered version, stay.
    """
    if context.invoked_subcommand is not None:
        return
    what: dict[str, Any] = {"older_than_s": seconds(older_than), "runs": run or [], "experiments": experiment or [], "made_models": models}
    with connect(patience=20.0) as client:
        shown = client.gc.preview(**what)
        if not as_json:
            _tell(shown)
        nothing = not (shown.runs or shown.models or shown.experiments)
        if nothing or not (yes or (not as_json and _confirmed())):
            left = "" if nothing else "Nothing was deleted. To delete it for good, add --yes"
            output.show({"preview": shown, "collected": None}, lambda _: note(left) if left else None, as_json=as_json)
            return
        total = shown.runs + shown.models + shown.experiments
        with output.progress("deleting", of_bytes=False) as tell:
            for done in client.gc.follow(client.gc.collect(**what).id):
                gone = done.runs + done.models + done.experiments
                tell(gone, max(total, gone), f"{gone} of {total} deleted")
    output.show({"preview": shown, "collected": done}, lambda _: _gone(done), as_json=as_json)


def _gone(done: Collected) -> None:
    console().print(f"Deleted for good: {_kinds(done)}. {_number(done.blobs, 'file')} went from the store, {size(done.bytes)}.")
    if done.later_blobs:
        note(
            f"{_number(done.later_blobs, 'file')} ({size(done.later_bytes)}) were sent or asked for again lately. They go by "
            "themselves a day after that, unless something has them then."
        )


@app.command("list")
def list_collections(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20, as_json: JsonFlag = False
) -> None:
    """List what was deleted for good, the newest first."""
    with connect() as client:
        found = client.gc.list(limit=limit)
    output.show(found, _table, as_json=as_json)


def _table(collections: list[Collected]) -> None:
    lines = [
        (one.user, one.experiments, one.runs, one.models, one.blobs, size(one.bytes),
         "done" if one.ended_ms and not one.waiting else f"{one.waiting} to go", ago(one.created_ms))
        for one in collections
    ]  # fmt: skip
    table = output.table("by", ">experiments", ">runs", ">models", ">files", ">bytes", "state", "began")
    output.rows(table, lines, empty="Nothing was deleted for good yet.")


@app.command()
def policy(
    grace: Annotated[
        str | None, typer.Option(help="How long what was deleted can be restored for sure: 30d, 12h.", show_default=False)
    ] = None,
    automatic: Annotated[
        bool | None,
        typer.Option("--automatic/--on-demand", help="Whether it goes by itself after that, or when asked.", show_default=False),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or change how long the workspace keeps what was deleted."""
    with connect() as client:
        change = grace is not None or automatic is not None
        found = client.gc.set_policy(grace_s=seconds(grace), automatic=automatic) if change else client.gc.policy()
    then = "by itself" if found.automatic else "when somebody says: drivetrain gc --yes"
    said = f"What was deleted can be restored for {span(found.grace_ms / 1000)}; after that it goes {then}"
    output.show(found, said, as_json=as_json)


@experiments.callback()
def of_experiments(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Experiments: named groups of runs. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_experiments(as_json=as_json)


@experiments.command("list")
def list_experiments(
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that were deleted, and can be restored.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List experiments, the latest changed first."""
    with connect() as client:
        found = client.experiments.list(deleted=deleted)
    made = output.table("id", "experiment", "deleted" if deleted else "changed")
    lines = [(one.id, one.name, ago(one.updated_ms)) for one in found]
    output.show(found, lambda _: output.rows(made, lines, empty="There is none."), as_json=as_json)


@experiments.command()
def delete(names: Names, as_json: JsonFlag = False) -> None:
    """Delete experiments with their runs. They can be restored, until they are deleted for good."""
    with connect() as client:
        for name in names:
            client.experiments.delete(name)
    said = f"Deleted. To have it back: drivetrain experiments restore {names[0]}"
    output.show({"deleted": names}, lambda _: note(said), as_json=as_json)


@experiments.command()
def restore(names: Names, as_json: JsonFlag = False) -> None:
    """Bring deleted experiments back, with the runs that were deleted together with them."""
    with connect() as client:
        for name in names:
            client.experiments.restore(name)
    output.show({"restored": names}, lambda _: note("Restored."), as_json=as_json)


def seconds(text: str | None) -> float | None:
    """What "30d" or "1d6h" says; a bare number is seconds."""
    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if text.replace(".", "", 1).isdigit():
        return float(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f"{text!r} is no duration: write it as 30d, 12h or 1d6h (w, d, h, m, s).")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def _confirmed() -> bool:
    return sys.stdin.isatty() and typer.confirm("Delete this for good?", err=True)


def _tell(shown: Preview) -> None:
    if not (shown.runs or shown.models or shown.experiments):
        console().print(
            f"Nothing was deleted long enough ago. (The grace is {span(shown.grace_ms / 1000)}; --older-than 0 is for all.)",
            soft_wrap=True,
        )
        return
    lines = [("experiment", one.id, one.name, "", ago(one.deleted_ms)) for one in shown.some_experiments]
    lines += [("run", one.id, one.name, one.of, ago(one.deleted_ms)) for one in shown.some_runs]
    output.rows(output.table("", "id", "name", "experiment", "deleted"), lines, empty="")
    more = shown.runs + shown.experiments - len(lines)
    if more > 0:
        console().print(f"… and {more} more")
    console().print(
        f"{_kinds(shown)}, with {_number(shown.files, 'file')} ({size(shown.bytes)}); {size(shown.freed_bytes)} of disk are freed."
    )
    if shown.made_models:
        console().print(f"{_number(shown.made_models, 'logged model')} that these runs made will stay; --models takes them too.")


def _kinds(counts: Preview | Collected) -> str:
    named = ((counts.experiments, "experiment"), (counts.runs, "run"), (counts.models, "logged model"))
    return ", ".join(_number(count, word) for count, word in named if count) or "nothing"


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
