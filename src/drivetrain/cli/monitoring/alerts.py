"""`drivetrain alerts`: what is wrong, on what evidence, how to undo it; who is told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec.structs import asdict

from drivetrain.answers.monitoring import AlertTold, ChannelMade
from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names
from drivetrain.cli.output import JsonFlag, ago, console, note
from drivetrain.errors import Invalid
from drivetrain.monitoring.model import Alert, Channel, Delivery, Silence

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
channels = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Where alerts go: log, webhooks, e-mail.")
app.add_typer(channels, name="channels")

AlertId = Annotated[str, typer.Argument(help="The alert's id, or the end of it.")]
_COLOURS = {"bad": "red", "warn": "yellow", "info": "dim"}
_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0}


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    deployment: Annotated[str | None, typer.Option(help="Of one deployment.", autocompletion=deployment_names)] = None,
    as_json: JsonFlag = False,
) -> None:
    """List what is wrong, the newest first."""
    with connect() as client:
        found = client.alerts.list(state=None if everything else "lasting", deployment=deployment)
    empty = "There has been no alert." if everything else "Nothing is wrong."
    output.show(found, lambda alerts: _table(alerts, empty), as_json=as_json)


@app.command()
def show(alert: AlertId, as_json: JsonFlag = False) -> None:
    """Show an alert: what was seen, the numbers, how to undo it, and who was told."""
    with connect() as client:
        found = client.alerts.get(alert)
        names = {channel.id: channel.name for channel in client.alerts.channels()}
    output.show(found, lambda one: _alert(one, names), as_json=as_json)


@app.command()
def ack(alert: AlertId, as_json: JsonFlag = False) -> None:
    """Say that you look after it."""
    with connect() as client:
        one = client.alerts.acknowledge(alert)
    output.show(one, f"You look after: {one.title}", as_json=as_json)


@app.command()
def resolve(alert: AlertId, as_json: JsonFlag = False) -> None:
    """Say that it is over. Seen again, it is raised anew."""
    with connect() as client:
        one = client.alerts.resolve(alert)
    output.show(one, f"Resolved: {one.title}", as_json=as_json)


@app.command()
def silence(
    length: Annotated[str, typer.Argument(metavar="FOR", help="How long: 30m, 8h, 2d.")],
    deployment: Annotated[str, typer.Option(help="Of one deployment.", autocompletion=deployment_names)] = "",
    source: Annotated[str, typer.Option(help="Of one source: rollout, errors, latency, drift, quality, retraining.")] = "",
    why: Annotated[str, typer.Option(help="The reason, for others.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Tell nobody of some alerts for a while. They are still recorded.

    `drivetrain alerts silence 2h --deployment classifier --why "moving the database"`
    """
    parsed = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", length)
    if parsed is None:
        raise Invalid(f"{length!r}: write how long as 30m, 8h or 2d.")
    with connect() as client:
        made = client.alerts.silence(deployment=deployment, source=source, seconds=float(parsed[1]) * _UNITS[parsed[2]], why=why)
    output.show(made, lambda one: _silent(one, length), as_json=as_json)


@app.command()
def silences(as_json: JsonFlag = False) -> None:
    """List the silences that have not ended."""
    with connect() as client:
        found = client.alerts.silences()
    output.show(found, _silences, as_json=as_json)


@app.command()
def unsilence(silence: Annotated[str, typer.Argument(help="The silence's id.")], as_json: JsonFlag = False) -> None:
    """End a silence."""
    with connect() as client:
        client.alerts.end_silence(silence)
    output.show({"id": silence, "ended": True}, "Alerts are told again.", as_json=as_json)


@channels.command("list")
def list_channels(as_json: JsonFlag = False) -> None:
    """List the channels, and whether they work."""
    with connect() as client:
        found = client.alerts.channels()
    output.show(found, _channels, as_json=as_json)


@channels.command("add")
def add_channel(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    kind: Annotated[str, typer.Argument(help="log, webhook or email.")],
    url: Annotated[str, typer.Argument(help="https://… ; smtp://user:password@host:587?from=a@b&to=c@d")] = "",
    least: Annotated[str, typer.Option(help="The least severity that is told: info, warn, bad.")] = "warn",
    as_json: JsonFlag = False,
) -> None:
    """Add a channel, and send a test through it."""
    with connect() as client:
        made = client.alerts.add_channel(name, kind, url, least=least)
        tested = client.alerts.test_channel(name)
    output.show({**asdict(made), "test": tested}, lambda _: _added(made, tested), as_json=as_json)


@channels.command("test")
def test_channel(name: Annotated[str, typer.Argument(help="The channel.")], as_json: JsonFlag = False) -> None:
    """Send a test through a channel."""
    with connect() as client:
        tested = client.alerts.test_channel(name)
    arrived = tested.state == "sent"
    output.show(tested, "It has arrived." if arrived else f"It has not arrived: {tested.error or 'it is still queued'}", as_json=as_json)
    if not arrived:
        raise typer.Exit(output.FAILED)


@channels.command("remove")
def remove_channel(name: Annotated[str, typer.Argument(help="The channel.")], as_json: JsonFlag = False) -> None:
    """Send nothing there any more."""
    with connect() as client:
        client.alerts.delete_channel(name)
    output.show({"name": name, "deleted": True}, f"Nothing goes to {name} any more.", as_json=as_json)


def _table(alerts: list[Alert], empty: str) -> None:
    made = output.table("alert", "severity", "state", "what", ">seen", "last")
    lines = [
        (
            one.id[-8:],
            f"[{_COLOURS[one.severity]}]{one.severity}[/]",
            one.state + (f" by {one.by}" if one.by else ""),
            one.title,
            one.count,
            ago(one.last_ms),
        )
        for one in alerts
    ]
    output.rows(made, lines, empty=empty)
    if alerts:
        note("[dim]See the evidence, and how to undo it: drivetrain alerts show ALERT[/]")


def _alert(one: AlertTold, channels: dict[str, str]) -> None:
    """`channels`: their names by their ids."""
    console().print(f"[{_COLOURS[one.severity]} bold]{one.title}[/]  {one.state}, seen {one.count} times, last {ago(one.last_ms)}")
    console().print(one.text, soft_wrap=True)
    for key, value in one.evidence.items():
        if isinstance(value, (int, float, str)):
            console().print(f"  [dim]{key}[/] {value:.4g}" if isinstance(value, float) else f"  [dim]{key}[/] {value}")
    if one.undo:
        console().print(f"Undo: {one.undo}", soft_wrap=True)
    for delivery in one.deliveries:
        told = f"{channels.get(delivery.channel_id, 'a channel')}: {delivery.what} {delivery.state}"
        note(f"[dim]{told}{' (' + delivery.error + ')' if delivery.error else ''}[/]")


def _silent(one: Silence, length: str) -> None:
    of, source = f" of {one.deployment}" if one.deployment else "", f" from {one.source}" if one.source else ""
    console().print(f"Nobody is told of alerts{of}{source} for {length}.")
    note(f"[dim]End it before: drivetrain alerts unsilence {one.id}[/]")


def _silences(silences: Sequence[Silence]) -> None:
    lines = [(one.id, one.deployment or "all", one.source or "all", one.created_by, one.why) for one in silences]
    output.rows(output.table("silence", "deployment", "source", "by", "why"), lines, empty="None.")


def _channels(channels: Sequence[Channel]) -> None:
    made = output.table("channel", "kind", "where", "from", "last arrived", "problem")
    lines = [(one.name, one.kind, one.target, one.least, ago(one.worked_ms) or "never", one.problem) for one in channels]
    output.rows(made, lines, empty="Nobody is told of alerts. Add a channel: drivetrain alerts channels add team webhook https://…")


def _added(made: ChannelMade, tested: Delivery) -> None:
    arrived = "a test has arrived" if tested.state == "sent" else f"[red]the test has not arrived: {tested.error}[/]"
    console().print(f"Alerts from {made.least} on go to {made.target}; {arrived}", soft_wrap=True)
    if made.key:
        console().print(f"Messages are signed (header X-Drivetrain-Signature) with this key, which is not shown again: [bold]{made.key}[/]")
