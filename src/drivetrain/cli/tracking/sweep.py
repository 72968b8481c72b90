"""`drivetrain sweep`: searches over parameters, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from msgspec.structs import asdict

from drivetrain.answers.sweeps import LiveSweep, SweepWithRuns
from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago, console, note
from drivetrain.training.sweeps.model import Importance

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Name = Annotated[str, typer.Argument(help="The sweep, as wandb.sweep names it.", metavar="SWEEP")]


@app.command("list")
def list_sweeps(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20, as_json: JsonFlag = False
) -> None:
    """List sweeps, the newest first."""
    with connect() as client:
        found = client.sweeps.list(limit=limit)
    output.show(found, _table, as_json=as_json)


def _table(sweeps: list[LiveSweep]) -> None:
    lines = [(one.name, one.title or "–", one.method, _goal(one), one.state, _runs(one), ago(one.created_ms)) for one in sweeps]
    made = output.table("sweep", "title", "method", "goal", "state", ">runs", "began")
    output.rows(made, lines, empty="No sweep yet. Begin one with wandb.sweep(…), or: wandb sweep sweep.yaml")


@app.command()
def show(sweep: Name, as_json: JsonFlag = False) -> None:
    """Show a sweep: its runs, the best of them, and which parameters matter."""
    with connect() as client:
        found = client.sweeps.get(sweep)
        importance = client.sweeps.importance(sweep)
    output.show({**asdict(found), "importance": importance}, lambda _: _sweep(found, importance), as_json=as_json)


def _sweep(found: SweepWithRuns, importance: Sequence[Importance]) -> None:
    console().print(f"{found.title or found.name}: {found.method} search, {found.state}, {_runs(found)} runs, {_goal(found)}")
    best = found.best.position if found.best else None
    lines = [
        (one.client_id, one.state + (" (stopped early)" if one.stopped else ""), _number(one.value), _args(one.args),
         "best" if one.position == best else "")
        for one in found.runs
    ]  # fmt: skip
    output.rows(output.table("run", "state", f">{found.metric or 'value'}", "parameters", ""), lines, empty="No run yet: start an agent.")
    if importance:
        table = output.table("parameter", ">importance", ">correlation")
        output.rows(table, [(one.name, _number(one.importance), _number(one.correlation)) for one in importance], empty="")


@app.command()
def stop(
    sweep: Name,
    now: Annotated[bool, typer.Option("--now", help="End the runs that have begun, too.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Hand out no more runs. Agents leave when they have ended what they are on."""
    with connect() as client:
        _told(client.sweeps.cancel(sweep) if now else client.sweeps.stop(sweep), as_json=as_json)


@app.command()
def pause(sweep: Name, as_json: JsonFlag = False) -> None:
    """Hand out no more runs until it is resumed. Agents wait."""
    with connect() as client:
        _told(client.sweeps.pause(sweep), as_json=as_json)


@app.command()
def resume(sweep: Name, as_json: JsonFlag = False) -> None:
    """Hand out runs again, also of a sweep that was stopped."""
    with connect() as client:
        _told(client.sweeps.resume(sweep), as_json=as_json)


def _told(found: LiveSweep, *, as_json: bool) -> None:
    output.show(found, lambda one: note(f"The sweep {one.name} is {one.state}."), as_json=as_json)


def _goal(one: LiveSweep) -> str:
    return f"{'maximize' if one.maximize else 'minimize'} {one.metric}" if one.metric else "no metric"


def _runs(one: LiveSweep) -> str:
    count = one.run_count
    return str(count) if one.run_count_expected is None else f"{count} of {one.run_count_expected}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _args(args: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in args.items())
