"""Rollouts on a real server with real replicas: models that misbehave in one way each, and traffic that never stops."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from drivetrain.answers.rollouts import WatchedRollout
from drivetrain.client import Client
from drivetrain.store.events.model import Event
from drivetrain.store.events.spoolfiles import spool_files
from drivetrain.store.sql import Database
from tests.conftest import Server, wait_for

KINDS = {"good": "", "better": "", "erring": "raise", "slow": "sleep", "wrong": "wrong", "dear": ""}
"""Versions of one model, in this order: 1 is good, 2 is as good, 3 fails for some inputs, and so on."""
VERSION = {kind: number for number, kind in enumerate(KINDS, 1)}
MAKE = """
import sys, time
import mlflow, numpy as np
from sklearn.base import BaseEstimator

class Doubler(BaseEstimator):
    \"\"\"Doubles its first column. Of the second, a number from 0 to 1, the lower 30 % are the inputs that it misbehaves for.\"\"\"

    def __init__(self, fault="", salt=0):
        self.fault = fault
        self.salt = salt

    def fit(self, x, y=None):
        return self

    def predict(self, x):
        x = np.asarray(x, dtype=float)
        right, odd = x[:, 0] * 2, x[:, 1] < 0.3
        if self.fault == "raise" and odd.any():
            raise ArithmeticError("this input is too much")
        if self.fault == "sleep" and odd.any():
            time.sleep(0.6)
        return np.where(odd, -1.0, right) if self.fault == "wrong" else right

for number, argument in enumerate(sys.argv[2:]):
    kind, fault = argument.split("=")
    mlflow.sklearn.save_model(
        Doubler(fault, number), f"{sys.argv[1]}/{kind}", serialization_format="cloudpickle", pip_requirements=["scikit-learn"]
    )
"""


def make_models(folder: Path) -> Path:
    """A folder for each of `KINDS`, saved by mlflow in one process of its own."""
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    kinds = [f"{kind}={fault}" for kind, fault in KINDS.items()]
    subprocess.run([sys.executable, "-c", MAKE, str(folder), *kinds], check=True, capture_output=True, env=environ)
    return folder


@dataclass
class Asked:
    """One request that somebody sent: when (Unix seconds), as whom, and what became of it."""

    at: float
    unit: str
    status: int
    request_id: str
    row: tuple[float, float]


class Traffic:
    """People who ask, until `stop`, each once, or as `units` names them. With `labels`, they say what the right answer was."""

    def __init__(
        self,
        server: Server,
        name: str = "live",
        *,
        people: int = 3,
        units: Callable[[int], str] = lambda n: f"unit-{n}",
        labels: bool = False,
        pause: float = 0.004,
        patient: bool = False,
    ) -> None:
        self.asked: list[Asked] = []
        self.broken: list[str] = []
        self._server = server
        self._path = f"/invoke/{name}/invocations"
        self._units = units
        self._labels = labels
        self._pause = pause
        self._patient = patient
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(people)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def failed(self) -> list[Asked]:
        return [one for one in self.asked if one.status != 200]

    def more(self, count: int) -> None:
        """Wait until so many more have been answered."""
        until = len(self.asked) + count
        wait_for(lambda: len(self.asked) >= until, seconds=120, what=f"{count} more answers")

    def _ask(self, seed: int) -> None:
        drawn = random.Random(seed)
        with httpx.Client(base_url=self._server.url, timeout=60) as http:
            while not self._stop.is_set():
                row = (float(drawn.randrange(1000)), drawn.random())
                unit = self._units(next(self._numbers))
                at = time.time()
                try:
                    answer = http.post(self._path, json={"inputs": [list(row)]}, headers={"x-drivetrain-unit": unit})
                    request_id = answer.headers.get("x-request-id", "")
                    self.asked.append(Asked(at, unit, answer.status_code, request_id, row))
                    if self._labels and answer.status_code == 200:
                        said = {"name": "label", "kind": "label", "value": row[0] * 2}
                        http.post(f"/api/v1/requests/{request_id}/feedback", json=said).raise_for_status()
                except httpx.HTTPError as error:
                    if not self._patient:
                        self.broken.append(repr(error))
                        return
                    time.sleep(0.05)
                time.sleep(self._pause)


def plan(*guardrails: str, shares: tuple[int, ...] = (2_000, 5_000, 10_000), **changes: Any) -> dict[str, Any]:
    """A plan whose steps take about a second."""
    steps = [{"share": share, "min_units": 25 if share < 10_000 else 0, "min_seconds": 0.5 if share < 10_000 else 0} for share in shares]
    return {"name": "quick", "steps": steps, "guardrails": list(guardrails), "settle_seconds": 0.5, "warm_seconds": 600, **changes}


def deploy(server: Server, models: Path, *, name: str = "live", replicas: int = 1, **options: Any) -> Client:
    """The versions of `KINDS`, registered in this order as `doubler`, and the first of them live."""
    client = Client(server.url, "", patience=30)  # a token would run out where a test sets the clock
    for kind in KINDS:
        client.push(models / kind, "doubler")
    client.deployments.deploy(name, "doubler@1", wait=True, min_replicas=replicas, max_replicas=replicas, **options)
    return client


def begin(client: Client, kind: str, of: dict[str, Any], *, name: str = "live", **options: Any) -> str:
    """Start a rollout of one of `KINDS`; its id."""
    return str(client.rollouts.start(name, f"doubler@{VERSION[kind]}", plan=of, **options).id)


def end(client: Client, rollout: str, *, seconds: float = 120) -> WatchedRollout:
    """The rollout when nothing more comes by itself."""
    return client.rollouts.wait(rollout, timeout=seconds)


def events(client: Client, name: str = "live", *, rollout: str = "") -> list[Event]:
    """All events of a deployment, the oldest first; with `rollout`, from its first on."""
    found: list[dict[str, Any]] = []
    while True:
        params = {"deployment": name, "limit": 1000} | ({"before": found[-1]["id"]} if found else {})
        some = client.connection.json("GET", "/api/v1/events", params=params)["events"]
        found += some
        if not some or (rollout and rollout > found[-1]["id"]):
            break
    return [msgspec.convert(one, Event) for one in reversed(found)]


def spooled(server: Server) -> Iterator[bytes]:
    """All complete lines of the server's spools, in the order in which they are folded."""
    for file in spool_files(server.home / "spool"):
        yield from file.path.read_bytes().split(b"\n")[:-1]


def database(server: Server) -> Database:
    """The server's own database, to look at."""
    return Database(f"sqlite:///{server.home / 'drivetrain.db'}")
