"""wandb's protocol over HTTP: its error cases, and what the client does only when something has gone wrong."""

from __future__ import annotations

import base64
import gzip
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/wandb", timeout=30) as client:
        yield client


@pytest.fixture
def run(http: httpx.Client) -> str:
    """The path of a run that has begun: entity/project/run."""
    name = uuid.uuid4().hex[:8]
    made = ask(
        http,
        'mutation U($name: String!) { upsertBucket(input: {name: $name, modelName: "p", config: "{}"}) { inserted bucket { id '
        "historyLineCount project { name entity { name } } } } }",
        name=name,
    )["upsertBucket"]
    assert made["inserted"] and made["bucket"]["historyLineCount"] == 0
    return f"{made['bucket']['project']['entity']['name']}/p/{name}"


def post(http: httpx.Client, query: str, **variables: Any) -> httpx.Response:
    return http.post("/graphql", json={"query": query, "variables": variables, "operationName": None})


def ask(http: httpx.Client, query: str, **variables: Any) -> dict[str, Any]:
    answer = post(http, query, **variables).json()
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]
    return found


def of_run(http: httpx.Client, run: str, fields: str) -> dict[str, Any]:
    _, project, name = run.split("/")
    found: dict[str, Any] = ask(
        http, f"query Q($p: String, $r: String!) {{ project(name: $p) {{ run(name: $r) {{ {fields} }} }} }}", p=project, r=name
    )
    one: dict[str, Any] = found["project"]["run"]
    return one


def stream(http: httpx.Client, run: str, **message: Any) -> httpx.Response:
    return http.post(f"/files/{run}/file_stream", json=message)


def chunk(offset: int, *content: Any) -> dict[str, Any]:
    return {"offset": offset, "content": [one if isinstance(one, str) else json.dumps(one) for one in content]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"query": "query {"}, "ends too early"),
        ({"query": "{ viewer ) }"}, ""),
        ({"query": "{ " + "a { " * 100 + "b" + " }" * 100 + " }"}, "deep"),
        ({"query": 'mutation { upsertBucket(input: {modelName: "p"}) { inserted } }'}, "name"),
        ({"query": 'mutation { upsertBucket(input: {name: "a/b", modelName: "p"}) { inserted } }'}, "cannot be the id"),
        ({"query": 'mutation { upsertBucket(input: {name: "x", modelName: "p", config: "[1]"}) { inserted } }'}, "config"),
        ({"query": 'mutation { upsertBucket(input: {name: "x", modelName: "p", state: "dreaming"}) { inserted } }'}, "state"),
        ({"query": 'mutation { deleteRun(input: {id: "nobody"}) { success } }'}, "nobody"),
        ({"query": '{ project(name: "p") { runs(filters: "{") { edges { node { id } } } } }'}, "JSON"),
        ({"query": '{ project(name: "p") { runs(filters: "{\\"$where\\": 1}") { edges { node { id } } } } }'}, "$where"),
        ({"query": '{ project(name: "p") { runs(order: "+nothing") { edges { node { id } } } } }'}, "ordered"),
    ],
)
def test_mistakes_are_answered_and_not_tried_again(http: httpx.Client, run: str, body: dict[str, Any], said: str) -> None:
    """The client repeats what fails with 500 for many minutes: a mistake is 200 with its message, or 400."""
    answer = http.post("/graphql", json=body)
    assert answer.status_code in (200, 400), answer.text
    assert said in answer.json()["errors"][0]["message"]


def test_what_is_not_there_is_null(http: httpx.Client, run: str) -> None:
    found = ask(http, '{ project(name: "none") { id } other: project(name: "p") { run(name: "none") { id } unheard { of } } }')
    assert found == {"project": None, "other": {"run": None, "unheard": None}}
    assert http.post(f"/files/{run}x/file_stream", json={}).status_code == 404
    assert http.get("/nothing/of/the/kind").status_code == 404
    assert http.post("/sdk/otel/v1/metrics").status_code == 404


def test_fragments_directives_aliases_and_lone_values_of_lists(http: httpx.Client, run: str) -> None:
    query = """
    #graphql
    query Q($p: String = "p", $r: String!, $yes: Boolean!, $specs: [JSONString!]!) {
      model: project(name: $p) {
        __typename
        ... on Project { one: bucket(name: $r, missingOk: true) { ...Light state @include(if: $yes) tags @skip(if: $yes) } }
        run(name: $r) { sampledHistory(specs: $specs) }
      }
    }
    fragment Light on Run { name displayName }
    """
    stream(http, run, files={"wandb-history.jsonl": chunk(0, {"_step": 0, "x": 1})})
    found = ask(http, query, r=run.split("/")[2], yes=True, specs='{"keys": ["x"]}', undeclared=1)["model"]
    assert found["__typename"] == "Project" and set(found["one"]) == {"name", "displayName", "state"}
    assert found["run"]["sampledHistory"] == [[{"x": 1}]]


def test_a_stream_that_comes_twice_changes_nothing(http: httpx.Client, run: str) -> None:
    message = {
        "files": {
            "wandb-history.jsonl": chunk(0, {"_step": 0, "x": 1, "w": "a"}, '{"_step": 1, "x": NaN}', '{"_step": 2, "x": -Infinity}'),
            "wandb-events.jsonl": chunk(0, {"system.cpu": 5, "_timestamp": 1e9, "_runtime": 1}),
            "wandb-summary.json": chunk(0, {"x": 3}),
            "output.log": chunk(0, "2026-01-01T00:00:00.000000 first", '{"level": "error", "ts": "2026", "content": "second"}', "third"),
        }
    }
    for _ in range(2):
        assert stream(http, run, **message).json()["stopped"] is False
    # `wandb sync` again numbers the same rows from where the server is.
    stream(http, run, files={"wandb-history.jsonl": chunk(3, {"_step": 0, "x": 1, "w": "a"})})
    found = of_run(
        http,
        run,
        "history(samples: 100) historyLineCount eventsLineCount logLineCount summaryMetrics historyTail "
        "logLines(first: 10) { edges { node { line level } } }",
    )
    rows = [json.loads(text) for text in found["history"]]
    assert [(row["_step"], str(row["x"]), row.get("w")) for row in rows] == [(0, "1", "a"), (1, "nan", None), (2, "-inf", None)]
    assert (found["historyLineCount"], found["eventsLineCount"], found["logLineCount"]) == (3, 1, 3)
    assert json.loads(json.loads(found["historyTail"])[0])["_step"] == 2 and json.loads(found["summaryMetrics"])["x"] == 3
    assert [edge["node"] for edge in found["logLines"]["edges"]] == [
        {"line": "first", "level": None}, {"line": "second", "level": "error"}, {"line": "third", "level": None}
    ]  # fmt: skip


def test_raw_json_holds_no_bare_nan(http: httpx.Client, run: str) -> None:
    stream(http, run, files={"wandb-history.jsonl": chunk(0, '{"_step": 0, "x": NaN, "y": Infinity}')})
    answer = post(
        http,
        'query Q($r: String!, $s: [JSONString!]!) { project(name: "p") { run(name: $r) { historyKeys sampledHistory(specs: $s) } } }',
        s='{"keys": ["x", "y"]}',
        r=run.split("/")[2],
    )

    def refuse(word: str) -> None:
        raise AssertionError(f"a bare {word}")

    found = json.loads(answer.text, parse_constant=refuse)["data"]["project"]["run"]
    assert found["sampledHistory"] == [[{"x": "NaN", "y": "Infinity"}]] and found["historyKeys"]["lastStep"] == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"files": {"wandb-history.jsonl": {"offset": -1, "content": []}}}', 400),
        (b'{"files": {"wandb-history.jsonl": {"offset": 0, "content": [5]}}}', 400),
        (b'{"files": {"wandb-history.jsonl": {"offset": 0, "content": ["[]"]}}}', 400),
        (b'{"files": {"wandb-history.jsonl": {"offset": 0, "content": ["{"]}}}', 400),
        (b"", 200),
        (b"{}", 200),
        (b'{"files": 3, "complete": false, "exitcode": "x"}', 200),
        (b'{"files": {"unknown.txt": {"offset": 0, "content": ["a"]}}}', 200),
    ],
)
def test_messages_that_make_no_sense(http: httpx.Client, run: str, body: bytes, status: int) -> None:
    assert http.post(f"/files/{run}/file_stream", content=body).status_code == status


def test_a_gzipped_stream(http: httpx.Client, run: str) -> None:
    message = json.dumps({"files": {"wandb-history.jsonl": chunk(0, {"_step": 4, "x": 1})}, "complete": True, "exitcode": 0}).encode()
    zipped = {"content-encoding": "gzip"}
    assert http.post(f"/files/{run}/file_stream", content=gzip.compress(message), headers=zipped).status_code == 200
    assert of_run(http, run, "state historyKeys")["state"] == "finished"
    assert http.post(f"/files/{run}/file_stream", content=b"no gzip", headers=zipped).status_code == 400
    bomb = gzip.compress(b" " * 100_000_000)
    assert http.post(f"/files/{run}/file_stream", content=bomb, headers=zipped).status_code == 413


def test_files_have_addresses_that_need_no_key_and_hold_for_one_file(http: httpx.Client, run: str) -> None:
    entity, project, name = run.split("/")
    made = ask(
        http,
        "mutation C($p: String!, $r: String!, $f: [String!]!) { createRunFiles(input: {projectName: $p, runName: $r, files: $f}) "
        "{ runID uploadHeaders files { name uploadUrl } } }",
        p=project, r=name, f=["media/a b+ü.txt", "empty.txt"],
    )["createRunFiles"]  # fmt: skip
    addresses = {one["name"]: one["uploadUrl"] for one in made["files"]}
    assert httpx.put(addresses["media/a b+ü.txt"], content=b"hello").status_code == 200
    assert httpx.put(addresses["empty.txt"], content=b"").status_code == 200
    files = of_run(http, run, "fileCount files { edges { node { name sizeBytes md5 directUrl } } }")
    assert files["fileCount"] == 2
    read = {one["node"]["name"]: one["node"] for one in files["files"]["edges"]}
    got = httpx.get(read["media/a b+ü.txt"]["directUrl"])
    assert got.content == b"hello" and base64.b64decode(read["media/a b+ü.txt"]["md5"]).hex() == "5d41402abc4b2a76b9719d911017c592"
    ranged = httpx.get(read["media/a b+ü.txt"]["directUrl"], headers={"range": "bytes=1-2"})
    assert (ranged.status_code, ranged.content) == (206, b"el")
    # An address to read does not write, nor does a signature hold for another path.
    assert httpx.put(read["media/a b+ü.txt"]["directUrl"], content=b"x").status_code in (401, 403)
    assert httpx.get(read["empty.txt"]["directUrl"].replace("/storage/run/", "/storage/run/x")).status_code in (401, 403, 404)
    bad = ask(
        http,
        'mutation C($r: String!) { createRunFiles(input: {projectName: "p", runName: $r, files: ["../out"]}) { files { uploadUrl } } }',
        r=name,
    )
    assert httpx.put(bad["createRunFiles"]["files"][0]["uploadUrl"], content=b"x").status_code == 400
    assert entity == "default"


def test_links_that_the_client_prints_lead_to_the_dashboard(http: httpx.Client, run: str) -> None:
    entity, project, name = run.split("/")
    moved = http.get(f"/{entity}/{project}/runs/{name}")
    assert moved.status_code == 302 and moved.headers["location"].startswith("/runs/")
    assert http.get(f"/{entity}/{project}").headers["location"].startswith("/runs?experiment=")
