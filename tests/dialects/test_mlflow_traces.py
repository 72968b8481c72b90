"""Traces over HTTP: what MLflow's client never sends but exporters and others do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.dialects.test_mlflow import ABSENT, INVALID, code

pytestmark = pytest.mark.slow

V3 = "/mlflow/api/3.0/mlflow/traces"
V2 = "/mlflow/api/2.0/mlflow/traces"
HEAD = {"x-mlflow-experiment-id": "0", "content-type": "application/json"}


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def spans(trace: str, *, name: str = "root", **more: Any) -> dict[str, Any]:
    span = {
        "traceId": trace,
        "spanId": "00000000000000a1",
        "name": name,
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000001500000000",
        "attributes": [{"key": "n", "value": {"intValue": "5"}}],
        "status": {"code": 1},
    }
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"spans": [span | more]}]}]}


@pytest.mark.parametrize("at", ["/v1/traces", "/mlflow/v1/traces"])
def test_exporters_post_json_and_gzip(http: httpx.Client, at: str) -> None:
    trace = f"{len(at):032x}"
    run = http.post("/mlflow/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
    packed = gzip.compress(json.dumps(spans(trace)).encode())
    for _ in range(2):
        answer = http.post(at, content=packed, headers=HEAD | {"content-encoding": "gzip", "x-mlflow-run-id": run})
        assert (answer.status_code, answer.text) == (200, "{}")
    told = http.get(f"{V3}/get", params={"trace_id": f"tr-{trace}"}).json()["trace"]
    info = told["trace_info"]
    assert (info["state"], info["request_time"], info["execution_duration"]) == ("OK", "2023-11-14T22:13:20.000Z", "1.500s")
    assert [span["attributes"] for span in told["spans"]] == [[{"key": "n", "value": {"int_value": 5}}]]
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    found = http.post(f"{V3}/search", json={"locations": [place], "filter": f"run_id = '{run}'"}).json()
    assert [one["trace_id"] for one in found["traces"]] == [f"tr-{trace}"]


def test_what_exporters_get_wrong(http: httpx.Client) -> None:
    good = json.dumps(spans("a" * 32)).encode()
    for at in ("/v1/traces", "/mlflow/v1/traces"):
        assert http.post(at, content=good, headers={"content-type": "application/json"}).status_code == 422
        assert http.get(at, headers=HEAD).status_code == 405
        assert http.post(at, content=good, headers=HEAD | {"x-mlflow-experiment-id": "77"}).status_code == 404
        cases: list[tuple[bytes, dict[str, str]]] = [
            (good, {"content-type": "text/plain"}),
            (good, {"content-encoding": "br"}),
            (good, {"content-encoding": "gzip"}),
            (b"{", {}),
            (b"{}", {}),
            (b"", {}),
            (b"\xff\xff", {"content-type": "application/x-protobuf"}),
            (json.dumps(spans("xyz")).encode(), {}),
            (json.dumps(spans("0" * 32)).encode(), {}),
        ]
        for body, more in cases:
            assert http.post(at, content=body, headers=HEAD | more).status_code == 400, body


def test_requests_that_mean_nothing(http: httpx.Client) -> None:
    place = {"mlflow_experiment": {"experiment_id": "0"}}
    info = {"trace_id": "tr-odd", "trace_location": place, "request_time": "2026-01-01T00:00:00Z", "execution_duration": "1.5s"}

    def start(**more: Any) -> httpx.Response:
        return http.post(V3, json={"trace": {"trace_info": info | more}})

    assert start(state="OK", tags={"aKey": "v"}).json()["trace"]["trace_info"]["tags"]["aKey"] == "v"
    wrong: list[dict[str, Any]] = [
        {"request_time": "yesterday"},
        {"execution_duration": "long"},
        {"state": "BROKEN"},
        {"trace_location": {}},
        {"trace_id": "a/b"},
        {"assessments": [{"assessment_name": "x"}]},
    ]
    for more in wrong:
        assert code(start(**more)) == INVALID, more
    assert code(start(trace_location={"mlflow_experiment": {"experiment_id": "77"}})) == ABSENT
    assert code(http.post(f"{V3}/search", json={})) == INVALID
    assert code(http.post(f"{V3}/search", json={"locations": [place], "filter": "colour = 'x'"})) == INVALID
    assert code(http.post(f"{V2}/delete-traces", json={"experiment_id": "0"})) == INVALID
    assert code(http.get(f"{V3}/tr-none")) == ABSENT
    assert code(http.get(f"{V3}/get", params={"trace_id": "tr-odd"})) == ABSENT  # its spans have not come
    assert http.get(f"{V3}/get", params={"trace_id": "tr-odd", "allow_partial": "true"}).status_code == 200
    assert http.get(f"{V3}/batchGet", params={"trace_ids": ["tr-odd", "tr-none"]}).json() == {}
    infos = http.post(f"{V3}/batchGetInfos", json={"trace_ids": ["tr-odd", "tr-none"]}).json()["trace_infos"]
    assert [one["trace_id"] for one in infos] == ["tr-odd"]
    assert code(http.post(f"{V3}/tr-none/assessments", json={"assessment": {"assessment_name": "x", "feedback": {}}})) == ABSENT
    assert code(http.get(f"{V3}/tr-odd/assessments/a-none")) == ABSENT
    assert code(http.patch(f"{V2}/tr-odd/tags", json={"key": "../x", "value": "v"})) == INVALID
    assert http.request("DELETE", f"{V3}/tr-odd/assessments/a-none", json={}).json() == {}
    assert code(http.post(f"{V2}/link-to-run", json={"trace_ids": ["tr-odd"], "run_id": "none"})) == ABSENT


def test_acknowledged_spans_survive_kill_9(new_server: Any) -> None:
    server = new_server()
    for n in range(5):
        httpx.post(f"{server.url}/v1/traces", json=spans(f"{n + 1:032x}"), headers=HEAD, timeout=30).raise_for_status()
    server.kill()
    again = server.restart()
    for n in range(5):
        assert httpx.get(f"{again.url}{V3}/get", params={"trace_id": f"tr-{n + 1:032x}"}, timeout=30).status_code == 200
