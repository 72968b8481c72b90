"""`drivetrain check`: what production asks of a deployment, and the command that mends each line."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from drivetrain.checklist.model import Checklist
from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names
from drivetrain.cli.output import JsonFlag, console

_MARKS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "missing": "[red]✗[/]"}


def check(
    name: Annotated[str, typer.Argument(help="The deployment.", autocompletion=deployment_names)],
    why: Annotated[bool, typer.Option("--why", help="Say of each line why it matters.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check whether a deployment is ready for users: each line with the command that mends it.

    Exit code 1 if something that is required is missing; the rest is advice.
    """
    with connect() as client:
        found = client.deployments.checklist(name)
    output.show(found, lambda checklist: _show(checklist, why), as_json=as_json)
    if not found.ready:
        raise typer.Exit(output.FAILED)


def _show(found: Checklist, why: bool) -> None:
    width = max(len(line.name) for line in found.lines)
    for required, title in ((True, "Required"), (False, "Advised")):
        console().print(f"\n[bold]{title}[/]")
        for line in (one for one in found.lines if one.required is required):
            console().print(f"  {_MARKS[line.state]} {line.name:{width}}  {escape(line.what)}", soft_wrap=True)
            if why:
                console().print(f"    {'':{width}}  [dim]{escape(line.why)}[/]", soft_wrap=True)
            if line.fix and line.state != "ok":
                console().print(f"    {'':{width}}  [cyan]→ {escape(line.fix)}[/]", soft_wrap=True)
    missing = [line.name for line in found.lines if line.required and line.state == "missing"]
    warned = sum(line.state != "ok" for line in found.lines) - len(missing)
    more = f"{warned} more to look at." if warned else "Nothing else to look at."
    said = f"Not ready: {', '.join(missing)}." if missing else "Ready."
    console().print(f"\n[bold]{said}[/] {more}", soft_wrap=True)
