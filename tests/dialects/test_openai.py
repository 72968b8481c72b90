"""OpenAI's protocol, byte for byte where it matters, over HTTP."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from drivetrain.serving.catalog import Servable
from tests.serving.plane import Plane, deployment, running, variant
from tests.serving.replica import FakeReplica


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    with running(Path(tmp_path_factory.mktemp("plane"))) as it:
        it.routes(
            deployment("m", variant("a", [it.replica()])),
            deployment("table", variant("t", [it.replica("t")], tasks=("infer",))),
        )
        it.catalog = [Servable(name="m", created_ms=5000, deployed=True), Servable(name="org/other", created_ms=7000)]
        yield it


@pytest.fixture
def replica(plane: Plane) -> FakeReplica:
    return plane.replicas[0]


def post(plane: Plane, path: str, body: Any, **more: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(f"{plane.url}{path}", content=content, timeout=20, **more)


def said(words: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": words}], **more}


def frames(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    parts = answer.text.split("\n\n")
    assert parts[-2:] == ["data: [DONE]", ""]
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-2]]


@pytest.mark.parametrize("base", ["/v1", "/openai/v1"])
def test_a_stream_without_usage(plane: Plane, base: str) -> None:
    got = frames(post(plane, f"{base}/chat/completions", said("n=3", stream=True)))
    assert [frame["choices"][0]["delta"].get("content") for frame in got] == ["t0", " t1", " t2", None]
    assert {frame["model"] for frame in got} == {"m"}
    assert plane.events()[-1].tokens_out == 3
    assert plane.events()[-1].ttft_ms is not None


def test_a_stream_with_usage(plane: Plane) -> None:
    got = frames(post(plane, "/v1/chat/completions", said("n=2", stream=True, stream_options={"include_usage": True})))
    assert got[-1]["choices"] == []
    assert got[-1]["usage"]["completion_tokens"] == 2


def test_a_plain_completion(plane: Plane, replica: FakeReplica) -> None:
    answer = post(plane, "/v1/completions", {"model": "m", "prompt": "n=2", "user": "u"})
    assert answer.json()["choices"][0]["text"] == "t0 t1"
    assert answer.json()["model"] == "m"
    assert replica.targets[-1] == "/v1/completions"
    got = frames(post(plane, "/v1/completions", {"model": "m", "prompt": "n=2", "stream": True}))
    assert [frame["choices"][0]["text"] for frame in got] == ["t0", " t1", ""]


def test_fields_that_nobody_reads_reach_the_replica(plane: Plane, replica: FakeReplica) -> None:
    body = said("n=1", stream=True, grammar="root ::= x", top_k=3, seed=7, logit_bias={"5": -1}, metadata={"a": "b"})
    post(plane, "/v1/chat/completions", body)
    assert replica.bodies[-1] == body | {"stream_options": {"include_usage": True}}


def test_names_that_engines_do_not_know_are_translated(plane: Plane, replica: FakeReplica) -> None:
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "n=9"}]}]
    answer = post(plane, "/v1/chat/completions", {"model": "m", "messages": messages, "max_completion_tokens": 2})
    assert answer.json()["usage"]["completion_tokens"] == 2
    assert replica.bodies[-1]["messages"][0]["role"] == "system"
    assert "max_completion_tokens" not in replica.bodies[-1]


def test_tool_calls_pass_through_and_are_recorded(plane: Plane) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    got = frames(post(plane, "/v1/chat/completions", said("tool n=1", stream=True, tools=tools)))
    assert got[1]["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "f"
    assert json.loads(plane.events()[-1].output or "")["tool_calls"] == [{"name": "f", "arguments": '{"a": 1}'}]


def test_embeddings_in_both_encodings(plane: Plane) -> None:
    answer = post(plane, "/v1/embeddings", {"model": "m", "input": ["a", "bb"]}).json()
    assert [item["embedding"] for item in answer["data"]] == [[3.0, 4.0, 1.0], [3.0, 4.0, 2.0]]
    assert (answer["model"], answer["usage"]) == ("m", {"prompt_tokens": 2, "total_tokens": 2})
    packed = post(plane, "/v1/embeddings", {"model": "m", "input": "a", "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert struct.unpack("<3f", base64.b64decode(packed)) == (3.0, 4.0, 1.0)
    short = post(plane, "/v1/embeddings", {"model": "m", "input": "a", "dimensions": 2}).json()["data"][0]["embedding"]
    assert short == [0.6, 0.8]
    assert post(plane, "/v1/embeddings", {"model": "m", "input": "a", "dimensions": 9}).status_code == 400
    assert plane.events()[-1].error == "invalid"


def test_models(plane: Plane) -> None:
    listed = httpx.get(f"{plane.url}/v1/models").json()
    assert [(item["id"], item["created"], item["object"]) for item in listed["data"]] == [("m", 5, "model"), ("org/other", 7, "model")]
    assert httpx.get(f"{plane.url}/v1/models/org/other").json()["id"] == "org/other"
    assert httpx.get(f"{plane.url}/v1/models/org%2Fother").json()["id"] == "org/other"
    assert httpx.get(f"{plane.url}/v1/models/none").status_code == 404


BAD: list[tuple[Any, str]] = [
    (b"{", "JSON"),
    (b'{"model": "m", "messages": [{"role": "user", "content": "\xff"}]}', "UTF-8"),
    ([], "object"),
    ({}, "model"),
    ({"model": "m"}, "messages"),
    ({"model": "", "messages": [{"role": "user", "content": "x"}]}, "model"),
    ({"model": 5, "messages": []}, "model"),
    ({"model": "m", "messages": []}, "messages"),
    ({"model": "m", "messages": "hello"}, "messages"),
    ({"model": "m", "messages": [{"role": "user", "content": 5}]}, "content"),
    ({"model": "m", "messages": [{"role": "king", "content": "x"}]}, "role"),
    ({"model": "m", "messages": [{"content": "x"}]}, "role"),
    (said("x", temperature="hot"), "temperature"),
    (said("x", temperature=9), "temperature"),
    (said("x", stream="yes"), "stream"),
    (said("x", max_tokens=-5), "max_tokens"),
    (said("x", stop=5), "stop"),
    (said("x", n=0), "n"),
    (said("x", stream_options={"include_usage": True}), "stream"),
    (said("x", top_logprobs=3), "logprobs"),
    (said("x", response_format={"type": "xml"}), "response_format"),
    (said("x", user="u" * 300), "unit"),
    (said("x", model="table"), "/kserve"),
    (b"[" * 100_000, ""),
]


@pytest.mark.parametrize(("body", "hint"), BAD, ids=range(len(BAD)))
def test_bad_input_is_a_400_with_advice(plane: Plane, body: Any, hint: str) -> None:
    asked = len(plane.replicas[0].bodies)
    answer = post(plane, "/v1/chat/completions", body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert hint in error["message"]
    assert len(plane.replicas[0].bodies) == asked
    assert plane.events()[-1].id == answer.headers["x-request-id"]
    assert plane.events()[-1].error == "invalid"


@pytest.mark.parametrize("bad", [5, [], [5, "x"], {"a": 1}, [[]], None])
def test_bad_embeddings_input(plane: Plane, bad: Any) -> None:
    assert post(plane, "/v1/embeddings", {"model": "m", "input": bad}).status_code == 400


def test_other_refusals(plane: Plane) -> None:
    big = post(plane, "/v1/chat/completions", said("x" * (2 << 20)))
    assert (big.status_code, big.json()["error"]["code"]) == (413, "request_too_large")
    unknown = post(plane, "/v1/chat/completions", said("x", model="nobody"))
    assert (unknown.status_code, unknown.json()["error"]["code"], unknown.json()["error"]["param"]) == (404, "not_found", "model")
    assert post(plane, "/v1/audio/speech", {}).status_code == 404
    wrong = httpx.get(f"{plane.url}/v1/chat/completions")
    assert (wrong.status_code, wrong.headers["allow"], wrong.json()["error"]["type"]) == (405, "POST", "invalid_request_error")
