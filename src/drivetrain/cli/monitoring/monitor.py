"""`drivetrain monitor` and `drivetrain drift`: what is asked of deployments all the time, and what has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from drivetrain.answers.monitoring import DriftReport
from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names
from drivetrain.cli.output import JsonFlag, ago, console, note
from drivetrain.errors import Invalid
from drivetrain.monitoring.model import Cohort, Monitor

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Name = Annotated[str, typer.Argument(help="The deployment.", autocompletion=deployment_names)]
Kind = Annotated[str, typer.Argument(help="errors, latency, drift or quality.")]
_COLOURS = {"ok": "green", "alarm": "red", "waiting": "yellow"}
SHOWN = 15
"""Features that are listed unless all are asked for: those with the greatest effects."""
WIDE = 120
"""Columns of a terminal from which on there is room for the words."""
_LEVELS = " ▁▂▃▄▅▆▇█"


@app.command("list")
def list_(name: Annotated[str | None, typer.Argument(help="One deployment alone.", autocompletion=deployment_names)] = None,
          as_json: JsonFlag = False) -> None:  # fmt: skip
    """Show what is asked of deployments, and the last answers."""
    with connect() as client:
        found = client.monitors.list(name)
    output.show(found, _table, as_json=as_json)


@app.command("set")
def set_(
    name: Name,
    kind: Kind,
    settings: Annotated[list[str], typer.Argument(help="KEY=VALUE …: rows=500, share=0.02, p95_ms=300 …")],
    as_json: JsonFlag = False,
) -> None:
    """Change settings of a monitor.

    `drivetrain monitor set classifier drift rows=500 persistence=3 of=5`
    """
    with connect() as client:
        changed = client.monitors.set(name, kind, **dict(_setting(text) for text in settings))
    said = f"{kind} of {name}: " + ", ".join(f"{key}={value}" for key, value in changed.config.items())
    output.show(changed, said, as_json=as_json)


@app.command()
def pause(name: Name, kind: Kind, as_json: JsonFlag = False) -> None:
    """Let a monitor rest."""
    _pause(name, kind, True, as_json)


@app.command()
def resume(name: Name, kind: Kind, as_json: JsonFlag = False) -> None:
    """Let a monitor ask again."""
    _pause(name, kind, False, as_json)


@app.command()
def quality(
    name: Name,
    hours: Annotated[float, typer.Option(min=0.1, help="How far back.")] = 24.0,
    step_minutes: Annotated[int, typer.Option(min=1, help="Answers of so many minutes are one line.")] = 60,
    as_json: JsonFlag = False,
) -> None:
    """Show how right the answers were, by the labels that came for them and the time of the answers."""
    import time

    with connect() as client:
        since = int((time.time() - hours * 3600) * 1000)
        found = client.monitors.performance(name, since_ms=since, step_ms=step_minutes * 60_000)
        variants = {variant.id: variant.name for variant in client.deployments.get(name).variants}
    output.show(found, lambda cohorts: _cohorts(cohorts, variants), as_json=as_json)


def drift(
    name: Name,
    window: Annotated[str | None, typer.Option(help="An earlier window, by its id.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All features, not only those with the greatest effects.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show whether inputs and outputs are still like the training data: every feature with its effect, the greatest first.

    Effects are in robust standard deviations of the reference (Wasserstein), Jensen–Shannon distances of categories, or Cohen's h where
    there are two values.
    """
    with connect() as client:
        found = client.monitors.drift(name, window=window)
        monitor = next((one for one in client.monitors.list(name) if one.kind == "drift"), None)
    output.show(found, lambda report: _report(report, monitor, every=every), as_json=as_json)


def _table(monitors: list[Monitor]) -> None:
    made = output.table("deployment", "monitor", "state", "answer", "asked")
    lines = [(one.deployment, one.kind, _state(one), one.words, ago(one.checked_ms)) for one in monitors]
    output.rows(made, lines, empty="Nothing is deployed, so nothing is watched. Deploy something: drivetrain deploy NAME MODEL")


def _cohorts(cohorts: Sequence[Cohort], variants: dict[str, str]) -> None:
    made = output.table("answers from", "variant", ">labelled", ">right", "95 %", ">labels took")
    lines = [
        (
            ago(one.from_ms),
            variants.get(one.variant, one.variant[-8:]),
            f"{one.labelled:,}",
            f"{one.accuracy:.1%}",
            f"{one.low:.1%} – {one.high:.1%}",
            f"{one.delay_ms / 1000:,.0f} s",
        )
        for one in cohorts
    ]
    output.rows(made, lines, empty="No labels have come for these answers. Send them: drivetrain feedback REQUEST_ID label VALUE --label")


def _report(report: DriftReport, monitor: Monitor | None, *, every: bool) -> None:
    from rich.text import Text

    bad = [feature for feature in report.features if feature.drifted]
    console().print(
        f"[bold]{report.deployment}[/]: {len(bad)} of {len(report.features)} features in {report.window.rows:,} rows have drifted.",
        soft_wrap=True,
    )
    note(f"[dim]Reference: {report.source or 'a profile'} ({report.rows_reference:,} rows).[/]")
    if monitor is not None:
        note(f"[dim]Monitor: {monitor.words}[/]")
    features = report.features if every else report.features[:SHOWN]
    wide = console().width >= WIDE
    made = output.table("feature", "", ">effect", ">no drift", "reference", "now", *([""] if wide else []))
    lines = [
        (
            feature.name,
            Text("drifted" if feature.drifted else "", style="red"),
            f"{feature.effect:.3f}",
            f"{feature.expected:.3f}",
            bars([bar.reference for bar in feature.bars]),
            bars([bar.live for bar in feature.bars]),
            *([feature.words] if wide else []),
        )
        for feature in features
    ]
    output.rows(made, lines, empty="The report has no features.")
    if len(features) < len(report.features):
        note(f"[dim]{len(report.features) - len(features)} more, with smaller effects: --all shows them.[/]")


def bars(shares: list[float]) -> str:
    """A histogram in one line of text."""
    top = max(shares, default=0.0) or 1.0
    return "".join(_LEVELS[round(share / top * (len(_LEVELS) - 1))] for share in shares)


def _state(one: Monitor) -> Any:
    from rich.text import Text

    return Text("paused", style="dim") if one.paused else Text(one.state, style=_COLOURS.get(one.state, ""))


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise Invalid(f"{text!r}: write settings as KEY=VALUE.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _pause(name: str, kind: str, paused: bool, as_json: bool) -> None:
    with connect() as client:
        changed = client.monitors.set(name, kind, paused=paused)
    rests = f"{kind} of {name} rests. Let it go on: drivetrain monitor resume {name} {kind}"
    output.show(changed, rests if paused else f"{kind} of {name} is asked again.", as_json=as_json)
