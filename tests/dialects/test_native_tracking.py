"""The native API of experiments and runs."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.conftest import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30) as client:
        yield client


def test_a_run_is_logged_listed_and_read(api: httpx.Client) -> None:
    run = api.post("/runs", json={"experiment": "native", "name": "one", "tags": {"a": "b"}}).json()
    assert (run["experiment"], run["name"], run["status"]) == ("native", "one", "RUNNING")
    at = f"/runs/{run['id']}"
    points = [{"key": "val/loss", "value": value, "step": step, "timestamp_ms": step} for step, value in enumerate([1, 0.5, "NaN"])]
    for _ in range(2):
        api.post(
            f"{at}/log", json={"metrics": points, "params": {"seed": "7"}, "tags": {"mlflow.source.git.commit": "abc"}}
        ).raise_for_status()
    assert api.get(f"{at}/metrics/val/loss").json()["points"] == [[0, 0, 1.0], [1, 1, 0.5], [2, 2, "NaN"]]
    assert api.patch(at, json={"status": "FINISHED", "end_ms": 5}).json()["status"] == "FINISHED"
    shown = api.get(at).json()
    assert shown["metrics"] == {"val/loss": "NaN"} and shown["params"] == {"seed": "7"} and shown["git_commit"] == "abc"
    found = api.get("/runs", params={"experiment": "native", "filter": "params.seed = '7'", "limit": 1}).json()
    assert [one["id"] for one in found["runs"]] == [run["id"]] and found["token"] is None
    assert [one["name"] for one in api.get("/experiments").json()["experiments"]] == ["native", "Default"]
    assert api.get("/experiments/native").json()["id"] == run["experiment_id"]
    assert api.put(f"{at}/artifacts/d/a.txt", content=b"hello").status_code == 201
    assert [one["path"] for one in api.get(f"{at}/artifacts").json()["artifacts"]] == ["d"]
    assert api.get(f"{at}/artifacts/d/a.txt", headers={"range": "bytes=1-2"}).content == b"el"
    api.delete(at).raise_for_status()
    assert api.get("/runs", params={"experiment": "native"}).json()["runs"] == []
    api.post(f"{at}/restore").raise_for_status()


def test_mistakes_come_with_advice(api: httpx.Client) -> None:
    for answer, status in (
        (api.get("/runs/nothing"), 404),
        (api.get("/experiments/nothing"), 404),
        (api.get("/runs", params={"filter": "metrics.a = 'x'"}), 400),
        (api.post("/runs", json={"experiment": ""}), 400),
        (api.post("/runs", json={"tags": 5}), 400),
    ):
        assert answer.status_code == status and answer.json()["error"]["message"], answer.text
