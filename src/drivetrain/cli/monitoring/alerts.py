"""`drivetrain alerts`: what is wrong, on what evidence, how to undo it; who is told."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect, deployment_names
from drivetrain.cli.output import JsonFlag, ago, console, emit, note
from drivetrain.errors import Invalid

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
channels = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Where alerts go: log, webhooks, e-mail.")
app.add_typer(channels, name="channels")

Alert = Annotated[str, typer.Argument(help="The alert's id, or the end of it.")]
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
    if as_json:
        emit(found)
        return
    made = output.table("alert", "severity", "state", "what", ">seen", "last")
    lines = [
        (
            one["id"][-8:],
            f"[{_COLOURS[one['severity']]}]{one['severity']}[/]",
            one["state"] + (f" by {one['by']}" if one["by"] else ""),
            one["title"],
            one["count"],
            ago(one["last_ms"]),
        )
        for one in found
    ]
    output.rows(made, lines, empty="Nothing is wrong." if not everything else "There has been no alert.")
    if found:
        note("[dim]See the evidence, and how to undo it: drivetrain alerts show ALERT[/]")


@app.command()
def show(alert: Alert, as_json: JsonFlag = False) -> None:
    """Show an alert: what was seen, the numbers, how to undo it, and who was told."""
    with connect() as client:
        one = client.alerts.get(alert)
        names = {channel["id"]: channel["name"] for channel in client.alerts.channels()}
    if as_json:
        emit(one)
        return
    console().print(
        f"[{_COLOURS[one['severity']]} bold]{one['title']}[/]  {one['state']}, seen {one['count']} times, last {ago(one['last_ms'])}"
    )
    console().print(one["text"], soft_wrap=True)
    for key, value in one["evidence"].items():
        if isinstance(value, (int, float, str)):
            console().print(f"  [dim]{key}[/] {value:.4g}" if isinstance(value, float) else f"  [dim]{key}[/] {value}")
    if one["undo"]:
        console().print(f"Undo: {one['undo']}", soft_wrap=True)
    for delivery in one["deliveries"]:
        told = f"{names.get(delivery['channel_id'], 'a channel')}: {delivery['what']} {delivery['state']}"
        note(f"[dim]{told}{' (' + delivery['error'] + ')' if delivery['error'] else ''}[/]")


@app.command()
def ack(alert: Alert, as_json: JsonFlag = False) -> None:
    """Say that you look after it."""
    with connect() as client:
        one = client.alerts.acknowledge(alert)
    emit(one) if as_json else console().print(f"You look after: {one['title']}")


@app.command()
def resolve(alert: Alert, as_json: JsonFlag = False) -> None:
    """Say that it is over. Seen again, it is raised anew."""
    with connect() as client:
        one = client.alerts.resolve(alert)
    emit(one) if as_json else console().print(f"Resolved: {one['title']}")


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
    if as_json:
        emit(made)
        return
    console().print(
        f"Nobody is told of alerts{' of ' + deployment if deployment else ''}{' from ' + source if source else ''} for {length}."
    )
    note(f"[dim]End it before: drivetrain alerts unsilence {made['id']}[/]")


@app.command()
def silences(as_json: JsonFlag = False) -> None:
    """List the silences that have not ended."""
    with connect() as client:
        found = client.alerts.silences()
    if as_json:
        emit(found)
        return
    made = output.table("silence", "deployment", "source", "by", "why")
    output.rows(made, [(s["id"], s["deployment"] or "all", s["source"] or "all", s["created_by"], s["why"]) for s in found], empty="None.")


@app.command()
def unsilence(silence: Annotated[str, typer.Argument(help="The silence's id.")], as_json: JsonFlag = False) -> None:
    """End a silence."""
    with connect() as client:
        client.alerts.end_silence(silence)
    emit({"id": silence, "ended": True}) if as_json else console().print("Alerts are told again.")


@channels.command("list")
def list_channels(as_json: JsonFlag = False) -> None:
    """List the channels, and whether they work."""
    with connect() as client:
        found = client.alerts.channels()
    if as_json:
        emit(found)
        return
    made = output.table("channel", "kind", "where", "from", "last arrived", "problem")
    lines = [
        (c["name"], c["kind"], c["target"], c["least"], ago(c["worked_ms"]) if c["worked_ms"] else "never", c["problem"]) for c in found
    ]
    output.rows(made, lines, empty="Nobody is told of alerts. Add a channel: drivetrain alerts channels add team webhook https://…")


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
    if as_json:
        emit({**made, "test": tested})
        return
    arrived = "a test has arrived" if tested["state"] == "sent" else f"[red]the test has not arrived: {tested['error']}[/]"
    console().print(f"Alerts from {least} on go to {made['target']}; {arrived}", soft_wrap=True)
    if made["key"]:
        console().print(
            f"Messages are signed (header X-Drivetrain-Signature) with this key, which is not shown again: [bold]{made['key']}[/]"
        )


@channels.command("test")
def test_channel(name: Annotated[str, typer.Argument(help="The channel.")], as_json: JsonFlag = False) -> None:
    """Send a test through a channel."""
    with connect() as client:
        tested = client.alerts.test_channel(name)
    if as_json:
        emit(tested)
    else:
        console().print(
            "It has arrived." if tested["state"] == "sent" else f"It has not arrived: {tested['error'] or 'it is still queued'}"
        )
    if tested["state"] != "sent":
        raise typer.Exit(output.FAILED)


@channels.command("remove")
def remove_channel(name: Annotated[str, typer.Argument(help="The channel.")], as_json: JsonFlag = False) -> None:
    """Send nothing there any more."""
    with connect() as client:
        client.alerts.delete_channel(name)
    emit({"name": name, "deleted": True}) if as_json else console().print(f"Nothing goes to {name} any more.")
