"""Bad input at every door: the dialect's own 4xx with advice in it, and nothing has changed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.common import deploy_digits, drivetrain
from tests.conftest import Server

pytestmark = pytest.mark.slow

OPENAI, OLLAMA, V2, SCORING = "/v1/chat/completions", "/ollama/api/chat", "/v2/models/digits/infer", "/invoke/digits/invocations"
MLFLOW, NATIVE = "/mlflow/api/2.0/mlflow", "/api/v1"
DEEP = b"[" * 100_000


@pytest.fixture(scope="module")
def http(server: Server, digits_model: Path) -> Iterator[httpx.Client]:
    deploy_digits(server, digits_model)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def message(path: str, answer: httpx.Response) -> str:
    """The error's words, taken from where the dialect's clients look for them."""
    body: Any = answer.json()
    if path.startswith(("/v1", NATIVE)):
        return str(body["error"]["message"])
    if path.startswith(("/ollama", "/v2")):
        return str(body["error"])
    if path.startswith("/mlflow"):
        assert body["error_code"].isupper()
    return str(body["message"] if "message" in body else body["error"])


def state(http: httpx.Client) -> list[Any]:
    """What must not change."""
    return [http.get(path).json() for path in (f"{NATIVE}/repos", f"{NATIVE}/deployments", f"{NATIVE}/runs", f"{NATIVE}/keys")]


@pytest.mark.parametrize(
    "path", [OPENAI, OLLAMA, V2, SCORING, f"{MLFLOW}/experiments/create", f"{MLFLOW}/runs/log-batch", f"{NATIVE}/deployments"]
)
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'"text"', b'{"a": NaN}', DEEP], ids=repr)
def test_malformed_bodies(http: httpx.Client, path: str, body: bytes) -> None:
    before = state(http)
    answer = http.post(path, content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert message(path, answer)
    assert answer.headers["x-request-id"]
    assert state(http) == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (OPENAI, {"model": 7, "messages": []}),
        (OPENAI, {"model": "digits", "messages": "hello"}),
        (OPENAI, {"model": "digits", "messages": [{"role": 1}]}),
        (OPENAI, {"messages": [{"role": "user", "content": "x"}]}),
        (OPENAI, {"model": "digits", "messages": [{"role": "user", "content": "a classifier does not chat"}]}),
        (OLLAMA, {"model": [], "messages": []}),
        (V2, {"inputs": "x"}),
        (V2, {"inputs": [{"name": "x", "shape": [-1], "datatype": "FP64", "data": [1]}]}),
        (V2, {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP64", "data": [1, 2]}]}),
        (V2, {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}),
        (V2, {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "BYTES", "data": ["a"] * 64}]}),
        (SCORING, {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}),
        (SCORING, {"inputs": [[1, 2], [3]]}),
        (SCORING, {"inputs": [["a"] * 64]}),
        (SCORING, {"instances": [], "inputs": []}),
        (f"{MLFLOW}/runs/create", {"experiment_id": "no number"}),
        (f"{MLFLOW}/runs/create", {"experiment_id": "999999"}),
        (f"{MLFLOW}/runs/log-metric", {"run_id": "x", "key": "k", "value": "text", "timestamp": 1}),
        (f"{MLFLOW}/runs/search", {"experiment_ids": ["0"], "filter": "metrics.a = 'text' OR 1"}),
        (f"{NATIVE}/deployments", {"name": "x"}),
        (f"{NATIVE}/deployments", {"name": "../x", "source": "digits"}),
        (f"{NATIVE}/deployments", {"name": "x", "source": "no-such-model"}),
        (f"{NATIVE}/deployments", {"name": "x", "source": "digits", "engine": "magic"}),
        (f"{NATIVE}/deployments", {"name": "x", "source": "digits", "min_replicas": -1}),
        (f"{NATIVE}/jobs", {"kind": "rm", "spec": {}}),
        (f"{NATIVE}/keys", {"scopes": ["everything"]}),
        (f"{NATIVE}/repos", {"name": "../../etc", "kind": "model"}),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else value,
)
def test_wrong_values(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    before = state(http)
    answer = http.post(path, json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert len(message(path, answer)) > 15, "an error says what to do"
    assert state(http) == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/keys", b'{"days": 1e400}'),
        ("/keys", b'{"days": "nan"}'),
        ("/keys", b'{"days": 1e15}'),
        ("/experiments", b'{"name": "half a pair: \\ud800"}'),
        ("/runs", b'{"experiment": "0", "start_ms": 99999999999999999999999}'),
        ("/repos", b'{"name": "half-\\ud800"}'),
        ("/users", b'{"name": "ada", "display": "\\ud800"}'),
    ],
)
def test_values_beyond_what_is_stored(http: httpx.Client, path: str, body: bytes) -> None:
    before = state(http)
    answer = http.post(f"{NATIVE}{path}", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert len(message(NATIVE, answer)) > 15
    assert state(http) == before


@pytest.mark.parametrize("days", ["abc", "nan", "inf", "-1", "1e300"])
def test_a_form_with_no_number(http: httpx.Client, days: str) -> None:
    answer = http.post("/keys", data={"name": "x", "scope": "read", "days": days})
    assert answer.status_code == 400
    assert "days" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", OPENAI, {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}),
        ("POST", OLLAMA, {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}),
        ("POST", "/v2/models/nobody/infer", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}),
        ("POST", "/invoke/nobody/invocations", {"inputs": [1]}),
        ("GET", "/v1/models/nobody", None),
        ("GET", "/v1/no/such/path", None),
        ("POST", "/ollama/api/nothing", {}),
        ("GET", f"{MLFLOW}/runs/get?run_id={'0' * 32}", None),
        ("GET", f"{MLFLOW}/registered-models/get?name=nobody", None),
        ("POST", f"{MLFLOW}/no/such/endpoint", {}),
        ("GET", f"{NATIVE}/deployments/nobody", None),
        ("GET", f"{NATIVE}/jobs/nobody", None),
        ("GET", f"{NATIVE}/requests/01900000000070008000000000000000/lineage", None),
        ("GET", f"{NATIVE}/nothing", None),
    ],
)
def test_unknown_names(http: httpx.Client, method: str, path: str, body: Any) -> None:
    answer = http.request(method, path, json=body)
    assert answer.status_code == 404, answer.text
    assert message(path, answer)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "%2e%2e/x", "%252e%252e/x", "/etc/passwd", "..%2f..%2fx", "a//..//..//x", "a/%2e%2e/%2e%2e/x"]
)
def test_paths_that_leave_their_folder(http: httpx.Client, server: Server, path: str) -> None:
    run = http.post(f"{MLFLOW}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]
    root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    # httpx would tidy such a path; a plain connection does not.
    target = f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{root}/{path}"
    for method, data in (("PUT", b"x"), ("GET", None), ("DELETE", None)):
        connection = HTTPConnection(server.url.removeprefix("http://"), timeout=30)
        connection.putrequest(method, target, skip_accept_encoding=True)
        connection.putheader("content-length", str(len(data or b"")))
        connection.endheaders(data)
        answer = connection.getresponse()
        assert 400 <= answer.status < 500, (method, answer.status, answer.read())
        connection.close()
    listed = httpx.get(f"{server.url}{MLFLOW}/artifacts/list", params={"run_id": run["run_id"]}).json()
    assert not listed.get("files")


def test_an_upload_whose_digest_is_wrong(http: httpx.Client) -> None:
    data = os.urandom(100_000)
    wrong = hashlib.sha256(b"other").hexdigest()
    answer = http.put(f"{NATIVE}/blobs/{wrong}", content=data)
    assert answer.status_code == 400, answer.text
    known = http.post(f"{NATIVE}/blobs/known", json={"blobs": [{"sha256": wrong, "size": len(data)}]})
    assert wrong not in known.text or known.json() == {"known": []}


def test_a_corrupt_gguf(http: httpx.Client, server: Server, gguf_model: Path, tmp_path: Path) -> None:
    """Refused when it is to be served, with the reason; the server goes on."""
    (tmp_path / "broken.gguf").write_bytes(gguf_model.read_bytes()[: 10 << 20])
    environ = {**os.environ, "DRIVETRAIN_URL": server.url, "DRIVETRAIN_API_KEY": server.token}
    command = [sys.executable, "-m", "drivetrain.cli.main"]
    subprocess.run([*command, "pull", str(tmp_path / "broken.gguf"), "--name", "broken"], env=environ, capture_output=True)
    answer = http.post(OPENAI, json={"model": "broken", "messages": [{"role": "user", "content": "x"}]})
    assert 400 <= answer.status_code < 500, answer.text
    done = subprocess.run([*command, "deploy", "broken", "broken", "--wait"], env=environ, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert http.post(SCORING, json={"inputs": [[0.0] * 64]}).status_code == 200


def test_a_model_that_does_not_fit(server: Server, http: httpx.Client, gguf_model: Path) -> None:
    """Said at once and in words, to the one who deploys and to the one who asks."""
    drivetrain(server, "pull", str(gguf_model), "--name", "smol")
    options = {"parallel": 512, "context_tokens": 8192}  # 512 slots of 8,192 tokens: some 90 GiB of cache
    made = http.post(f"{NATIVE}/deployments", json={"name": "huge", "source": "smol", "options": options})
    assert made.status_code == 201, made.text
    answer = http.post(OPENAI, json={"model": "huge", "messages": [{"role": "user", "content": "x"}]})
    assert answer.status_code == 503
    assert "GiB" in answer.json()["error"]["message"]
    assert "GiB" in http.get(f"{NATIVE}/deployments/huge").json()["problem"]
    http.delete(f"{NATIVE}/deployments/huge").raise_for_status()


def test_bodies_that_are_too_large(new_body: bytes, http: httpx.Client) -> None:
    for path in (OPENAI, OLLAMA, V2, SCORING, f"{MLFLOW}/runs/create", f"{NATIVE}/jobs", f"{NATIVE}/session"):
        answer = http.post(path, content=new_body, headers={"content-type": "application/json"})
        assert answer.status_code == 413, answer.text
        assert "MiB" in message(path, answer)


def test_forms_that_are_too_large(new_body: bytes, http: httpx.Client) -> None:
    answer = http.post("/sign-in", content=b"key=" + new_body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert answer.status_code in (400, 413)  # the form parser has a limit of its own


@pytest.fixture(scope="module")
def new_body() -> bytes:
    return b'{"model": "digits", "prompt": "' + b"x" * (40 << 20) + b'"}'
