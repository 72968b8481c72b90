"""Monitors on a real server: drift against the training data's profile, quality by labels, alerts that tell it and end."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_digits

import drivetrain
from drivetrain.client import Client
from drivetrain.monitoring.model import Monitor
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow
X, Y = load_digits(return_X_y=True)


class Hook:
    """A webhook's receiver. It refuses the first message, as one that is just restarting would."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.refused = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not hook.refused:
                    hook.refused += 1
                    self.send_error(503)
                    return
                hook.got.append((dict(self.headers.items()), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def alerts(self) -> list[tuple[str, str]]:
        return [(one["what"], one["source"]) for _, body in self.got for one in json.loads(body)["alerts"]]


@pytest.fixture
def hook() -> Iterator[Hook]:
    one = Hook()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def client(new_server: Callable[..., Server], digits_model: Path) -> Iterator[Client]:
    server = new_server()
    with Client(server.url, server.token) as client:
        run = client.connection.json("POST", "/api/v1/runs", {"experiment": "digits"})
        logged = drivetrain.log_profile(X, run_id=run["id"], client=client)
        assert logged.rows == len(X)
        client.push(digits_model, "digits", run_id=run["id"])
        client.deployments.deploy("digits", "digits@1")
        client.deployments.wait("digits")
        client.monitors.set("digits", "drift", rows=100, seconds=0.1)
        client.monitors.set("digits", "quality", least=50)
        yield client


def ask(client: Client, rows: Any, labels: Any) -> None:
    with httpx.Client(base_url=client.url, timeout=60) as http:
        for row, label in zip(rows, labels, strict=True):
            answer = http.post("/invoke/digits/invocations", json={"inputs": [row.tolist()]}).raise_for_status()
            body = {"name": "digit", "kind": "label", "value": int(label)}
            http.post(f"/api/v1/requests/{answer.headers['x-request-id']}/feedback", json=body).raise_for_status()


def windows(client: Client, least: int) -> None:
    wait_for(lambda: len(client.monitors.windows("digits")) >= least, what=f"{least} windows")


def monitor(client: Client, kind: str) -> Monitor:
    return next(one for one in client.monitors.list("digits") if one.kind == kind)


def test_drift_and_quality(client: Client, hook: Hook) -> None:
    random = np.random.default_rng(0)
    channel = client.alerts.add_channel("team", "webhook", hook.url)
    assert client.alerts.test_channel("team", seconds=0).state == "queued"

    order = random.permutation(len(X))
    ask(client, X[order[:120]], Y[order[:120]])
    windows(client, 1)
    report = client.monitors.drift("digits")
    assert report.source.startswith("the training data of run")
    assert [feature.name for feature in report.features if feature.drifted] == []
    wait_for(lambda: monitor(client, "quality").state == "ok", what="quality is judged")

    # The pictures come upside down and noisy.
    for i in range(2):
        some = order[120 + 120 * i : 240 + 120 * i]
        turned = np.clip(X[some].reshape(-1, 8, 8)[:, ::-1, ::-1].reshape(-1, 64) + random.normal(0, 3, (120, 64)), 0, 16)
        ask(client, turned, Y[some])
        windows(client, 2 + i)
    wait_for(lambda: monitor(client, "drift").state == "alarm", what="drift is an alarm")
    wait_for(lambda: monitor(client, "quality").state == "alarm", what="bad quality is an alarm")
    drifted = [feature for feature in client.monitors.drift("digits").features if feature.drifted]
    assert len(drifted) > 10
    assert all(abs(sum(bar.live for bar in feature.bars) - 1) < 1e-6 for feature in drifted)

    lasting = {alert.source: alert for alert in client.alerts.list(state="lasting")}
    assert {"drift", "quality"} <= lasting.keys()
    assert lasting["quality"].evidence["accuracy"] < lasting["quality"].evidence["before"]
    assert "drivetrain monitor pause" in lasting["drift"].undo

    # Told once each, signed; what was refused at first has come too.
    wait_for(lambda: {("raised", "drift"), ("raised", "quality")} <= set(hook.alerts()), what="the webhook hears of both")
    assert hook.refused == 1
    for headers, body in hook.got:
        at, _, sign = headers["X-Drivetrain-Signature"].removeprefix("t=").partition(",v1=")
        assert hmac.compare_digest(sign, hmac.new(channel.key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest())
    assert hook.alerts().count(("raised", "drift")) == 1

    # As they were: the alert ends by itself.
    fresh = order[360:]
    for i in range(3):
        ask(client, X[fresh[120 * i : 120 * i + 120]], Y[fresh[120 * i : 120 * i + 120]])
        windows(client, 4 + i)
    wait_for(lambda: ("resolved", "drift") in hook.alerts(), what="the end is told")
    cohorts = client.monitors.performance("digits", step_ms=86_400_000)
    assert sum(cohort.labelled for cohort in cohorts) == 720
