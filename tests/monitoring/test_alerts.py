"""Alerts and channels: raised once, told once, silenced, resolved; nothing is lost, and nobody sees another workspace's."""

from __future__ import annotations

import email
import email.policy
import json
import socketserver
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.service import Identity
from drivetrain.loops.alerts import AlertSender
from drivetrain.loops.loop import Loop
from drivetrain.monitoring.alerts.channels import Channels
from drivetrain.monitoring.alerts.service import Alerts
from drivetrain.monitoring.model import Alert, AlertState
from drivetrain.store.leases import Leases
from drivetrain.store.sql import Database

ME = Context(user_id="u1", user_name="ada", workspace_id="w1", workspace="default")
OTHER = Context(user_id="u2", user_name="bob", workspace_id="w2", workspace="other")


@pytest.fixture
def nudges() -> list[str]:
    return []


@pytest.fixture
def alerts(database: Database, nudges: list[str]) -> Alerts:
    return Alerts(database, nudges.append)


@pytest.fixture
def channels(database: Database) -> Channels:
    return Channels(database, Identity(database, b"k" * 32).secrets, lambda _: None)


@pytest.fixture
def tell(database: Database, channels: Channels, tmp_path: Path) -> Callable[[], object]:
    """One round of the loop that sends."""
    sender = AlertSender(channels, tmp_path, lambda: "http://localhost:1")
    loop = Loop("alerts", sender.step, interval=5.0, leases=Leases(database, "s1"), lease=60.0)
    return loop.step


def wrong(alerts: Alerts, key: str = "errors:1", **changes: Any) -> Alert:
    values = {"deployment": "digits", "source": "errors", "severity": "warn", "title": "digits errs", "text": "7 %", "undo": "roll back"}
    return alerts.raise_alert(workspace_id="w1", key=key, evidence={"share": 0.07}, **{**values, **changes})


def test_what_lasts_is_one_alert(alerts: Alerts, nudges: list[str]) -> None:
    first = wrong(alerts)
    again = wrong(alerts, text="8 %")
    assert (again.id, again.count, again.text, again.first_ms) == (first.id, 2, "8 %", first.first_ms)
    assert nudges == ["alerts"]
    wrong(alerts, severity="bad")
    assert nudges == ["alerts", "alerts"]
    assert [alert.id for alert in alerts.list(ME, state="lasting")] == [first.id]
    assert alerts.lasting("w1", "digits")[0].evidence == {"share": 0.07}


def test_acknowledged_resolved_and_raised_anew(alerts: Alerts) -> None:
    first = wrong(alerts)
    assert alerts.acknowledge(ME, first.id[-8:]).state is AlertState.acknowledged
    assert wrong(alerts).state is AlertState.acknowledged
    resolved = alerts.resolve(ME, first.id)
    assert (resolved.state, resolved.by) == (AlertState.resolved, "ada")
    assert alerts.resolve(ME, first.id) == resolved
    second = wrong(alerts)
    assert second.id != first.id
    assert alerts.resolve_key("w1", "errors:1")
    assert not alerts.resolve_key("w1", "errors:1")
    assert [alert.id for alert in alerts.list(ME, state="resolved")] == [second.id, first.id]


def test_another_workspace_sees_nothing(alerts: Alerts, channels: Channels) -> None:
    mine = wrong(alerts)
    channels.add(ME, "log", "log")
    assert alerts.list(OTHER) == []
    for act in (alerts.get, alerts.acknowledge, alerts.resolve):
        with pytest.raises(NotFound):
            act(OTHER, mine.id)
    with pytest.raises(NotFound):
        channels.test(OTHER, "log")
    with pytest.raises(Forbidden):
        channels.add(replace(ME, scopes=frozenset({Scope.read, Scope.write})), "team", "log")


def test_told_in_one_message_and_once(alerts: Alerts, channels: Channels, tell: Callable[[], object], tmp_path: Path) -> None:
    channels.add(ME, "file", "log")
    channels.add(ME, "pager", "log", least="bad")
    one, two = wrong(alerts), wrong(alerts, "latency:1", source="latency", title="digits is slow")
    wrong(alerts, "errors:2", deployment="other")
    tell()
    tell()
    lines = [json.loads(line) for line in (tmp_path / "alerts.log").read_text().splitlines()]
    assert (lines[0]["deployment"], [alert["id"] for alert in lines[0]["alerts"]]) == ("digits", [one.id, two.id])
    assert len(lines) == 2
    assert lines[0]["alerts"][0]["url"] == f"http://localhost:1/alerts/{one.id}"
    assert "Undo: roll back" in lines[0]["text"]
    assert {delivery.state for delivery in channels.deliveries(ME)} == {"sent"}
    assert channels.get(ME, "file").worked_ms is not None
    assert channels.get(ME, "pager").worked_ms is None


def test_silence(alerts: Alerts, channels: Channels, tell: Callable[[], object], tmp_path: Path) -> None:
    channels.add(ME, "file", "log")
    silence = alerts.silence(ME, deployment="digits", source="errors", seconds=3600, why="moving house")
    assert alerts.silences(ME) == [silence]
    quiet = wrong(alerts)
    loud = wrong(alerts, "latency:1", source="latency")
    tell()
    told = [alert["id"] for line in (tmp_path / "alerts.log").read_text().splitlines() for alert in json.loads(line)["alerts"]]
    assert told == [loud.id]
    assert alerts.get(ME, quiet.id).state is AlertState.open
    alerts.end_silence(ME, silence.id)
    assert alerts.silences(ME) == []
    with pytest.raises(Invalid):
        alerts.silence(ME, seconds=1e9)


def test_what_cannot_arrive_is_tried_again_and_then_given_up(alerts: Alerts, channels: Channels, tell: Callable[[], object]) -> None:
    channel, key = channels.add(ME, "team", "webhook", "http://127.0.0.1:9/secret-path")
    assert key
    assert "secret-path" not in channel.target
    wrong(alerts)
    tell()
    (delivery,) = channels.deliveries(ME)
    assert (delivery.state, delivery.attempts) == ("queued", 1)
    assert "could not be reached" in channels.get(ME, "team").problem
    tell()  # too early: it waits longer each time
    assert channels.delivery(ME, delivery.id).attempts == 1
    for _ in range(20):
        channels.settled([delivery.id], error="still not")
    assert channels.delivery(ME, delivery.id).state == "failed"


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as a sender needs."""

    def handle(self) -> None:
        got: list[bytes] = []
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while (part := self.rfile.readline()) != b".\r\n":
                    got.append(part)
                self.server.mails.append(b"".join(got))  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


def test_mail(alerts: Alerts, channels: Channels, tell: Callable[[], object]) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        server.mails = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        channels.add(ME, "post", "email", f"smtp://127.0.0.1:{port}?from=dt@example.org&to=ada@example.org")
        alert = wrong(alerts)
        tell()
        server.shutdown()
        (raw,) = server.mails  # type: ignore[attr-defined]
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["To"] == "ada@example.org"
    assert mail["Subject"] == "[drivetrain] Warning: digits errs"
    assert f"http://localhost:1/alerts/{alert.id}" in mail.get_content()


@pytest.mark.parametrize(
    ("kind", "url"),
    [("webhook", "ftp://x/y"), ("webhook", "file:///etc/passwd"), ("webhook", "https://"), ("email", "smtp://host"), ("pigeon", "")],
)
def test_addresses_that_cannot_be(channels: Channels, kind: str, url: str) -> None:
    with pytest.raises(Invalid):
        channels.add(ME, "team", kind, url)
    assert channels.list(ME) == []


def test_a_channel_is_there_once_and_goes(channels: Channels) -> None:
    channels.add(ME, "team", "email", "smtp://me:pw@mail.example.org:587?from=a@example.org&to=b@example.org")
    assert channels.get(ME, "team").target == "b@example.org by smtp://mail.example.org:587"
    with pytest.raises(Conflict):
        channels.add(ME, "team", "log")
    channels.delete(ME, "team")
    with pytest.raises(NotFound):
        channels.get(ME, "team")
