"""Versions that answer every request, with 200, and with nothing that anybody can use: taken back under the guardrails of every preset.

And people who come back to a version that begins to fail: real replicas, the case that counting each person once could not see.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivetrain.client import Client
from tests.conftest import Server
from tests.rollout.live import Traffic, end

pytestmark = pytest.mark.slow

NUMBERS = ("good", "nan", "infinite", "constant", "elsewhere", "sooner")
WORDS = ("good", "null", "empty", "constant")
MAKE = """
import sys
import mlflow, numpy as np
from sklearn.base import BaseEstimator

class Model(BaseEstimator):
    def __init__(self, kind="good", words=False):
        self.kind, self.words = kind, words

    def fit(self, x, y=None):
        return self

    def predict(self, x):
        x = np.asarray(x, dtype=float)
        if self.words:
            said = np.array(["low", "middle", "high"], dtype=object)[(x[:, 0] // 334).astype(int)]
            return {"null": np.array([None] * len(x), dtype=object), "empty": np.array([""] * len(x), dtype=object),
                    "constant": np.array(["low"] * len(x), dtype=object)}.get(self.kind, said)
        self.asked = getattr(self, "asked", 0) + 1
        if self.kind == "sooner" and self.asked > 100:
            raise ArithmeticError("it has begun to fail")
        if self.kind in ("good", "sooner") and (x[:, 1] < 0.1).any():
            raise ArithmeticError("one input in ten is too much, as it always was")
        right = x[:, 0] * 2
        return {"nan": right * np.nan, "infinite": right + np.inf, "constant": right * 0 + 7,
                "elsewhere": right + 1e6}.get(self.kind, right)

for number, kind in enumerate(sys.argv[3:]):
    pins = ["scikit-learn"]
    model = Model(kind, sys.argv[2] == "words")
    mlflow.sklearn.save_model(model, f"{sys.argv[1]}/{sys.argv[2]}-{kind}", serialization_format="cloudpickle", pip_requirements=pins)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Client]]:
    """Deployments `numbers` and `words`, the first version of each live."""
    folder = tmp_path_factory.mktemp("outputs")
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    for what, kinds in (("numbers", NUMBERS), ("words", WORDS)):
        subprocess.run([sys.executable, "-c", MAKE, str(folder), what, *kinds], check=True, capture_output=True, env=environ)
    server = Server(folder / "home", ("--web", "1")).start()
    try:
        with Client(server.url, "", patience=30) as client:
            for what, kinds in (("numbers", NUMBERS), ("words", WORDS)):
                for kind in kinds:
                    client.push(Path(folder) / f"{what}-{kind}", what)
                client.deployments.deploy(what, f"{what}@1", wait=True)
                with Traffic(server, what) as traffic:
                    traffic.more(120)
            yield server, client
    finally:
        server.stop()


def default(client: Client, **changes: Any) -> dict[str, Any]:
    """The guardrails of the presets, by two steps that do not end by themselves before harm is seen."""
    guardrails = next(one for one in client.rollouts.plans() if one.name == "safe").guardrails
    steps = [{"share": 2_000, "min_units": 60}, {"share": 5_000, "min_units": 2_000}, {"share": 10_000}]
    return {"name": "safe", "steps": steps, "guardrails": guardrails, "settle_seconds": 0, **changes}


@pytest.mark.parametrize(
    ("what", "kind", "by"),
    [
        ("numbers", "nan", "invalid_output"),
        ("numbers", "infinite", "invalid_output"),
        ("numbers", "constant", "predictions"),
        ("numbers", "elsewhere", "predictions"),
        ("words", "null", "invalid_output"),
        ("words", "empty", "invalid_output"),
        ("words", "constant", "predictions"),
    ],
)
def test_what_nobody_can_use_is_taken_back(server: tuple[Server, Client], what: str, kind: str, by: str) -> None:
    running, client = server
    version = {"numbers": NUMBERS, "words": WORDS}[what].index(kind) + 1
    with Traffic(running, what, units=lambda n: f"{kind}-{n % 300}") as traffic:
        rollout = client.rollouts.start(what, f"{what}@{version}", plan=default(client))
        ended = end(client, rollout.id)
    assert ended.state == "rolled_back", ended.why
    harmed = {one.measure for one in ended.evidence if one.verdict == "harm"}
    assert by in harmed and harmed <= {by, "latency_p95"}, ended.why  # a machine that others use is slow now and then
    assert not traffic.broken


def test_a_version_that_begins_to_fail_sixty_people_is_taken_back(server: tuple[Server, Client]) -> None:
    """Stable fails one request in ten of everybody; the canary too, until its hundredth, and then every one."""
    running, client = server
    people = lambda n: f"person-{n % 60}"  # noqa: E731 - a name for one
    of = default(client, guardrails=["errors"], steps=[{"share": 5_000, "min_units": 100_000}, {"share": 10_000}])
    with Traffic(running, "numbers", units=people, people=2) as traffic:
        rollout = client.rollouts.start("numbers", f"numbers@{NUMBERS.index('sooner') + 1}", plan=of)
        ended = end(client, rollout.id)
    assert (ended.state, ended.evidence[0].verdict) == ("rolled_back", "harm"), ended.why
    shown = ended.evidence[0]
    assert shown.canary_requests <= 100 + 150
    assert shown.canary_units <= 60 < shown.canary_requests
    assert not traffic.broken
