"""Evaluation datasets, scorers and prompts over HTTP: the error cases, and what the client never sends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Server
from tests.dialects.test_mlflow import ABSENT, INVALID, code

pytestmark = pytest.mark.slow

API = "/mlflow/api/3.0/mlflow"
NONE = "d-" + "0" * 32


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def send(http: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
    return http.request(method, f"{API}/{path}", json=body)


@pytest.fixture(scope="module")
def dataset(http: httpx.Client) -> str:
    made = send(http, "POST", "datasets/create", {"name": "qa", "experiment_ids": ["0"], "tags": '{"k": "v"}'})
    return str(made.json()["dataset"]["dataset_id"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "datasets/create", {}),
        ("POST", "datasets/create", {"name": " "}),
        ("POST", "datasets/create", {"name": "x", "tags": "{"}),
        ("POST", "datasets/create", {"name": "x", "tags": "[1]"}),
        ("POST", "datasets/create", {"name": "x", "experiment_ids": "0"}),
        ("POST", "datasets/search", {"max_results": 0}),
        ("POST", "datasets/search", {"max_results": 50_001}),
        ("POST", "datasets/search", {"page_token": "!!"}),
        ("POST", "datasets/search", {"filter_string": "colour = 'red'"}),
        ("POST", "datasets/search", {"order_by": ["tags.k"]}),
        ("PATCH", "datasets/ID/tags", {}),
        ("PATCH", "datasets/ID/tags", {"tags": "5"}),
        ("POST", "datasets/ID/records", {}),
        ("POST", "datasets/ID/records", {"records": "{"}),
        ("POST", "datasets/ID/records", {"records": "{}"}),
        ("POST", "datasets/ID/records", {"records": "[1]"}),
        ("POST", "datasets/ID/records", {"records": "[" * 100_000}),
        ("POST", "datasets/ID/records", {"records": '[{"inputs": [1]}]'}),
        ("POST", "datasets/ID/records", {"records": '[{"inputs": {}, "source": {"source_type": "ROCK"}}]'}),
        ("DELETE", "datasets/ID/records", {"dataset_record_ids": "x"}),
        ("POST", "scorers/register", {"experiment_id": "0", "name": "x"}),
        ("POST", "scorers/register", {"experiment_id": "0", "name": " ", "serialized_scorer": "{}"}),
        ("POST", "scorers/register", {"experiment_id": "0", "name": "x", "serialized_scorer": "{"}),
        ("POST", "scorers/register", {"experiment_id": "0", "name": "x", "serialized_scorer": '{"call_source": "1"}'}),
        ("DELETE", "scorers/delete", {"experiment_id": "0", "name": "x", "version": "one"}),
    ],
)
def test_what_cannot_be_meant_is_a_400_with_advice(http: httpx.Client, dataset: str, method: str, path: str, body: Any) -> None:
    answer = send(http, method, path.replace("ID", dataset), body)
    assert code(answer) == INVALID, answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"datasets/{NONE}", None),
        ("GET", f"datasets/{NONE}/records", None),
        ("POST", f"datasets/{NONE}/records", {"records": "[]"}),
        ("DELETE", f"datasets/{NONE}/records", {"dataset_record_ids": []}),
        ("PATCH", f"datasets/{NONE}/tags", {"tags": "{}"}),
        ("POST", f"datasets/{NONE}/add-experiments", {"experiment_ids": ["0"]}),
        ("POST", f"datasets/{NONE}/remove-experiments", {"experiment_ids": ["0"]}),
        ("POST", "datasets/create", {"name": "x", "experiment_ids": ["99999"]}),
        ("GET", "scorers/list?experiment_id=99999", None),
        ("GET", "scorers/get?experiment_id=0&name=absent", None),
        ("GET", "scorers/versions?experiment_id=0&name=absent", None),
        ("DELETE", "scorers/delete", {"experiment_id": "0", "name": "absent"}),
        ("POST", "scorers/register", {"experiment_id": "99999", "name": "x", "serialized_scorer": "{}"}),
    ],
)
def test_what_is_not_there_is_a_404(http: httpx.Client, method: str, path: str, body: Any) -> None:
    assert code(send(http, method, path, body)) == ABSENT


def test_deleting_what_is_not_there_is_no_error(http: httpx.Client, dataset: str) -> None:
    assert send(http, "DELETE", f"datasets/{NONE}", None).json() == {}
    assert send(http, "DELETE", f"datasets/{NONE}/tags/k", None).json() == {}
    assert send(http, "GET", f"datasets/{NONE}/experiment-ids", None).json() == {}
    assert send(http, "GET", f"datasets/{dataset}/experiment-ids", None).json() == {"experiment_ids": ["0"]}


def test_records_are_json_within_json(http: httpx.Client) -> None:
    made = send(http, "POST", "datasets/create", {"name": "records"}).json()["dataset"]
    assert made["tags"] == "{}" and "schema" not in made and "experiment_ids" not in made
    path = f"datasets/{made['dataset_id']}/records"
    assert send(http, "GET", path, None).json() == {"records": "[]"}
    records = '[{"inputs": {"n": NaN, "q": "ü"}, "outputs": "x"}, {"inputs": {"q": 1}}]'
    assert send(http, "POST", path, {"records": records}).json() == {"inserted_count": 2, "updated_count": 0}
    assert send(http, "POST", path, {"records": records}).json() == {"inserted_count": 0, "updated_count": 2}
    first = send(http, "GET", f"{path}?max_results=1", None).json()
    rest = send(http, "GET", f"{path}?page_token={first['next_page_token']}", None).json()
    [one], [two] = json.loads(first["records"]), json.loads(rest["records"])
    assert "NaN" in first["records"] and one["outputs"] == "x" and two["inputs"] == {"q": 1} and "next_page_token" not in rest
    assert send(http, "DELETE", path, {"dataset_record_ids": [one["dataset_record_id"]]}).json() == {"deleted_count": 1}


def test_browsers_and_other_clients_ask_in_other_ways(http: httpx.Client, dataset: str) -> None:
    found = http.get("/mlflow/ajax-api/3.0/mlflow/datasets/search", params={"filter_string": "name = 'qa'", "experiment_ids": "0"}).json()
    assert [one["dataset_id"] for one in found["datasets"]] == [dataset]
    camel = {"experimentId": "0", "name": "camel", "serializedScorer": '{"name": "camel"}'}
    made = send(http, "POST", "scorers/register", camel).json()
    assert (made["version"], made["serialized_scorer"]) == (1, '{"name": "camel"}')
    assert [one["scorer_id"] for one in http.get(f"{API}/scorers/list").json()["scorers"]] == [made["scorer_id"]]
    several = http.get(f"{API}/scorers/list", params={"experiment_ids": ["0", "99999"]}).json()
    assert [one["experiment_id"] for one in several["scorers"]] == [0]
    assert code(http.get(f"{API}/scorers/list", params={"experiment_ids": "0", "experiment_id": "0"})) == INVALID
    assert http.get(f"{API}/scorers/online-configs", params={"scorer_ids": made["scorer_id"]}).json() == {"configs": []}
    assert code(http.put(f"{API}/scorers/online-config", json={"experiment_id": "0", "name": "camel", "sample_rate": 1})) == (
        404,
        "ENDPOINT_NOT_FOUND",
    )


def test_prompts_and_models_share_names_and_nothing_else(http: httpx.Client) -> None:
    tag = [{"key": "mlflow.prompt.is_prompt", "value": "true"}]
    assert send(http, "POST", "registered-models/create", {"name": "words", "tags": tag}).status_code == 200
    assert send(http, "POST", "registered-models/create", {"name": "net"}).status_code == 200
    for name, tags, said in (("words", [], "taken by a prompt"), ("net", tag, "taken by a registered model"), ("words", tag, "already")):
        answer = send(http, "POST", "registered-models/create", {"name": name, "tags": tags})
        assert code(answer) == (400, "RESOURCE_ALREADY_EXISTS") and said in answer.json()["message"]
    version = {"name": "words", "source": "dummy-source", "tags": tag}
    assert send(http, "POST", "model-versions/create", version).json()["model_version"]["description"] == ""
    assert code(send(http, "POST", "model-versions/create", version | {"source": "/etc/passwd"})) == INVALID
    assert "registered model" in http.get(f"{API}/registered-models/get", params={"name": "absent"}).json()["message"]
    repos = {
        kind: [one["name"] for one in http.get("/api/v1/repos", params={"kind": kind}).json()["repos"]] for kind in ("model", "prompt")
    }
    assert repos == {"model": ["net"], "prompt": ["words"]}
    page = http.get("/models").text
    assert ">net<" in page.replace(" ", "") and "words" not in page
