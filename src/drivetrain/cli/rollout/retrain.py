"""`drivetrain retrain`: how deployments are trained again by themselves, and what came of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from drivetrain.answers.retraining import LiveRetraining, WatchedRetraining
from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names
from drivetrain.cli.output import JsonFlag, ago, console, note
from drivetrain.retraining.model import STAGES, TIME_LIMIT_SECONDS, Gate, Policy, State, Trigger

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Name = Annotated[str, typer.Argument(help="The deployment.", autocompletion=deployment_names)]
Which = Annotated[str, typer.Argument(help="A retraining's id, or a deployment: its newest.", autocompletion=deployment_names)]
Why = Annotated[str, typer.Option(help="The reason, for those who read it later.")]
_COLOURS = {"queued": "cyan", "running": "cyan", "waiting": "cyan", "rolled_out": "green", "refused": "yellow", "failed": "red"}
_when = partial(typer.Option, rich_help_panel="When")
_what = partial(typer.Option, rich_help_panel="What is run")
_gate = partial(typer.Option, rich_help_panel="The gate")
_TRIGGER, _USUAL = Trigger(), Gate()
"""What is usual where nothing is said."""


@app.command()
def policy(
    name: Name,
    script: Annotated[str | None, _what(help="The training script, or a folder with train.py; or an artifact repo.")] = None,
    base: Annotated[
        str,
        _what(help="Data that every training starts from: a file, a folder, a dataset repo, runs:/RUN/path."),
    ] = "",
    entry: Annotated[str, _what(help="Which file of a folder is run.")] = "",
    model: Annotated[str, _what(help="The registered model that gets the versions; by default the one that serves.")] = "",
    label: Annotated[str, _what(help="The name of the labels; by default any.")] = "",
    days: Annotated[float | None, _what(help="Train on answers that are no older.")] = None,
    time_limit: Annotated[float, _what(min=1, help="Seconds that one run of the script may take.")] = TIME_LIMIT_SECONDS,
    on: Annotated[str, _when(help="The alerts that call for it.")] = ",".join(_TRIGGER.alerts),
    labels: Annotated[int, _when(min=0, help="New labels that it takes, and labels since the alert.")] = _TRIGGER.min_labels,
    sustained: Annotated[float, _when(min=0, help="Seconds that the alert must last.")] = _TRIGGER.sustained_seconds,
    cool_down: Annotated[float, _when(min=0, help="Seconds between two retrainings.")] = _TRIGGER.cool_down_seconds,
    every: Annotated[float | None, _when(min=1, help="Also every so many seconds, alert or not.")] = None,
    held_out: Annotated[float, _gate(help="Share of the labelled answers that is kept to judge by.")] = _USUAL.held_out,
    recent: Annotated[int, _gate(min=10, help="Better on so many of the newest of these.")] = _USUAL.recent,
    min_rows: Annotated[int, _gate(min=10, help="With fewer of them it does not begin.")] = _USUAL.min_rows,
    margin: Annotated[float, _gate(min=0, help="Better by more than this (0.01: one point).")] = _USUAL.margin,
    plan: Annotated[str | None, typer.Option(help="Plan of the rollout; by default that of the deployment's last one.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Never again by itself.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say how a deployment is trained again by itself; without a script: show how.

    The script is an ordinary training script that logs with mlflow. It finds labelled answers in the Parquet file
    `$DRIVETRAIN_TRAINING_SET`, base data in `$DRIVETRAIN_BASE`, and registers its model as `$DRIVETRAIN_MODEL`. What it makes goes live
    only if it is better than what serves on answers that it has not seen, and then by a rollout.

    `drivetrain retrain policy classifier --script train.py --base digits.parquet --labels 200 --plan safe`
    """
    with connect() as client:
        if delete:
            client.retrainings.delete_policy(name)
            said = f"{name} is not trained again by itself any more."
            output.show({"deployment": name, "deleted": True}, said, as_json=as_json)
            return
        if script is None:
            found = client.retrainings.policy(name)
        else:
            found = client.retrainings.set_policy(
                name,
                script,
                base=base,
                **({"entry": entry} if entry else {}),
                model=model,
                label=label,
                days=days,
                trigger={
                    "alerts": [part.strip() for part in on.split(",") if part.strip()],
                    "min_labels": labels,
                    "sustained_seconds": sustained,
                    "cool_down_seconds": cool_down,
                    "every_seconds": every,
                },
                gate={"held_out": held_out, "recent": recent, "min_rows": min(min_rows, recent), "margin": margin},
                plan=plan,
                time_limit=time_limit,
            )
    output.show(found, _show_policy, as_json=as_json)


@app.command()
def now(
    name: Name,
    why: Why = "",
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; exit code 1 if nothing went live.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a deployment again now, whatever its policy waits for."""
    with connect() as client:
        begun = client.retrainings.start(name, why=why)
    if watch:
        _follow(begun.id, as_json=as_json)
    else:
        output.show(begun, _begun, as_json=as_json)


def _begun(one: LiveRetraining) -> None:
    console().print(f"{one.deployment} is trained again: {one.id}")
    note(f"[dim]Follow it: drivetrain retrain show {one.deployment} --watch[/]")


@app.command("list")
def list_retrainings(
    name: Annotated[str | None, typer.Argument(help="Of this deployment only.", autocompletion=deployment_names)] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, the newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List retrainings, the newest first."""
    with connect() as client:
        found = client.retrainings.list(name, limit=limit)
    output.show(found, _table, as_json=as_json)


def _table(retrainings: list[LiveRetraining]) -> None:
    made = output.table("retraining", "deployment", "state", ">version", "begun", "")
    lines = []
    for one in retrainings:
        words = one.doing or one.why
        lines.append((one.id, one.deployment, _state(one), one.version or "", ago(one.created_ms), words))
    output.rows(made, lines, empty="Nothing was trained again yet. Say how: drivetrain retrain policy NAME --script train.py")


@app.command()
def show(
    which: Which, watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False, as_json: JsonFlag = False
) -> None:
    """Show a retraining: why it began, what each stage brought, how the gate judged, and how to undo it."""
    if watch:
        _follow(which, as_json=as_json)
        return
    with connect() as client:
        one = client.retrainings.get(client.retrainings.id(which))
    output.show(one, lambda found: console().print(shown(found)), as_json=as_json)


@app.command()
def cancel(which: Which, why: Why = "", as_json: JsonFlag = False) -> None:
    """End a retraining. A version that it has registered stays, without traffic."""
    with connect() as client:
        one = client.retrainings.cancel(client.retrainings.id(which), why=why)
    output.show(one, f"[bold]{one.deployment}[/]: {_word(one.state)}. {one.why}", as_json=as_json)


@app.command()
def pause(name: Name, as_json: JsonFlag = False) -> None:
    """Begin no more retrainings of a deployment by itself. One that runs goes on."""
    with connect() as client:
        _paused(client.retrainings.pause(name), as_json)


@app.command()
def resume(name: Name, as_json: JsonFlag = False) -> None:
    """Let a deployment be trained again by itself."""
    with connect() as client:
        _paused(client.retrainings.resume(name), as_json)


def shown(one: WatchedRetraining) -> RenderableType:
    """A retraining, as people read it."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble((one.deployment, "bold"), "  ", _state(one), f"  begun {ago(one.created_ms)} by {one.created_by}",
                         (f"   {one.id}", "dim"))  # fmt: skip
    done = {stage.stage: stage for stage in one.stages}
    stages = output.table("stage", "when", "")
    for name in STAGES:
        stage = done.get(name)
        going = one.ended_ms is None and name == one.stage
        words = stage.words if stage else one.doing if going else ""
        stages.add_row(Text(_word(name), style="" if stage else "cyan" if going else "dim"), ago(stage.at_ms) if stage else "", Text(words))
    undo = next((stage.undo for stage in reversed(one.stages) if stage.undo), "")
    foot = Text(one.why + (f"\nUndo: {undo}" if undo else ""))
    if one.job_id:
        foot.append(f"\nIts output: drivetrain jobs log {one.job_id}", style="dim")
    return Group(head, Text(), stages, Text(), foot)


def _follow(which: str, *, as_json: bool) -> None:
    """Show a retraining as it goes. Exit code 1 if nothing went live."""
    with connect(patience=20.0) as client:
        identity = client.retrainings.id(which)
        if as_json or not console().is_terminal:
            one = client.retrainings.wait(identity, timeout=7 * 86_400.0)
            output.show(one, lambda found: console().print(shown(found)), as_json=as_json)
        else:
            one = output.live(client.retrainings.watch(identity), shown)
    if one.state not in (State.rolled_out, State.waiting):
        raise typer.Exit(output.FAILED)


def _paused(policy: Policy, as_json: bool) -> None:
    output.show(policy, f"{policy.deployment} is {'not ' if policy.paused else ''}trained again by itself.", as_json=as_json)


def _show_policy(policy: Policy) -> None:
    trigger, gate = policy.trigger, policy.gate
    when = []
    if trigger.alerts:
        lasting = f" has lasted for {trigger.sustained_seconds:g} s" if trigger.sustained_seconds else " lasts"
        when.append(f"an alert of {' or '.join(trigger.alerts)}{lasting}, and {trigger.cool_down_seconds:g} s after the last time")
    if trigger.every_seconds is not None:
        when.append(f"every {trigger.every_seconds:g} s")
    plan = policy.plan
    then = "by the plan of its last rollout" if plan is None else f"by the plan {plan if isinstance(plan, str) else plan.get('name', '')}"
    lines = [
        ("when", f"{'; or '.join(when)}; with {trigger.min_labels} new labels"),
        ("by", f"{policy.entry} of {policy.script.partition('@')[0]}" + (f", with {policy.base}" if policy.base else "")),
        ("within", f"{policy.time_limit:g} s, then the script is stopped"),
        ("makes", f"versions of {policy.model}"),
        ("judged", f"on the {gate.held_out:.0%} of labelled answers that are held out, the newest {gate.recent} above all"),
        ("then", f"rolled out {then}"),
    ]
    console().print(f"[bold]{policy.deployment}[/] is trained again{' (paused)' if policy.paused else ''}")
    for name, words in lines:
        console().print(f"  {name:8}{words}", soft_wrap=True)
    if policy.words:
        console().print(f"  [dim]{policy.words}[/]", soft_wrap=True)


def _word(text: str) -> str:
    return text.replace("_", " ")


def _state(one: LiveRetraining) -> Any:
    from rich.text import Text

    return Text(_word(one.state), style=_COLOURS.get(one.state, "yellow"))
