"""`drivetrain trace` and `feedback`: where an answer came from, and what is said of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from drivetrain.answers.requests import Lineage
from drivetrain.answers.tracking import Number
from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, console, size
from drivetrain.errors import Invalid

RequestId = Annotated[str, typer.Argument(help="The header `x-request-id` of an answer, of any protocol.", metavar="REQUEST_ID")]
SHOWN = 12


def trace(request: RequestId, as_json: JsonFlag = False) -> None:
    """Show what is behind one answer: deployment, version, run (parameters, metrics, git commit, seed), data, and feedback."""
    with connect() as client:
        lineage = client.requests.lineage(request)
    output.show(lineage, lambda found: console().print(tree(found)), as_json=as_json)


def tree(lineage: Lineage) -> Tree:
    """A lineage as a tree: each branch is made by what hangs from it."""
    event = lineage.event
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t / 1e9))
    word = "[green]answered[/]" if not event.error else f"[red]{escape(event.error)}[/] {escape(event.message)}"
    root = Tree(f"[bold]answer[/] {lineage.request_id}   {word}", guide_style="dim")
    tokens = f" · {event.tokens_in} → {event.tokens_out} tokens" if event.tokens_out else ""
    root.add(f"{when} · {event.dialect} · {event.latency_ms:.0f} ms{tokens} · {escape(event.user)}")
    for name, text in (("input", event.input), ("output", event.output)):
        if text:
            root.add(f"{name} [dim]{escape(_short(text))}[/]")
    at = root.add(f"[bold]deployment[/] {escape(lineage.deployment.name or '(none)')}")
    if lineage.variant.id:
        at = at.add(f"[bold]variant[/] {escape(lineage.variant.name)} on {lineage.variant.engine}")
    _came(at, lineage)
    at = _version(at, lineage)
    _run(at, lineage)
    if lineage.feedback:
        said = root.add("[bold]feedback[/]")
        for one in lineage.feedback:
            comment = f"   [dim]{escape(one.comment)}[/]" if one.comment else ""
            said.add(f"{one.kind} {escape(one.name)} = {escape(json.dumps(one.value))}   [dim]{escape(one.source)}[/]{comment}")
    for text in lineage.notes:
        root.add(f"[yellow]{escape(text)}[/]")
    return root


def _version(at: Tree, lineage: Lineage) -> Tree:
    version, commit = lineage.version, lineage.commit
    if version is not None:
        names = "".join(f" @{escape(alias)}" for alias in version.aliases)
        at = at.add(f"[bold]version[/] {escape(version.repo)} {version.number}{names}   [dim]commit {version.commit_id[:12]}[/]")
    elif commit is not None:
        at = at.add(f"[bold]commit[/] {commit.id[:12]} of {escape(lineage.event.repo)}, not registered")
    if files := lineage.files:
        branch = at.add(f"[bold]files[/] {len(files)}, {size(sum(file.size for file in files))}")
        for file in files[:SHOWN]:
            branch.add(f"{escape(file.path)}   [dim]{size(file.size)} · sha256 {file.sha256[:12]}[/]")
        if len(files) > SHOWN:
            branch.add(f"[dim]and {len(files) - SHOWN} more[/]")
    return at


def _came(at: Tree, lineage: Lineage) -> None:
    """The rollout that brought the version, and the retraining that made it."""
    rollout, retraining = lineage.rollout, lineage.retraining
    if rollout is None:
        return
    state = rollout.state.replace("_", " ")
    begun = "a retraining" if retraining is not None else escape(rollout.created_by)
    at = at.add(f"[bold]rollout[/] {escape(rollout.plan.name)}: {state}, begun by {begun}   [dim]{rollout.id}[/]")
    for one in lineage.decisions[-SHOWN:]:
        at.add(f"{escape(one.action.replace('_', ' '))} [dim]{escape(_short(one.why, 160))}[/]")
    if retraining is None:
        return
    at = at.add(f"[bold]retraining[/] of {escape(retraining.deployment)}: {retraining.state.replace('_', ' ')}   [dim]{retraining.id}[/]")
    for alert in retraining.trigger.get("alerts", []):
        at.add(f"because of the alert: {escape(alert['title'])} [dim]{escape(_short(alert['text'], 160))}[/]")
    for stage in retraining.stages:
        at.add(f"{stage.stage.replace('_', ' ')} [dim]{escape(_short(stage.words))}[/]")


def _run(at: Tree, lineage: Lineage) -> None:
    run = lineage.run
    if run is None:
        return
    experiment = lineage.experiment
    within = f" of experiment {escape(experiment.name)}" if experiment else ""
    at = at.add(f"[bold]run[/] {escape(run.name)}{within}   [dim]{run.id} · {escape(run.user)}[/]")
    trained_by = run.tags.get("drivetrain.script")
    at.add(f"script {escape(trained_by)}" if trained_by else f"git commit {escape(lineage.git_commit or '(not recorded)')}")
    at.add(f"seed {escape(lineage.seed or '(not recorded)')}")
    if run.source:
        at.add(f"script {escape(run.source)}")
    shown: tuple[tuple[str, Mapping[str, Number]], ...] = ("params", run.params), ("metrics", run.metrics)
    for title, values in shown:
        if values:
            branch = at.add(title)
            for key, value in list(values.items())[:SHOWN]:
                branch.add(f"{escape(key)} = {escape(f'{value:.6g}' if isinstance(value, float) else str(value))}")
            if len(values) > SHOWN:
                branch.add(f"[dim]and {len(values) - SHOWN} more[/]")
    data = at.add("[bold]data[/]" if lineage.datasets else "[bold]data[/] (no data set was logged)")
    for one in lineage.datasets:
        context = f" ({escape(one.context)})" if one.context else ""
        data.add(f"{escape(one.name)}{context}   [dim]digest {escape(one.digest)} {escape(_profile(one.profile))}[/]")


def feedback(
    request: RequestId,
    name: Annotated[str, typer.Argument(help="What it is about: thumbs, correct, label …")],
    value: Annotated[str, typer.Argument(help="true, false, a number, or text.")],
    label: Annotated[bool, typer.Option("--label", help="It is the right answer, not an opinion of the given one.")] = False,
    comment: Annotated[str, typer.Option(help="In words.")] = "",
    source: Annotated[str, typer.Option(help="Who says it. Default: you.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Say something of an answer, by its request id. Labels make the accuracy that the deployment's page shows.

    `drivetrain feedback ID thumbs true`     `drivetrain feedback ID label 7 --label`
    """
    try:
        meant: Any = json.loads(value)
    except ValueError:
        meant = value
    if isinstance(meant, dict | list):
        raise Invalid("The value must be true, false, null, a number or text.", param="value")
    with connect() as client:
        said = client.requests.add_feedback(request, name, meant, kind="label" if label else "feedback", comment=comment, source=source)
    words = escape(f"{said.kind} {name} = {json.dumps(said.value)}, noted for {said.request_id}")
    output.show(said, words, as_json=as_json)


def _short(text: str, most: int = 300) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def _profile(text: str | None) -> str:
    """`{"num_rows": 3}` as `num_rows 3`."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return ""
    return " ".join(f"{key} {value}" for key, value in found.items()) if isinstance(found, dict) else ""
