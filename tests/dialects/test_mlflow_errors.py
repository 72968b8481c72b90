"""Every mistake that MLflow's protocol names: status, error code, and a message that says what to do. One row, one mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Server

pytestmark = pytest.mark.slow

API = "/mlflow/api/2.0/mlflow"
FILES = "/mlflow/api/2.0/mlflow-artifacts/artifacts"

INVALID = (400, "INVALID_PARAMETER_VALUE")
ABSENT = (404, "RESOURCE_DOES_NOT_EXIST")
EXISTS = (400, "RESOURCE_ALREADY_EXISTS")
NO_ENDPOINT = (404, "ENDPOINT_NOT_FOUND")
NOBODY = "0" * 32


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def names(http: httpx.Client) -> dict[str, str]:
    """What the rows call @RUN, @DEAD, …"""

    def post(path: str, **body: Any) -> Any:
        return http.post(f"{API}/{path}", json=body).raise_for_status().json()

    live, gone = (post("experiments/create", name=name)["experiment_id"] for name in ("live", "gone"))
    run, dead = (post("runs/create", experiment_id=live)["run"]["info"]["run_id"] for _ in range(2))
    post("runs/log-parameter", run_id=run, key="lr", value="0.1")
    post("runs/delete", run_id=dead)
    model = post("logged-models", experiment_id=live, name="m", source_run_id=run)["model"]["info"]["model_id"]
    other = post("logged-models", experiment_id=live, name="o", source_run_id=run)["model"]["info"]["model_id"]
    post("logged-models/" + model + "/params", params=[{"key": "depth", "value": "2"}])
    for name in ("reg", "taken"):
        post("registered-models/create", name=name)
    post("model-versions/create", name="reg", source=f"models:/{model}")
    post("registered-models/alias", name="reg", alias="champion", version="1")
    post("experiments/delete", experiment_id=gone)
    return {"@LIVE": live, "@GONE": gone, "@RUN": run, "@DEAD": dead, "@LOGGED": model, "@OTHER": other}


def told(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, real in names.items():
            value = value.replace(name, real)
        return value
    if isinstance(value, dict):
        return {key: told(one, names) for key, one in value.items()}
    return [told(one, names) for one in value] if isinstance(value, list) else value


POINT = {"key": "m", "value": 1.0, "timestamp": 1}
Row = tuple[str, str, Any, tuple[int, str], str]

EXPERIMENTS: list[Row] = [
    ("POST", "experiments/create", {}, INVALID, "no required field `name`"),
    ("POST", "experiments/create", {"name": ""}, INVALID, "1 to 500 characters"),
    ("POST", "experiments/create", {"name": "n" * 501}, INVALID, "this one has 501"),
    ("POST", "experiments/create", {"name": 5}, INVALID, "Expected `str`, got `int`"),
    ("POST", "experiments/create", {"name": "live"}, EXISTS, "Use it, or choose another name"),
    ("POST", "experiments/create", {"name": "gone"}, EXISTS, "restore it"),
    ("POST", "experiments/create", {"name": "x", "artifact_location": "s3://b/../c"}, INVALID, "artifact location"),
    ("POST", "experiments/create", {"name": "x", "tags": [{"key": "k", "value": "v" * 20001}]}, INVALID, "20000 are the most"),
    ("GET", "experiments/get", {}, INVALID, "experiment_id"),
    ("GET", "experiments/get", {"experiment_id": "4711"}, ABSENT, "no experiment with the id '4711'"),
    ("GET", "experiments/get", {"experiment_id": "abc"}, ABSENT, "no experiment"),
    ("GET", "experiments/get-by-name", {"experiment_name": "nobody"}, ABSENT, "create it first"),
    ("POST", "experiments/update", {"experiment_id": "@LIVE", "new_name": "Default"}, EXISTS, "choose another name"),
    ("POST", "experiments/update", {"experiment_id": "@LIVE"}, INVALID, "1 to 500 characters"),
    ("POST", "experiments/update", {"experiment_id": "@GONE", "new_name": "x"}, INVALID, "restore it"),
    ("POST", "experiments/delete", {"experiment_id": "@GONE"}, ABSENT, "is deleted, not active"),
    ("POST", "experiments/restore", {"experiment_id": "@LIVE"}, ABSENT, "is active, not deleted"),
    ("POST", "experiments/delete", {"experiment_id": "4711"}, ABSENT, "no experiment"),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "@GONE", "key": "k", "value": "v"}, INVALID, "restore it"),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "@LIVE", "value": "v"}, INVALID, "`key`"),
    ("POST", "experiments/set-experiment-tag", {"experiment_id": "@LIVE", "key": "a//b"}, INVALID, "cannot be the key of a tag"),
    ("POST", "experiments/delete-experiment-tag", {"experiment_id": "@LIVE", "key": "never"}, ABSENT, "has no tag 'never'"),
    ("POST", "experiments/search", {"max_results": 50001}, INVALID, "1 to 50000"),
    ("POST", "experiments/search", {"max_results": 0}, INVALID, "1 to 50000"),
    ("POST", "experiments/search", {"view_type": "SOME"}, INVALID, "ACTIVE_ONLY, DELETED_ONLY or ALL"),
    ("POST", "experiments/search", {"page_token": "!!"}, INVALID, "page token"),
    ("POST", "experiments/search", {"filter": "name = 'a' OR name = 'b'"}, INVALID, "AND only"),
    ("POST", "experiments/search", {"filter": "lifecycle_stage = 'active'"}, INVALID, "use one of creation_time"),
    ("POST", "experiments/search", {"order_by": ["tags.a"]}, INVALID, "ordered by their attributes"),
    ("POST", "experiments/search-datasets", {"experiment_ids": []}, INVALID, "experiment_ids is empty"),
]

RUNS: list[Row] = [
    ("POST", "runs/create", {"experiment_id": "4711"}, ABSENT, "no experiment"),
    ("POST", "runs/create", {"experiment_id": "@GONE"}, INVALID, "restore it"),
    (
        "POST",
        "runs/create",
        {"experiment_id": "@LIVE", "run_name": "a", "tags": [{"key": "mlflow.runName", "value": "b"}]},
        INVALID,
        "differ",
    ),
    ("POST", "runs/create", {"experiment_id": "@LIVE", "start_time": "soon"}, INVALID, "start_time"),
    ("GET", "runs/get", {"run_id": NOBODY}, ABSENT, "no run"),
    ("GET", "runs/get", {}, INVALID, "run_id is missing"),
    ("POST", "runs/update", {"run_id": "@RUN", "status": "DONE"}, INVALID, "RUNNING, SCHEDULED, FINISHED, FAILED, KILLED"),
    ("POST", "runs/update", {"run_id": "@DEAD", "status": "FAILED"}, INVALID, "restore it"),
    ("POST", "runs/update", {"run_id": NOBODY, "status": "FAILED"}, ABSENT, "no run"),
    ("POST", "runs/restore", {"run_id": NOBODY}, ABSENT, "no run"),
    ("POST", "runs/delete", {"run_id": NOBODY}, ABSENT, "no run"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", **POINT, "value": "high"}, INVALID, "value"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", "key": "m", "timestamp": 1}, INVALID, "`value`"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", "key": "m", "value": 1}, INVALID, "`timestamp`"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", **POINT, "timestamp": -1}, INVALID, "before 1970"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", **POINT, "step": 1.5}, INVALID, "step"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", **POINT, "key": "k" * 251}, INVALID, "1 to 250"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", **POINT, "key": "../m"}, INVALID, "cannot be the key of a metric"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", **POINT, "key": "m#1"}, INVALID, "use letters, digits"),
    ("POST", "runs/log-metric", {"run_id": "@RUN", **POINT, "model_id": "m-" + NOBODY}, ABSENT, "no logged model"),
    ("POST", "runs/log-metric", {"run_id": "@DEAD", **POINT}, INVALID, "restore it"),
    ("POST", "runs/log-metric", {"run_id": NOBODY, **POINT}, ABSENT, "no run"),
    ("POST", "runs/log-parameter", {"run_id": "@RUN", "key": "lr", "value": "0.2"}, INVALID, "Changing param values is not allowed"),
    ("POST", "runs/log-parameter", {"run_id": "@RUN", "value": "0.2"}, INVALID, "`key`"),
    ("POST", "runs/log-parameter", {"run_id": "@DEAD", "key": "lr", "value": "0.2"}, INVALID, "restore it"),
    ("POST", "runs/set-tag", {"run_id": "@DEAD", "key": "k", "value": "v"}, INVALID, "restore it"),
    ("POST", "runs/set-tag", {"run_id": "@RUN", "key": "", "value": "v"}, INVALID, "1 to 250"),
    ("POST", "runs/delete-tag", {"run_id": "@RUN", "key": "never"}, ABSENT, "has no tag 'never'"),
    ("POST", "runs/log-batch", {"run_id": "@RUN", "metrics": [POINT] * 1001}, INVALID, "at most 1000 metrics"),
    ("POST", "runs/log-batch", {"run_id": "@RUN", "params": [{"key": f"p{n}"} for n in range(101)]}, INVALID, "at most 100 params"),
    ("POST", "runs/log-batch", {"run_id": "@RUN", "tags": [{"key": f"t{n}"} for n in range(101)]}, INVALID, "at most 100 tags"),
    ("POST", "runs/log-batch", {"run_id": "@RUN", "metrics": [POINT] * 1000, "tags": [{"key": "t"}]}, INVALID, "at most 1000 entries"),
    ("POST", "runs/log-batch", {"run_id": "@RUN", "params": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}, INVALID, "twice"),
    ("POST", "runs/log-batch", {"run_id": "@RUN", "params": [{"key": "lr", "value": "9"}]}, INVALID, "Changing param values"),
    ("POST", "runs/log-batch", {"run_id": "@RUN", "metrics": {"a": 1}}, INVALID, "`metrics`"),
    ("POST", "runs/log-batch", {"run_id": "@DEAD"}, INVALID, "restore it"),
    ("POST", "runs/log-batch", {"metrics": []}, INVALID, "run_id is missing"),
    ("POST", "runs/log-inputs", {"run_id": "@RUN", "datasets": [{"dataset": {"name": "d"}}]}, INVALID, "`digest`"),
    ("POST", "runs/log-inputs", {"run_id": "@RUN", "datasets": [{"dataset": {"name": "d" * 501, "digest": "x"}}]}, INVALID, "1 to 500"),
    ("POST", "runs/log-inputs", {"run_id": "@DEAD", "datasets": [{"dataset": {"name": "d", "digest": "x"}}]}, INVALID, "restore it"),
    ("POST", "runs/outputs", {"run_id": "@RUN", "models": [{"model_id": "m-" + NOBODY}]}, ABSENT, "no logged model"),
    ("POST", "runs/log-model", {"run_id": "@RUN", "model_json": "{"}, INVALID, "not a JSON object"),
    ("POST", "runs/log-model", {"run_id": "@RUN", "model_json": '{"run_id": "x"}'}, INVALID, "artifact_path, flavors, utc_time_created"),
    ("GET", "metrics/get-history", {"run_id": NOBODY, "metric_key": "m"}, ABSENT, "no run"),
    ("GET", "metrics/get-history", {"run_id": "@RUN"}, INVALID, "metric_key"),
    ("GET", "metrics/get-history", {"run_id": "@RUN", "metric_key": "m", "max_results": 0}, INVALID, "1 to 25000"),
    ("GET", "metrics/get-history-bulk", {"metric_key": "m"}, INVALID, "1 to 100 runs"),
    ("GET", "metrics/get-history-bulk", {"metric_key": "m", "run_id": ["@RUN"] * 101}, INVALID, "1 to 100 runs"),
    ("GET", "metrics/get-history-bulk-interval", {"metric_key": "m", "run_ids": ["@RUN"], "start_step": 1}, INVALID, "together"),
    (
        "GET",
        "metrics/get-history-bulk-interval",
        {"metric_key": "m", "run_ids": ["@RUN"], "start_step": 2, "end_step": 1},
        INVALID,
        "in order",
    ),
    ("GET", "metrics/get-history-bulk-interval", {"metric_key": "m", "run_ids": ["@RUN"], "max_results": 2501}, INVALID, "1 to 2500"),
    ("GET", "artifacts/list", {"run_id": NOBODY}, ABSENT, "no run"),
    ("GET", "artifacts/list", {"run_id": "@RUN", "path": "../.."}, INVALID, "relative"),
]

SEARCHES: list[Row] = [
    ("POST", "runs/search", {"experiment_ids": ["@LIVE"], **asked}, INVALID, why)
    for asked, why in list[tuple[dict[str, Any], str]](
        [
            ({"filter": "metrics.a > '1'"}, "a number, without quotes"),
            ({"filter": "params.a = 1"}, "a string in quotes"),
            ({"filter": "params.a > '1'"}, "use one of =, !=, LIKE, ILIKE"),
            ({"filter": "params.a IN ('1')"}, "IN does not compare"),
            ({"filter": "metrics.a LIKE 1"}, "LIKE does not compare"),
            ({"filter": "status = FINISHED"}, "a string in quotes"),
            ({"filter": "start_time = '1'"}, "a number, without quotes"),
            ({"filter": "a.b.c = 1"}, "not something that runs have"),
            ({"filter": "attributes.colour = 'x'"}, "use one of artifact_uri"),
            ({"filter": "params.a = '1' OR params.b = '1'"}, "AND only"),
            ({"filter": "(params.a = '1')"}, "parentheses are only for lists"),
            ({"filter": "params.a = 'x"}, "is not closed"),
            ({"filter": "params.a ="}, "it ends where a value"),
            ({"filter": "params.a 'x'"}, "an operator was expected"),
            ({"filter": "datasets.source = 'x'"}, "use one of context, digest, name"),
            ({"order_by": ["metrics.a SIDEWAYS"]}, "not a key to order by"),
            ({"order_by": ["datasets.name"]}, "cannot be ordered by their datasets"),
            ({"max_results": 50001}, "1 to 50000"),
            ({"max_results": -1}, "1 to 50000"),
            ({"run_view_type": "SOME"}, "ACTIVE_ONLY"),
            ({"page_token": "bm9uZQ"}, "page token"),
        ]
    )
]

LOGGED_MODELS: list[Row] = [
    ("POST", "logged-models", {"name": "x"}, INVALID, "experiment_id"),
    ("POST", "logged-models", {"experiment_id": "4711"}, ABSENT, "no experiment"),
    ("POST", "logged-models", {"experiment_id": "@GONE"}, INVALID, "restore it"),
    *[("POST", "logged-models", {"experiment_id": "@LIVE", "name": f"a{c}b"}, INVALID, "must not contain") for c in "/:.%\"'"],
    ("POST", "logged-models", {"experiment_id": "@LIVE", "source_run_id": NOBODY}, ABSENT, "no run"),
    ("GET", "logged-models/m-" + NOBODY, {}, ABSENT, "no logged model"),
    ("PATCH", "logged-models/@LOGGED", {"status": "LOGGED_MODEL_DONE"}, INVALID, "PENDING, READY, FAILED"),
    ("PATCH", "logged-models/@LOGGED", {}, INVALID, "`status`"),
    ("PATCH", "logged-models/m-" + NOBODY, {"status": "LOGGED_MODEL_READY"}, ABSENT, "no logged model"),
    ("PATCH", "logged-models/m-" + NOBODY + "/tags", {"tags": []}, ABSENT, "no logged model"),
    ("DELETE", "logged-models/@LOGGED/tags/never", {}, ABSENT, "has no tag 'never'"),
    ("POST", "logged-models/@LOGGED/params", {"params": [{"key": "depth", "value": "3"}]}, INVALID, "Changing param values"),
    ("DELETE", "logged-models/m-" + NOBODY, {}, ABSENT, "no logged model"),
    ("POST", "logged-models/search", {"experiment_ids": ["@LIVE"], "filter": "metrics.a > 'x'"}, INVALID, "a number"),
    ("POST", "logged-models/search", {"experiment_ids": ["@LIVE"], "order_by": [{"field_name": "nothing"}]}, INVALID, "have no attribute"),
    ("POST", "logged-models/search", {"experiment_ids": ["@LIVE"], "order_by": [{}]}, INVALID, "`field_name`"),
    ("POST", "logged-models/search", {"experiment_ids": ["@LIVE"], "max_results": 0}, INVALID, "1 to 1000"),
]

REGISTRY: list[Row] = [
    ("POST", "registered-models/create", {"name": "taken"}, EXISTS, "taken"),
    *[("POST", "registered-models/create", {"name": name}, INVALID, "cannot be the name") for name in ("", "a/b", "a:b", ".", "n" * 257)],
    ("GET", "registered-models/get", {"name": "nobody"}, ABSENT, "no registered model 'nobody'"),
    ("POST", "registered-models/rename", {"name": "reg", "new_name": "taken"}, EXISTS, "taken"),
    ("POST", "registered-models/rename", {"name": "reg"}, INVALID, "new_name is missing"),
    ("POST", "registered-models/rename", {"name": "nobody", "new_name": "x"}, ABSENT, "nobody"),
    ("PATCH", "registered-models/update", {"name": "nobody", "description": "x"}, ABSENT, "nobody"),
    ("DELETE", "registered-models/delete", {"name": "nobody"}, ABSENT, "nobody"),
    ("POST", "registered-models/set-tag", {"name": "reg", "key": "a/../b"}, INVALID, "key of a tag"),
    ("POST", "registered-models/set-tag", {"name": "reg", "key": "a", "value": "v" * 100_001}, INVALID, "100000"),
    ("POST", "registered-models/set-tag", {"name": "nobody", "key": "a"}, ABSENT, "nobody"),
    ("POST", "registered-models/get-latest-versions", {"name": "nobody"}, ABSENT, "nobody"),
    ("POST", "registered-models/get-latest-versions", {"name": "reg", "stages": ["Shelf"]}, INVALID, "None, Staging, Production, Archived"),
    ("GET", "model-versions/get", {"name": "reg", "version": "9"}, ABSENT, "9"),
    ("GET", "model-versions/get", {"name": "reg", "version": "one"}, INVALID, "versions are numbers from 1"),
    ("GET", "model-versions/get", {"name": "reg"}, INVALID, "`version`"),
    ("GET", "model-versions/get-download-uri", {"name": "reg", "version": "9"}, ABSENT, "9"),
    ("PATCH", "model-versions/update", {"name": "reg", "version": "9", "description": "x"}, ABSENT, "9"),
    ("DELETE", "model-versions/delete", {"name": "reg", "version": "9"}, ABSENT, "9"),
    ("POST", "model-versions/set-tag", {"name": "reg", "version": "9", "key": "k"}, ABSENT, "9"),
    ("POST", "model-versions/set-tag", {"name": "reg", "version": "1", "key": "../k"}, INVALID, "key of a tag"),
    ("POST", "model-versions/transition-stage", {"name": "reg", "version": "1", "stage": "Shelf"}, INVALID, "Archived"),
    (
        "POST",
        "model-versions/transition-stage",
        {"name": "reg", "version": "1", "stage": "Archived", "archive_existing_versions": True},
        INVALID,
        "Staging or Production",
    ),
    *[
        ("POST", "registered-models/alias", {"name": "reg", "alias": a, "version": "1"}, INVALID, "alias")
        for a in ("latest", "v1", "", "a b")
    ],
    ("POST", "registered-models/alias", {"name": "reg", "alias": "a" * 256, "version": "1"}, INVALID, "255"),
    ("POST", "registered-models/alias", {"name": "reg", "alias": "a", "version": "9"}, ABSENT, "9"),
    ("GET", "registered-models/alias", {"name": "reg", "alias": "nobody"}, INVALID, "no alias 'nobody'. It has champion"),
    ("GET", "registered-models/alias", {"name": "taken", "alias": "latest"}, ABSENT, "no version yet"),
    ("GET", "registered-models/alias", {"name": "nobody", "alias": "a"}, ABSENT, "nobody"),
    ("POST", "model-versions/create", {"name": "nobody", "source": "runs:/@RUN/m"}, ABSENT, "nobody"),
    ("POST", "model-versions/create", {"name": "reg"}, INVALID, "`source`"),
    ("POST", "model-versions/create", {"name": "reg", "source": "/etc/passwd"}, INVALID, "on the client's machine"),
    ("POST", "model-versions/create", {"name": "reg", "source": "file:///etc"}, INVALID, "on the client's machine"),
    ("POST", "model-versions/create", {"name": "reg", "source": "s3://bucket/m"}, INVALID, "address of another store"),
    ("POST", "model-versions/create", {"name": "reg", "source": f"runs:/{NOBODY}/m"}, ABSENT, "no run"),
    ("POST", "model-versions/create", {"name": "reg", "source": f"models:/m-{NOBODY}"}, ABSENT, "no logged model"),
    ("POST", "model-versions/create", {"name": "reg", "source": "models:/reg/9"}, ABSENT, "9"),
    ("POST", "model-versions/create", {"name": "reg", "source": "models:/reg/1", "model_id": "@OTHER"}, INVALID, "leave model_id out"),
    ("POST", "model-versions/create", {"name": "reg", "source": "models:/reg/1", "run_id": "@DEAD"}, INVALID, "leave run_id out"),
    ("POST", "model-versions/create", {"name": "reg", "source": "mlflow-artifacts:/../../x"}, INVALID, "relative"),
    ("GET", "registered-models/search", {"max_results": 1001}, INVALID, "1 to 1000"),
    ("GET", "registered-models/search", {"filter": "description = 'x'"}, INVALID, "use one of"),
    ("GET", "registered-models/search", {"filter": "name > 'x'"}, INVALID, "> does not compare"),
    ("GET", "registered-models/search", {"order_by": ["tags.a"]}, INVALID, "ordered by their attributes"),
    ("GET", "registered-models/search", {"page_token": "!!"}, INVALID, "page token"),
    ("GET", "model-versions/search", {"max_results": 200_001}, INVALID, "1 to 200000"),
    ("GET", "model-versions/search", {"filter": "version_number = 'one'"}, INVALID, "a number, without quotes"),
    ("GET", "model-versions/search", {"filter": "run_id IN ()"}, INVALID, "strings in quotes"),
    ("GET", "model-versions/search", {"filter": "stage = 'Production'"}, INVALID, "use one of"),
]

NOT_THERE: list[Row] = [
    (method, path, {}, NO_ENDPOINT, "does not serve")
    for method, path in [
        ("GET", "webhooks"),
        ("POST", "webhooks"),
        ("PATCH", "webhooks/1"),
        ("POST", "webhooks/1/test"),
        ("GET", "gateway/endpoints/list"),
        ("GET", "workspaces"),
        ("POST", "prompt-optimization/jobs"),
        ("GET", "jobs"),
        ("POST", "experiments/invent"),
        ("POST", "registered-models"),
    ]
]


@pytest.mark.parametrize("row", EXPERIMENTS + RUNS + SEARCHES + LOGGED_MODELS + REGISTRY + NOT_THERE, ids=lambda row: f"{row[0]} {row[1]}")
def test_a_mistake_is_told(http: httpx.Client, names: dict[str, str], row: Row) -> None:
    method, path, body, expected, why = row
    body, path = told(body, names), told(path, names)
    given: dict[str, Any] = {"params": body} if method == "GET" else {"json": body}
    answer = http.request(method, f"{API}/{path}", **given)
    said = answer.json()
    assert (answer.status_code, said["error_code"]) == expected, said
    assert told(why, names) in said["message"], said
    assert answer.headers["content-type"] == "application/json" and answer.headers["x-request-id"]


def test_a_refused_batch_leaves_nothing(http: httpx.Client, names: dict[str, str]) -> None:
    run = http.post(f"{API}/runs/create", json={"experiment_id": names["@LIVE"]}).json()["run"]["info"]["run_id"]
    http.post(f"{API}/runs/log-parameter", json={"run_id": run, "key": "lr", "value": "1"}).raise_for_status()
    batch = {"metrics": [POINT], "params": [{"key": "new", "value": "1"}, {"key": "lr", "value": "2"}], "tags": [{"key": "t"}]}
    assert http.post(f"{API}/runs/log-batch", json={"run_id": run, **batch}).status_code == 400
    data = http.get(f"{API}/runs/get", params={"run_id": run}).json()["run"]["data"]
    assert data["params"] == [{"key": "lr", "value": "1"}] and "metrics" not in data
    assert [tag["key"] for tag in data["tags"]] == ["mlflow.runName"]


def test_files_have_their_errors_too(http: httpx.Client, names: dict[str, str]) -> None:
    run = names["@RUN"]
    at = f"{FILES}/0/{run}/artifacts"
    http.put(f"{at}/a.txt", content=b"abc").raise_for_status()
    rows: list[tuple[httpx.Response, tuple[int, str], str]] = [
        (http.get(f"{at}/never.txt"), ABSENT, "list what there is"),
        (http.get(f"{FILES}/0/{NOBODY}/artifacts/a.txt"), ABSENT, "no run"),
        (http.put(f"{FILES}/0/{NOBODY}/artifacts/a.txt", content=b"x"), ABSENT, "no run"),
        (http.put(f"{FILES}/0/{names['@DEAD']}/artifacts/a.txt", content=b"x"), INVALID, "restore it"),
        (http.put(at, content=b"x"), INVALID, "add the file's name"),
        (http.put(f"{at}/a.txt/b.txt", content=b"x"), INVALID, "a file and a folder"),
        (http.get(f"{at}/%2e%2e/x"), INVALID, "relative"),
        (http.get(FILES, params={"path": "0/../x"}), INVALID, "relative"),
        (http.delete(f"{at}/%2e%2e/x"), INVALID, "relative"),
        (http.delete(f"{FILES}/"), INVALID, "all files of the workspace"),
        (http.post(f"{at}/a.txt"), (405, "BAD_REQUEST"), "takes DELETE, GET, HEAD, PUT, not POST"),
        (http.get("/mlflow/get-artifact", params={"run_id": run, "path": "never"}), ABSENT, "list what there is"),
        (http.get("/mlflow/model-versions/get-artifact", params={"name": "reg", "version": "x", "path": "a"}), INVALID, "numbers from 1"),
        (http.get("/mlflow/api/2.0/mlflow-artifacts/other/x"), NO_ENDPOINT, "does not serve"),
    ]
    for answer, expected, why in rows:
        said = answer.json()
        assert (answer.status_code, said["error_code"]) == expected and why in said["message"], (answer.url, said)
    for what in ("create", "complete", "abort"):
        answer = http.post(f"/mlflow/api/2.0/mlflow-artifacts/mpu/{what}/0/{run}/artifacts", json={"path": "a", "num_parts": 2})
        assert (answer.status_code, answer.json()["error_code"]) == (501, "NOT_IMPLEMENTED")
    assert http.get(f"{at}/a.txt", headers={"range": "bytes=9-"}).status_code == 416


def test_wrong_methods_and_types_and_bodies(http: httpx.Client, names: dict[str, str]) -> None:
    run = names["@RUN"]
    assert http.get(f"{API}/runs/create").status_code == 405 and http.post(f"{API}/runs/get", json={}).status_code == 405
    for raw, kind in [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"x"', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"run_id": "%b", "metrics": [{"key": "a", "value": NaN, "timestamp": 1}]}' % run.encode(), "application/json"),
        (b'{"run_id": "x"}', "text/plain"),
        (b"run_id=x", "application/x-www-form-urlencoded"),
        (b"[" * 100_000, "application/json"),
    ]:
        answer = http.post(f"{API}/runs/log-batch", content=raw, headers={"content-type": kind})
        assert (answer.status_code, answer.json()["error_code"]) == INVALID, (raw[:50], answer.text)
    fine = http.post(f"{API}/runs/log-batch", content=b"{}", headers={"content-type": "application/json; charset=utf-8"})
    assert "run_id is missing" in fine.json()["message"]
