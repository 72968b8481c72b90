"""MLflow's protocol over HTTP: the error cases, and what its client never sends but others do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Server

pytestmark = pytest.mark.slow

API = "/mlflow/api/2.0/mlflow"
FILES = "/mlflow/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def run(http: httpx.Client) -> str:
    return str(http.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"])


def code(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["message"] and answer.headers["x-request-id"]
    return answer.status_code, body["error_code"]


INVALID = (400, "INVALID_PARAMETER_VALUE")
ABSENT = (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("runs/log-metric", "{"),
        ("runs/log-metric", "[1]"),
        ("runs/log-metric", '"x"'),
        ("runs/log-metric", '{"run_id": "RUN", "key": "a"}'),
        ("runs/log-metric", '{"run_id": "RUN", "key": "a", "value": "abc", "timestamp": 1}'),
        ("runs/log-metric", '{"run_id": "RUN", "key": "a", "value": NaN, "timestamp": 1}'),
        ("runs/log-metric", '{"run_id": "RUN", "key": "a", "value": 1, "timestamp": 1, "step": 9223372036854775808}'),
        ("runs/log-metric", '{"run_id": "RUN", "key": "a", "value": 1, "timestamp": 1.5}'),
        ("runs/log-metric", '{"run_id": 5, "key": "a", "value": 1, "timestamp": 1}'),
        ("runs/log-metric", '{"run_id": "RUN", "key": "../a", "value": 1, "timestamp": 1}'),
        ("runs/log-metric", '{"key": "a", "value": 1, "timestamp": 1}'),
        ("runs/log-batch", '{"run_id": "RUN", "metrics": {"a": 1}}'),
        ("runs/log-batch", '{"run_id": "RUN", "params": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}'),
        ("runs/search", '{"experiment_ids": ["0"], "max_results": 50001}'),
        ("runs/search", '{"experiment_ids": ["0"], "max_results": 0}'),
        ("runs/search", '{"experiment_ids": "0"}'),
        ("runs/search", '{"experiment_ids": ["0"], "run_view_type": "SOME"}'),
        ("runs/search", '{"experiment_ids": ["0"], "page_token": "!!"}'),
        ("runs/search", '{"experiment_ids": ["0"], "order_by": ["metrics.a SIDEWAYS"]}'),
        ("runs/update", '{"run_id": "RUN", "status": "DONE"}'),
        ("experiments/create", '{"name": ""}'),
        ("experiments/create", '{"name": "ok", "artifact_location": "../x"}'),
        ("logged-models", '{"experiment_id": "0", "name": "a/b"}'),
        ("registered-models/create", '{"name": "a/b"}'),
        ("registered-models/create", "\xff"),
    ],
)
def test_what_cannot_be_meant_is_a_400_with_advice(http: httpx.Client, run: str, path: str, body: str) -> None:
    raw = body.replace("RUN", run).encode("latin-1")
    answer = http.post(f"{API}/{path}", content=raw, headers={"content-type": "application/json"})
    assert code(answer) == INVALID, answer.text


def test_batches_have_limits(http: httpx.Client, run: str) -> None:
    point = {"key": "a", "value": 1.0, "timestamp": 1, "step": 1}
    assert code(http.post(f"{API}/runs/log-batch", json={"run_id": run, "metrics": [point] * 1001})) == INVALID
    params = [{"key": f"k{n}", "value": "1"} for n in range(101)]
    assert code(http.post(f"{API}/runs/log-batch", json={"run_id": run, "params": params})) == INVALID
    assert code(http.post(f"{API}/runs/log-batch", json={"run_id": run, "tags": params})) == INVALID


def test_other_types_of_body_unknown_paths_and_wrong_methods(http: httpx.Client) -> None:
    assert code(http.post(f"{API}/experiments/create", content=b"name=x", headers={"content-type": "text/plain"})) == INVALID
    assert code(http.post(f"{API}/experiments/invent", json={})) == (404, "ENDPOINT_NOT_FOUND")
    assert code(http.get("/mlflow/api/2.0/preview/mlflow/runs/get")) == (404, "ENDPOINT_NOT_FOUND")
    assert code(http.post("/mlflow/api/3.0/mlflow/traces/metrics", json={})) == (404, "ENDPOINT_NOT_FOUND")
    assert code(http.get(f"{API}/experiments/create"))[0] == 405
    assert code(http.get(f"{API}/experiments/get")) == INVALID
    assert code(http.get(f"{API}/experiments/get", params={"experiment_id": "99999999999999999999"})) == ABSENT
    assert code(http.get(f"{API}/experiments/get-by-name", params={"experiment_name": "absent"})) == ABSENT
    large = http.post(f"{API}/runs/log-batch", content=b" " * (33 << 20), headers={"content-type": "application/json"})
    assert code(large)[0] == 413


def test_what_protobuf_s_json_allows_besides(http: httpx.Client, run: str) -> None:
    odd = {"runUuid": run, "key": "odd", "value": "-Infinity", "timestamp": "17", "step": "3", "unknown": [1], "modelId": None}
    assert http.post("/mlflow/ajax-api/2.0/mlflow/runs/log-metric", json=odd).json() == {}
    answer = http.get(f"{API}/metrics/get-history", params={"run_uuid": run, "metric_key": "odd"})
    assert answer.json() == {"metrics": [{"key": "odd", "value": "-Infinity", "timestamp": 17, "step": 3}]}
    assert http.get(f"{API}/metrics/get-history", params={"run_id": run, "metric_key": "never"}).json() == {}


def test_pages_of_history_follow_their_tokens(http: httpx.Client, run: str) -> None:
    points = [{"key": "paged", "value": float(n), "timestamp": n, "step": n} for n in range(25)]
    for _ in range(2):  # a repeated request changes nothing
        http.post(f"{API}/runs/log-batch", json={"run_id": run, "metrics": points}).raise_for_status()
    seen: list[int] = []
    asked: dict[str, Any] = {"run_id": run, "metric_key": "paged", "max_results": 10}
    while True:
        page = http.get(f"{API}/metrics/get-history", params=asked).json()
        seen += [point["step"] for point in page["metrics"]]
        if not page.get("next_page_token"):
            break
        asked["page_token"] = page["next_page_token"]
    assert seen == list(range(25))
    bulk = http.get("/mlflow/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval", params={"run_ids": run, "metric_key": "paged"})
    assert len(bulk.json()["metrics"]) == 25


def test_the_server_introduces_itself(http: httpx.Client) -> None:
    assert http.get("/mlflow/version").text == "3.17.2"
    assert http.get("/mlflow/health").text == "OK"
    assert http.get("/mlflow/api/3.0/mlflow/server-info").json()["multipart_uploads_enabled"] is False


def test_artifacts_go_up_and_down_with_ranges(http: httpx.Client, run: str) -> None:
    at = f"{FILES}/0/{run}/artifacts"
    content = bytes(range(256)) * 1000
    assert http.put(f"{at}/d/ü%20%2525.bin", content=content).status_code == 200
    listing = http.get(FILES, params={"path": f"0/{run}/artifacts/d"}).json()
    assert listing == {"files": [{"path": "ü %25.bin", "is_dir": False, "file_size": 256_000}]}
    assert http.get(FILES, params={"path": f"0/{run}/artifacts"}).json() == {"files": [{"path": "d", "is_dir": True}]}
    assert http.get(FILES, params={"path": f"0/{run}/artifacts/d/ü %25.bin"}).json()["files"][0]["path"] == "ü %25.bin"
    assert http.get(FILES, params={"path": f"0/{run}/artifacts/nowhere"}).json() == {"files": []}
    assert http.get(f"{at}/d/ü%20%2525.bin").content == content
    part = http.get(f"{at}/d/ü%20%2525.bin", headers={"range": "bytes=256-511"})
    assert (part.status_code, part.content) == (206, bytes(range(256)))
    assert http.get(f"{at}/d/ü%20%2525.bin", headers={"range": "bytes=999999-"}).status_code == 416
    by_query = http.get("/mlflow/get-artifact", params={"run_uuid": run, "path": "d/ü %25.bin"})
    assert by_query.content == content and "attachment" in by_query.headers["content-disposition"]
    assert http.delete(f"{at}/d").status_code == 200
    assert code(http.get(f"{at}/d/ü%20%2525.bin")) == ABSENT


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/x",
        "%252e%252e/x",
        "%25252e%25252e%25252fx",
        "a/%2e%2e/%2e%2e/x",
        "%2Fetc/passwd",
        "a%5Cb",
        "a%00b",
        "C:/x",
        "a/%2e/b",
        "a//b",
    ],
)
def test_no_path_leads_out_of_its_place(http: httpx.Client, run: str, path: str) -> None:
    at = f"{FILES}/0/{run}/artifacts/{path}"
    for answer in (http.put(at, content=b"x"), http.get(at), http.delete(at)):
        assert code(answer) == INVALID
    assert code(http.get(FILES, params={"path": f"0/{run}/artifacts/../../../etc"})) == INVALID
    assert code(http.get(f"{API}/artifacts/list", params={"run_id": run, "path": "../.."})) == INVALID


def test_uploads_to_nobody_are_refused_and_multipart_says_so(http: httpx.Client, run: str) -> None:
    assert code(http.put(f"{FILES}/0/{'0' * 32}/artifacts/a", content=b"x")) == ABSENT
    assert code(http.put(f"{FILES}/0/{run}/artifacts", content=b"x")) == INVALID
    answer = http.post(f"/mlflow/api/2.0/mlflow-artifacts/mpu/create/0/{run}/artifacts", json={"path": "a", "num_parts": 2})
    assert code(answer) == (501, "NOT_IMPLEMENTED")
    assert answer.json()["message"].startswith("Multipart upload is not supported for the current artifact repository")


def test_another_workspace_is_another_world(http: httpx.Client, server: Server, run: str) -> None:
    made = httpx.post(f"{server.url}/api/v1/workspaces", json={"slug": "blue"}, headers={"authorization": f"Bearer {server.token}"})
    assert made.status_code < 300, made.text
    http.put(f"{FILES}/0/{run}/artifacts/secret.txt", content=b"s").raise_for_status()
    there = {"x-mlflow-workspace": "blue"}
    for answer in (
        http.get(f"{API}/runs/get", params={"run_id": run}, headers=there),
        http.post(f"{API}/runs/log-metric", json={"run_id": run, "key": "a", "value": 1, "timestamp": 1}, headers=there),
        http.get(f"{FILES}/0/{run}/artifacts/secret.txt", headers=there),
        http.put(f"{FILES}/0/{run}/artifacts/mine.txt", content=b"x", headers=there),
        http.get(FILES, params={"path": f"0/{run}/artifacts"}, headers=there),
    ):
        assert code(answer) == ABSENT
    found = http.post(f"{API}/runs/search", json={"experiment_ids": ["0"]}, headers=there)
    assert found.json() == {}


def test_registering_only_takes_what_is_on_this_server(http: httpx.Client, run: str) -> None:
    http.post(f"{API}/registered-models/create", json={"name": "sources"}).raise_for_status()
    for source in ("/etc/passwd", "file:///etc", "s3://bucket/x", "", "C:\\x", "dbfs:/x", "mlflow-artifacts:/../../x"):
        assert code(http.post(f"{API}/model-versions/create", json={"name": "sources", "source": source})) == INVALID, source
    for source in (f"models:/m-{'0' * 32}", f"runs:/{'0' * 32}/m", "models:/absent/1"):
        assert code(http.post(f"{API}/model-versions/create", json={"name": "sources", "source": source})) == ABSENT, source


def test_stages_still_work(http: httpx.Client, run: str) -> None:
    http.post(f"{API}/registered-models/create", json={"name": "staged"}).raise_for_status()
    for _ in range(2):
        source = {"name": "staged", "source": f"runs:/{run}/anything", "run_id": run}
        http.post(f"{API}/model-versions/create", json=source).raise_for_status()
        new = http.get(f"{API}/registered-models/get", params={"name": "staged"}).json()["registered_model"]["latest_versions"]
        number = max(int(one["version"]) for one in new)
        move = {"name": "staged", "version": str(number), "stage": "production", "archive_existing_versions": True}
        moved = http.post(f"{API}/model-versions/transition-stage", json=move).json()["model_version"]
        assert moved["current_stage"] == "Production"
    found = http.post(f"{API}/registered-models/get-latest-versions", json={"name": "staged"}).json()["model_versions"]
    assert {one["current_stage"]: one["version"] for one in found} == {"Production": "2", "Archived": "1"}
    move = {"name": "staged", "version": "1", "stage": "Shelf", "archive_existing_versions": False}
    assert code(http.post(f"{API}/model-versions/transition-stage", json=move)) == INVALID


def test_answers_are_json_of_the_protocol(http: httpx.Client, run: str) -> None:
    info = http.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["info"]
    assert info["run_id"] == info["run_uuid"] == run and isinstance(info["start_time"], int)
    assert info["artifact_uri"] == f"mlflow-artifacts:/0/{run}/artifacts"
    made = http.post(f"{API}/logged-models", json={"experiment_id": "0", "name": "m"}).json()["model"]["info"]
    assert made["status"] == "LOGGED_MODEL_PENDING"
    failed = http.patch(f"{API}/logged-models/{made['model_id']}", json={"status": "LOGGED_MODEL_UPLOAD_FAILED"}).json()
    assert failed["model"]["info"]["status"] == "LOGGED_MODEL_UPLOAD_FAILED"
    assert json.dumps(failed)


def test_long_values_are_shortened_as_mlflow_does(http: httpx.Client) -> None:
    tags = [{"key": "long", "value": "t" * 9000}]
    run = http.post(f"{API}/runs/create", json={"experiment_id": "0", "tags": tags}).json()["run"]["info"]["run_id"]
    for _ in range(2):  # the same again is the same
        batch = {"run_id": run, "params": [{"key": "long", "value": "p" * 7000}]}
        http.post(f"{API}/runs/log-batch", json=batch).raise_for_status()
    http.post(f"{API}/runs/set-tag", json={"run_id": run, "key": "later", "value": "é" * 8001}).raise_for_status()
    found = http.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]
    assert [len(param["value"]) for param in found["data"]["params"]] == [6000]
    assert {tag["key"]: len(tag["value"]) for tag in found["data"]["tags"] if "mlflow" not in tag["key"]} == {"long": 8000, "later": 8000}
    assert found["outputs"] == {} and found["inputs"] == {}


def test_numbers_of_enumerations_are_understood(http: httpx.Client) -> None:
    run = http.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
    told = http.post(f"{API}/runs/update", json={"run_id": run, "status": 3}).json()
    assert told["run_info"]["status"] == "FINISHED"
    seen = http.post(f"{API}/runs/search", json={"experiment_ids": ["0"], "run_view_type": 3, "filter": f"run_id = '{run}'"}).json()
    assert [one["info"]["run_id"] for one in seen["runs"]] == [run]
    model = http.post(f"{API}/logged-models", json={"experiment_id": "0"}).json()["model"]["info"]["model_id"]
    ready = http.patch(f"{API}/logged-models/{model}", json={"status": 2}).json()
    assert ready["model"]["info"]["status"] == "LOGGED_MODEL_READY"


def test_histories_of_many_runs_for_charts(http: httpx.Client) -> None:
    runs = []
    for n in range(3):
        run = http.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
        points = [{"key": "curve", "value": n + step, "timestamp": step, "step": step} for step in range(10)]
        http.post(f"{API}/runs/log-batch", json={"run_id": run, "metrics": points}).raise_for_status()
        runs.append(run)
    for prefix in ("/mlflow/ajax-api/2.0/mlflow", API):
        asked: dict[str, Any] = {"run_id": [*runs, "0" * 32], "metric_key": "curve"}
        whole = http.get(f"{prefix}/metrics/get-history-bulk", params=asked).json()["metrics"]
        assert [(one["run_id"], one["step"]) for one in whole] == [(run, step) for run in sorted(runs) for step in range(10)]
        some = http.get(f"{prefix}/metrics/get-history-bulk", params=asked | {"max_results": 12}).json()["metrics"]
        assert some == whole[:12]
        asked = {"run_ids": runs, "metric_key": "curve"}
        at = {"start_step": 3, "end_step": 5}
        part = http.get(f"{prefix}/metrics/get-history-bulk-interval", params=asked | at).json()["metrics"]
        assert sorted((one["run_id"], one["step"]) for one in part) == sorted((run, step) for run in runs for step in (3, 4, 5))
    assert http.get(f"{API}/metrics/get-history-bulk", params={"run_id": runs, "metric_key": "never"}).json() == {"metrics": []}
    assert http.get(f"{API}/metrics/get-history-bulk-interval", params={"run_ids": runs, "metric_key": "never"}).json() == {}


def test_models_of_older_clients_are_kept_as_a_tag(http: httpx.Client, run: str) -> None:
    for n in range(60):  # more than a tag holds: the oldest go
        model = {
            "run_id": run,
            "artifact_path": f"m{n}",
            "utc_time_created": "2024-01-01",
            "flavors": {"python_function": {"env": "x" * 150}},
        }
        http.post(f"{API}/runs/log-model", json={"run_id": run, "model_json": json.dumps(model | {"signature": {}})}).raise_for_status()
    tags = http.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]["tags"]
    history = json.loads(next(tag["value"] for tag in tags if tag["key"] == "mlflow.log-model.history"))
    assert history[-1]["artifact_path"] == "m59" and 20 < len(history) < 60 and "signature" not in history[-1]


def test_datasets_narrow_a_search_of_logged_models(http: httpx.Client, run: str) -> None:
    ids = []
    for n in range(3):
        made = http.post(f"{API}/logged-models", json={"experiment_id": "0", "name": f"narrow{n}", "source_run_id": run}).json()
        ids.append(made["model"]["info"]["model_id"])
        if n < 2:
            point = {"key": "acc", "value": n, "timestamp": 1, "model_id": ids[n], "dataset_name": "iris", "dataset_digest": f"d{n}"}
            http.post(f"{API}/runs/log-metric", json={"run_id": run, **point}).raise_for_status()

    def found(**asked: Any) -> list[str]:
        body = {"experiment_ids": ["0"], "order_by": [{"field_name": "name"}], **asked}
        told = http.post(f"{API}/logged-models/search", json=body).raise_for_status().json()
        return [one["info"]["name"] for one in told.get("models", ()) if one["info"]["name"].startswith("narrow")]

    any_iris, second = [{"dataset_name": "iris"}], [{"dataset_name": "iris", "dataset_digest": "d1"}]
    assert found() == ["narrow0", "narrow1", "narrow2"]
    assert found(datasets=any_iris) == ["narrow0", "narrow1"] and found(datasets=second) == ["narrow1"]
    assert found(datasets=any_iris, filter="metrics.acc < 0.5") == ["narrow0"]
    assert found(datasets=second, filter="metrics.acc < 0.5") == [] and found(datasets=any_iris, filter="name = 'narrow2'") == []
    for _ in range(2):  # a repeated request changes nothing
        http.delete(f"{API}/logged-models/{ids[0]}").raise_for_status()
    assert found(max_results=50_000) == ["narrow1", "narrow2"]
    assert code(http.get(f"{API}/logged-models/{ids[0]}")) == ABSENT
    assert http.get(f"{API}/logged-models/{ids[0]}", params={"allow_deleted": "true"}).json()["model"]["info"]["name"] == "narrow0"


def test_files_are_deleted_whole_and_as_often_as_asked(http: httpx.Client) -> None:
    run = http.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
    at = f"{FILES}/0/{run}/artifacts"
    for path in ("a", "d/b", "d/e/c"):
        http.put(f"{at}/{path}", content=b"x").raise_for_status()
    for _ in range(2):
        assert http.delete(f"{at}/d/e").status_code == 200
    assert [one["path"] for one in http.get(FILES, params={"path": f"0/{run}/artifacts/d"}).json()["files"]] == ["b"]
    for _ in range(2):
        assert http.delete(f"{at}/").status_code == 200
    assert http.get(FILES, params={"path": f"0/{run}/artifacts"}).json() == {"files": []}


def test_who_wants_a_file_in_parts_is_told_where_from(http: httpx.Client, server: Server, run: str) -> None:
    content = bytes(range(256)) * 100
    http.put(f"{FILES}/0/{run}/artifacts/p q/ü%25.bin", content=content).raise_for_status()
    asked = {"authorization": f"Bearer {server.token}", "x-mlflow-workspace": "default"}
    told = http.get(f"/mlflow/api/2.0/mlflow-artifacts/presigned/0/{run}/artifacts/p q/ü%25.bin", headers=asked).json()
    assert told["file_size"] == len(content) and told["headers"] == asked
    parts = [httpx.get(told["url"], headers=told["headers"] | {"range": f"bytes={n}-{n + 9999}"}).content for n in range(0, 25_600, 10_000)]
    assert b"".join(parts) == content
    assert code(http.get(f"/mlflow/api/2.0/mlflow-artifacts/presigned/0/{run}/artifacts/never")) == ABSENT
