"""Clients repeat requests whose answer they missed: the same request twice, at once or later, leaves what it left the first time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.dialects.mlflow.dialect import ROUTES
from drivetrain.dialects.mlflow.messages import read
from drivetrain.dialects.mlflow.routing import Json, Route
from drivetrain.errors import DrivetrainError
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.wire.routing import Table

Call = Callable[[str, str, Json], Json]

keys = st.sampled_from(["acc", "val/loss", "a b"])
points = st.fixed_dictionaries(
    {
        "key": keys,
        "value": st.sampled_from([0, 0.5, -1.5, "NaN", "Infinity", "-Infinity", 1e300]),
        "timestamp": st.integers(0, 3),
        "step": st.integers(-2, 3),
    }
)
entries = st.fixed_dictionaries({"key": keys, "value": st.sampled_from(["", "1", "x", "y" * 7000])})
batches = st.fixed_dictionaries({"metrics": st.lists(points, max_size=6)}, optional={"params": st.lists(entries, max_size=2)})


@pytest.fixture
def call(platform: Platform) -> Call:
    """A request to the dialect, as its door hands it on."""
    table: Table[Route] = Table()
    for one in ROUTES:
        table.add((one.method,), f"/{one.path}", one)
    ctx = Context("u1", "ann", "w1", "red")

    def ask(method: str, path: str, body: Json) -> Json:
        found = table.find(method, path.split("/"))
        assert found is not None and found.target is not None
        return found.target.call(platform, ctx, read(msgspec.json.encode(body), found.target.message), tuple(found.params.values()))

    return ask


def state(call: Call, run: str) -> Any:
    found = call("GET", "runs/get", {"run_id": run})["run"]
    data = {name: sorted(map(repr, found["data"].get(name, ()))) for name in ("metrics", "params", "tags")}
    data["tags"] = [tag for tag in data["tags"] if "runName" not in tag]
    return data, [call("GET", "metrics/get-history", {"run_id": run, "metric_key": key}) for key in ("acc", "val/loss", "a b")]


def logged_to(call: Call, run: str, batch: Json) -> bool:
    """Whether it was taken: a param that has another value already is refused, and with it the whole batch."""
    try:
        call("POST", "runs/log-batch", {"run_id": run, **batch})
    except DrivetrainError as error:
        assert "param" in error.message
        return False
    return True


def test_batches_may_come_again_at_any_time(call: Call) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(batches, min_size=1, max_size=5), st.data())
    def check(given_batches: list[Json], data: st.DataObject) -> None:
        once, often = (call("POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"] for _ in range(2))
        taken = [batch for batch in given_batches if logged_to(call, once, batch)]
        for position, batch in enumerate(taken):
            again = data.draw(st.lists(st.sampled_from(taken[: position + 1]), max_size=3), label="again")
            for one in (batch, batch, *again):
                assert logged_to(call, often, one)
        assert state(call, often) == state(call, once)

    check()


@pytest.mark.slow
def test_the_latest_point_does_not_depend_on_the_order_of_arrival(call: Call) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.lists(points, min_size=1, max_size=8), st.randoms())
    def check(some: list[Json], dice: Any) -> None:
        first, second = (call("POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"] for _ in range(2))
        for point in some:
            call("POST", "runs/log-metric", {"run_id": first, **point})
        dice.shuffle(some)
        for point in some:
            call("POST", "runs/log-metric", {"run_id": second, **point})
        assert state(call, first) == state(call, second)
        latest = {one["key"]: one for one in call("GET", "runs/get", {"run_id": first})["run"]["data"]["metrics"]}
        for key, point in latest.items():
            # The greatest (step, time, value); a number beats NaN.
            rivals = [(p["step"], p["timestamp"], number(p["value"])) for p in some if p["key"] == key]
            assert (point["step"], point["timestamp"]) == max(rivals)[:2]
            at_that_time = [value for step, time, value in rivals if (step, time) == max(rivals)[:2]]
            assert number(point["value"]) in at_that_time

    check()


def number(value: float | str) -> float:
    found = float(value)
    return -math.inf if math.isnan(found) else found


def test_other_writes_may_come_twice_too(call: Call) -> None:
    run = call("POST", "runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
    model = call("POST", "logged-models", {"experiment_id": "0", "name": "m", "source_run_id": run})["model"]["info"]["model_id"]
    call("POST", "registered-models/create", {"name": "reg"})
    call("POST", "model-versions/create", {"name": "reg", "source": f"models:/{model}"})
    point = {"key": "acc", "value": 0.5, "timestamp": 1, "model_id": model, "dataset_name": "d", "dataset_digest": "x"}
    dataset = {"dataset": {"name": "d", "digest": "x", "source_type": "t", "source": "s"}, "tags": [{"key": "k", "value": "v"}]}
    writes: list[tuple[str, str, Json]] = [
        ("POST", "runs/log-metric", {"run_id": run, **point}),
        ("POST", "runs/log-parameter", {"run_id": run, "key": "lr", "value": "0.1"}),
        ("POST", "runs/set-tag", {"run_id": run, "key": "t", "value": "v"}),
        ("POST", "runs/log-inputs", {"run_id": run, "datasets": [dataset], "models": [{"model_id": model}]}),
        ("POST", "runs/outputs", {"run_id": run, "models": [{"model_id": model, "step": 2}]}),
        ("POST", "runs/update", {"run_id": run, "status": "FINISHED", "end_time": 5, "run_name": "n"}),
        ("POST", "runs/delete", {"run_id": run}),
        ("POST", "runs/restore", {"run_id": run}),
        ("PATCH", f"logged-models/{model}", {"status": "LOGGED_MODEL_READY"}),
        ("PATCH", f"logged-models/{model}/tags", {"tags": [{"key": "a", "value": "b"}]}),
        ("POST", f"logged-models/{model}/params", {"params": [{"key": "a", "value": "b"}]}),
        ("POST", "experiments/set-experiment-tag", {"experiment_id": "0", "key": "t", "value": "v"}),
        ("POST", "registered-models/alias", {"name": "reg", "alias": "a", "version": "1"}),
        ("POST", "registered-models/set-tag", {"name": "reg", "key": "t", "value": "v"}),
        ("POST", "model-versions/set-tag", {"name": "reg", "version": "1", "key": "t", "value": "v"}),
        ("PATCH", "model-versions/update", {"name": "reg", "version": "1", "description": "d"}),
        ("POST", "model-versions/transition-stage", {"name": "reg", "version": "1", "stage": "Production"}),
        ("DELETE", "model-versions/delete-tag", {"name": "reg", "version": "1", "key": "t"}),
        ("DELETE", "registered-models/delete-tag", {"name": "reg", "key": "t"}),
        ("DELETE", "registered-models/alias", {"name": "reg", "alias": "a"}),
        ("DELETE", f"logged-models/{model}", {}),
    ]

    def everything() -> Any:
        seen = [
            call("GET", "runs/get", {"run_id": run}),
            call("GET", "registered-models/get", {"name": "reg"}),
            call("GET", "metrics/get-history", {"run_id": run, "metric_key": "acc"}),
            call("GET", "experiments/get", {"experiment_id": "0"}),
            call("GET", f"logged-models/{model}", {"allow_deleted": True}),
        ]
        return without_times(seen)

    for method, path, body in writes:
        call(method, path, body)
        before = everything()
        call(method, path, body)
        assert everything() == before, path


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if "updated" not in key and "last_update" not in key}
    return [without_times(one) for one in value] if isinstance(value, list) else value
