"""`drivetrain rollout`: move a deployment's traffic to another version by steps, watched, and take it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec.structs import asdict

from drivetrain.answers.rollouts import LiveRollout, WatchedRollout
from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names, model_names
from drivetrain.cli.output import JsonFlag, ago, console, note
from drivetrain.errors import Invalid
from drivetrain.rollout.model import Evidence, Forecast, State
from drivetrain.words import span

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Target = Annotated[
    str, typer.Argument(help="A deployment, for its open or last rollout; or a rollout's id.", autocompletion=deployment_names)
]
Why = Annotated[str, typer.Option(help="The reason, for the list of decisions.")]
PlanOption = Annotated[str, typer.Option(help="safe, fast, shadow; or steps in percent: 1,10,50,100; or a JSON file with a plan.")]
Guards = Annotated[
    list[str] | None,
    typer.Option("--guardrail", "-g", help="One more, as MEASURE[@TOLERANCE][!signal][~RATIO]: label_error, latency_p95@1.5, cost!signal."),
]
_COLOURS = {
    "harm": "red", "mismatch": "red", "no_measure": "yellow", "blind": "yellow", "waiting": "dim", "not_enough_data": "dim",
    "safe": "green", "certified": "bold green",
}  # fmt: skip
_STATES = {"running": "cyan", "starting": "cyan", "promoted": "green", "closed": "green", "rolled_back": "red", "aborted": "yellow"}


@app.command()
def start(
    name: Annotated[str, typer.Argument(help="The deployment.", autocompletion=deployment_names)],
    source: Annotated[str, typer.Argument(help="The version to move to: NAME@3, models:/NAME@alias …", autocompletion=model_names)],
    plan: PlanOption = "safe",
    guardrail: Guards = None,
    min_units: Annotated[int | None, typer.Option(min=0, help="Least units of each step, in place of the plan's.")] = None,
    min_seconds: Annotated[float | None, typer.Option(min=0, help="Least seconds of each step, in place of the plan's.")] = None,
    why: Why = "",
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; exit code 1 if it was taken back.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Begin to move traffic to another version.

    It gets its share step by step, as long as it keeps its promises (guardrails); harm takes it back at once.

    `drivetrain rollout start classifier classifier@4 --plan safe -g label_error`
    """
    with connect() as client:
        begun = client.rollouts.start(
            name, source, plan=plan_of(plan, min_units=min_units, min_seconds=min_seconds), guardrails=guardrail or [], why=why
        )
    told(begun, as_json=as_json, watch=watch)


@app.command()
def status(
    target: Target, watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False, as_json: JsonFlag = False
) -> None:
    """Show a rollout: where it is, each guardrail's evidence against its threshold, and what was decided and why."""
    if watch:
        follow(target, as_json=as_json)
        return
    with connect() as client:
        found = client.rollouts.get(target)
    output.show(found, lambda one: console().print(shown(one)), as_json=as_json)


@app.command("list")
def list_rollouts(
    deployment: Annotated[str | None, typer.Argument(help="Of this deployment only.", autocompletion=deployment_names)] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, the newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List rollouts, the newest first."""
    with connect() as client:
        found = client.rollouts.list(deployment=deployment, limit=limit)
    output.show(found, _table, as_json=as_json)


def _table(rollouts: list[LiveRollout]) -> None:
    lines = [
        (one.id, one.deployment, f"{one.stable_name} → {one.canary_name}", _state(one), _percent(one.share),
         ago(one.created_ms), one.why)
        for one in rollouts
    ]  # fmt: skip
    made = output.table("rollout", "deployment", "versions", "state", ">share", "started", "")
    output.rows(made, lines, empty="There was no rollout yet. Start one: drivetrain rollout start NAME SOURCE")


@app.command()
def plan(
    deployment: Annotated[
        str | None, typer.Argument(help="Whose traffic and error rate to plan with.", autocompletion=deployment_names)
    ] = None,
    plan: PlanOption = "safe",
    guardrail: Guards = None,
    ratio: Annotated[float, typer.Option(min=1.01, help="How many times worse the version that is to be caught is.")] = 2.0,
    rate: Annotated[float | None, typer.Option(min=0, help="New people (units) a second; by default as the deployment has them.")] = None,
    base: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of answers that are bad now; by default the deployment's.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Say what a plan will do: how long each step takes, and how soon a worse version is seen.

    `drivetrain rollout plan classifier --ratio 2`
    """
    with connect() as client:
        found = client.rollouts.forecast(
            deployment, plan=plan_of(plan), guardrails=guardrail or [], ratio=ratio, units_per_second=rate, base_rate=base
        )
    output.show(found, lambda one: console().print(forecast(one)), as_json=as_json)


@app.command()
def pause(target: Target, why: Why = "", as_json: JsonFlag = False) -> None:
    """Leave the traffic as it is until it is resumed. Harm still takes the version back."""
    _do("pause", target, why, as_json=as_json)


@app.command()
def resume(target: Target, why: Why = "", as_json: JsonFlag = False) -> None:
    """Go on. Signals that paused it do not pause it again."""
    _do("resume", target, why, as_json=as_json)


@app.command()
def promote(
    target: Target,
    step: Annotated[int | None, typer.Option(min=1, help="The step to go to; without it: all traffic.")] = None,
    why: Why = "",
    as_json: JsonFlag = False,
) -> None:
    """Skip ahead, to a later step or to all traffic."""
    with connect() as client:
        _told(client.rollouts.promote(target, step=step, why=why), as_json=as_json)


@app.command()
def abort(target: Target, why: Why = "", as_json: JsonFlag = False) -> None:
    """Stop a rollout on its way: the version before gets all traffic back."""
    _do("abort", target, why, as_json=as_json)


@app.command()
def rollback(target: Target, why: Why = "", as_json: JsonFlag = False) -> None:
    """Take a version back, also one that has all traffic already. The version before is still running, so this takes no time."""
    _do("rollback", target, why, as_json=as_json)


@app.command()
def close(target: Target, why: Why = "", as_json: JsonFlag = False) -> None:
    """Let go of the version before, which is kept ready for a while after a promotion."""
    _do("close", target, why, as_json=as_json)


def plan_of(text: str, *, min_units: int | None = None, min_seconds: float | None = None) -> str | dict[str, Any]:
    """What the server takes for `--plan`: a name, steps, or what a JSON file holds."""
    if text.endswith(".json"):
        try:
            found = json.loads(Path(text).read_text())
        except ValueError as error:
            raise Invalid(f"{text} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise Invalid(f"{text}: a plan is an object with the fields of a plan.")
        return found
    changes = {key: value for key, value in (("min_units", min_units), ("min_seconds", min_seconds)) if value is not None}
    if not changes:
        return text
    with connect() as client:
        presets = {one.name: one for one in client.rollouts.plans()}
    if text in presets:
        steps = presets[text].steps
        return {"preset": text, "steps": [asdict(step) | (changes if step.share < 10_000 else {}) for step in steps]}
    try:
        shares = [float(part.strip().rstrip("%")) for part in text.split(",")]
    except ValueError:
        raise Invalid(f"{text!r} is no plan: there are {', '.join(presets)}, or steps in percent: 1,10,50,100.") from None
    return {"name": "custom", "steps": [{"share": round(share * 100), **(changes if share < 100 else {})} for share in shares]}


def told(begun: LiveRollout, *, as_json: bool, watch: bool) -> None:
    """What to say of a rollout that has begun."""
    if watch:
        follow(begun.id, as_json=as_json)
    else:
        output.show(begun, _begun, as_json=as_json)


def _begun(one: LiveRollout) -> None:
    versions = f"{one.stable_name} → {one.canary_name}"
    console().print(f"[bold]{one.deployment}[/]: {versions}, by the plan {one.plan.name}.", soft_wrap=True)
    note(f"[dim]Follow it: drivetrain rollout status {one.deployment} --watch[/]")


def follow(target: str, *, as_json: bool) -> None:
    """Show a rollout as it goes. Exit code 1 if it was taken back or aborted."""
    with connect(patience=20.0) as client:
        if as_json or not console().is_terminal:
            found = client.rollouts.wait(target, timeout=7 * 86_400.0)
            output.show(found, lambda one: console().print(shown(one)), as_json=as_json)
        else:
            found = output.live(client.rollouts.watch(target), shown)
    if found.state in (State.rolled_back, State.aborted):
        raise typer.Exit(output.FAILED)


def shown(found: WatchedRollout) -> RenderableType:
    """A rollout, as people read it."""
    from rich.console import Group
    from rich.text import Text

    head = Text.assemble(
        (found.deployment, "bold"), f"  {found.stable_name} → {found.canary_name}  ", (_word(found.state), _colour(found)),
        f"  {_percent(found.share)}", (f"   {found.id}", "dim"),
    )  # fmt: skip
    evidence = output.table("guardrail", "", ">evidence", found.canary_name, found.stable_name, "", title=None)
    for one in found.evidence:
        evidence.add_row(
            Text(one.measure + (" (signal)" if one.role == "signal" and one.measure != "assignment" else "")),
            Text(_word(one.verdict), style=_COLOURS.get(one.verdict, "")),
            Text(_value(one)),
            Text(_arm(one, "canary")),
            Text(_arm(one, "stable")),
            Text(one.words if one.verdict in ("mismatch", "no_measure", "blind", "waiting") else "", style="dim"),
        )
    decisions = output.table("when", "who", "what", ">share", "why")
    for done in found.decisions:
        decisions.add_row(ago(done.at_ms), done.actor, _word(done.action), _percent(done.share), Text(done.why))
    undo = next((done.undo for done in reversed(found.decisions) if done.undo), "")
    foot = Text(f"{_road(found)}   {found.why}" + (f"\nTo undo this, or to go on: {undo}" if undo else ""), style="dim")
    return Group(head, foot, Text(), evidence, Text(), decisions)


def forecast(found: Forecast) -> RenderableType:
    """A plan's forecast as a table."""
    from rich.console import Group
    from rich.text import Text

    steps = output.table("step", ">share", ">takes", ">units of the new version")
    for number, one in enumerate(found.steps, 1):
        share = _percent(one.share) if one.share else f"shadow {_percent(one.shadow)}"
        whole = one.share == 10_000
        takes = "never" if one.seconds is None else span(one.seconds)
        steps.add_row(str(number), share, "" if whole else takes, "" if whole else f"{one.units:,.0f}")
    people = found.people
    known = f" and {people.known:,.0f} who come back" if people.known else ""
    pace = f"With {people.fresh:.3g} new people a second{known}; {100 * found.base_rate:.3g} % of the answers are bad now:"
    return Group(Text(pace), Text(), steps, Text(), Text(found.words))


def _do(verb: str, target: str, why: str, *, as_json: bool) -> None:
    with connect() as client:
        _told(getattr(client.rollouts, verb)(target, why=why), as_json=as_json)


def _told(found: LiveRollout, *, as_json: bool) -> None:
    said = f"[bold]{found.deployment}[/]: {_word(found.state)}, {found.canary_name} has {_percent(found.share)}."
    output.show(found, said, as_json=as_json)


def _road(found: LiveRollout) -> str:
    parts = []
    for number, step in enumerate(found.plan.steps):
        text = _percent(step.share) if step.share else f"shadow {_percent(step.shadow)}"
        parts.append(f"[{text}]" if number == found.step and found.state not in ("rolled_back", "aborted") else text)
    return " · ".join(parts)


def _value(one: Evidence) -> str:
    value, threshold = one.value, one.threshold
    if value is None or threshold is None:
        return ""
    return f"{_short(value)} of {_short(threshold)}"


def _arm(one: Evidence, arm: str) -> str:
    units, bad, requests, bad_requests = (getattr(one, f"{arm}_{what}") for what in ("units", "bad", "requests", "bad_requests"))
    if one.measure == "assignment":
        return f"{units:,} units"
    if one.measure.endswith("_mean"):
        return f"{bad:.4g} ({units:,} units)"
    if requests > units:  # people who come back
        return f"{bad_requests:,} of {requests:,} requests of {units:,}"
    return f"{bad:,.0f} of {units:,}"


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value:.0e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(share: int) -> str:
    return f"{share / 100:g} %"


def _word(text: str) -> str:
    return text.replace("_", " ")


def _colour(found: LiveRollout) -> str:
    return _STATES.get(found.state, "yellow")


def _state(found: LiveRollout) -> Any:
    from rich.text import Text

    return Text(_word(found.state), style=_colour(found))
