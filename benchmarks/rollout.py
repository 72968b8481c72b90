"""How soon a rollout lets go of a version: from the decision, as it is written down, to the last request that still began on it.

One server with two web processes, two replicas, four clients that ask without a pause. One version is taken back by somebody, one by
drivetrain, since it fails for three inputs in ten. Requests that fail for another reason than that are counted too.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks import common
from benchmarks.common import alternate, report, until
from drivetrain.client import Client

REPEATS = 5
CLIENTS = 4
MODELS = """
import sys
import mlflow, numpy as np
from sklearn.base import BaseEstimator

class Doubler(BaseEstimator):
    def __init__(self, errs=False):
        self.errs = errs

    def fit(self, x, y=None):
        return self

    def predict(self, x):
        x = np.asarray(x, dtype=float)
        if self.errs and (x[:, 1] < 0.3).any():
            raise ArithmeticError("this input is too much")
        return x[:, 0] * 2

for name, errs in (("good", False), ("erring", True)):
    mlflow.sklearn.save_model(Doubler(errs), f"{sys.argv[1]}/{name}", serialization_format="cloudpickle", pip_requirements=["scikit-learn"])
"""


class Traffic:
    """Clients that ask until the end of the block. `failed`: ids of requests that were not answered with 200."""

    def __init__(self, url: str) -> None:
        self.asked = 0
        self.failed: list[str] = []
        self._url = url
        self._units = itertools.count(time.time_ns())
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def more(self, count: int) -> None:
        goal = self.asked + count
        until(lambda: self.asked >= goal)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while not self._stop.is_set():
                unit = next(self._units)
                body = {"inputs": [[1.0, unit % 1000 / 1000]]}
                answer = http.post("/invoke/live/invocations", json=body, headers={"x-drivetrain-unit": str(unit)})
                self.asked += 1
                if answer.status_code != 200:
                    self.failed.append(answer.headers.get("x-request-id", ""))


def plan(*, alone: bool) -> dict[str, Any]:
    """Steps that go on by themselves only when somebody or harm ends them."""
    step = {"share": 5_000 if alone else 1_000, "min_units": 10**6}
    return {"name": "held", "steps": [step, {"share": 10_000}], "guardrails": ["errors"], "settle_seconds": 0}


def events(client: Client, rollout: str) -> list[dict[str, Any]]:
    """All events from the rollout's first on."""
    found: list[dict[str, Any]] = []
    while True:
        before = {"before": found[-1]["id"]} if found else {}
        some = client.connection.json("GET", "/api/v1/events", params={"deployment": "live", "limit": 1000} | before)["events"]
        found += some
        if not some or found[-1]["id"] < rollout:
            return [one for one in found if one["id"] >= rollout]


def measured(client: Client, traffic: Traffic, rollout: str) -> dict[str, float]:
    """What the events say of a rollout that was taken back, after some more traffic."""
    traffic.more(200)
    shown = client.rollouts.get(rollout)
    decision = next(one for one in shown.decisions if one.action == "rolled_back")
    of = events(client, rollout)
    canary = [one for one in of if one["variant"] == shown.canary]
    its = {one["id"] for one in canary}
    last = max(one["t"] for one in canary) / 1e6
    return {
        "decision to the last request begun on it (ms)": max(0.0, last - decision.at_ms),
        "units of it until then": float(len(canary)),
        "other requests that failed": float(sum(one not in its for one in traffic.failed)),
    }


def by_hand(client: Client, url: str) -> dict[str, float]:
    with Traffic(url) as traffic:
        rollout = str(client.rollouts.start("live", "doubler@1", plan=plan(alone=True)).id)
        until(lambda: client.rollouts.get(rollout).state == "running")
        traffic.more(200)
        client.rollouts.rollback(rollout)
        return measured(client, traffic, rollout)


def for_harm(client: Client, url: str) -> dict[str, float]:
    with Traffic(url) as traffic:
        rollout = str(client.rollouts.start("live", "doubler@2", plan=plan(alone=False)).id)
        until(lambda: client.rollouts.get(rollout).state == "rolled_back")
        return measured(client, traffic, rollout)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        subprocess.run([sys.executable, "-c", MODELS, folder], check=True, capture_output=True, env=environ)
        with common.drivetrain(Path(folder) / "home", "--web", "2") as url, Client(url, "", patience=30) as client:
            for name in ("good", "erring"):
                client.push(Path(folder) / name, "doubler")
            client.deployments.deploy("live", "doubler@1", wait=True)
            contenders: dict[str, Callable[[], dict[str, float]]] = {
                "taken back by somebody": partial(by_hand, client, url),
                "taken back for harm": partial(for_harm, client, url),
            }
            samples = alternate(contenders, repeats=REPEATS)
    report(
        "rollout",
        "From the decision to take a version back to the last request that began on it",
        samples,
        notes="Four clients without a pause; two web processes. The version taken back for harm had 10 % of the traffic and failed for "
        "30 % of the inputs. Times of events and decisions are of one clock, to the millisecond.",
    )


if __name__ == "__main__":
    main()
