"""Ollama's protocol over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
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
        it.routes(deployment("m", variant("a", [it.replica()])), deployment("cold", variant("c", [])))
        known = {"family": "llama", "parameters": 134_515_008, "quantization": "Q4_1", "context_length": 8192, "format": "gguf"}
        it.catalog = [
            Servable(name="m", created_ms=5000, size=91, digest="a" * 64, tasks=("chat",), template="{% if tools %}", tools=True, **known),  # type: ignore[arg-type]
            Servable(name="other:v2", created_ms=7000, tasks=("embeddings",)),
        ]
        yield it


@pytest.fixture
def replica(plane: Plane) -> FakeReplica:
    return plane.replicas[0]


def post(plane: Plane, path: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{plane.url}/ollama/api/{path}", json=body, timeout=20)


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_chat_streams_by_default(plane: Plane) -> None:
    got = lines(post(plane, "chat", model="m", messages=[{"role": "user", "content": "n=3"}]))
    assert [line["message"]["content"] for line in got] == ["t0", " t1", " t2", ""]
    assert [line["done"] for line in got] == [False, False, False, True]
    last = got[-1]
    assert (last["model"], last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("m", "length", 7, 3)
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (2_500_000, 4_500_000)
    assert isinstance(last["total_duration"], int)
    assert isinstance(last["load_duration"], int)
    datetime.fromisoformat(last["created_at"])
    event = plane.events()[-1]
    assert (event.dialect, event.task, event.stream, event.output, event.tokens_out) == ("ollama", "chat", True, "t0 t1 t2", 3)


def test_chat_whole(plane: Plane) -> None:
    got = post(plane, "chat", model="m:latest", messages=[{"role": "user", "content": "n=2"}], stream=False).json()
    assert got["message"] == {"role": "assistant", "content": "t0 t1"}
    assert (got["model"], got["done"], got["done_reason"], got["eval_count"]) == ("m:latest", True, "stop", 2)


def test_generate(plane: Plane, replica: FakeReplica) -> None:
    got = lines(post(plane, "generate", model="m", prompt="n=2", system="be brief"))
    assert [line["response"] for line in got] == ["t0", " t1", ""]
    assert replica.bodies[-1]["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "n=2"}]
    assert post(plane, "generate", model="m", prompt="n=2", stream=False).json()["response"] == "t0 t1"
    raw = post(plane, "generate", model="m", prompt="n=2", raw=True, stream=False)
    assert raw.json()["response"] == "t0 t1"
    assert replica.targets[-1] == "/v1/completions"


def test_options_are_translated(plane: Plane, replica: FakeReplica) -> None:
    options = {
        "num_predict": 2,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["x"],
        "top_k": 5,
        "repeat_penalty": 1.1,
        "num_ctx": 512,
        "num_gpu": 1,
    }
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    messages = [{"role": "user", "content": "n=9"}]
    post(plane, "chat", model="m", messages=messages, options=options, format=schema, keep_alive="5m", think=False)
    body = replica.bodies[-1]
    expected = {"max_tokens": 2, "temperature": 0.5, "seed": 3, "stop": ["x"], "top_k": 5, "repeat_penalty": 1.1}
    assert {key: body.get(key) for key in expected} == expected
    assert "num_ctx" not in body
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    post(plane, "chat", model="m", messages=messages, format="json", options={"num_predict": -1})
    assert replica.bodies[-1]["response_format"] == {"type": "json_object"}
    assert "max_tokens" not in replica.bodies[-1]


def test_tools_both_ways(plane: Plane, replica: FakeReplica) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    messages = [
        {"role": "user", "content": "what"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "tool_name": "f", "content": "tool n=1"},
    ]
    got = lines(post(plane, "chat", model="m", messages=messages, tools=tools))
    calls = [line["message"]["tool_calls"] for line in got if "tool_calls" in line["message"]]
    assert calls == [[{"function": {"name": "f", "arguments": {"a": 1}}}]]
    sent = replica.bodies[-1]["messages"]
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]
    whole = post(plane, "chat", model="m", messages=messages, tools=tools, stream=False).json()
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == {"a": 1}


def test_logprobs_are_at_the_top(plane: Plane, replica: FakeReplica) -> None:
    got = post(plane, "chat", model="m", messages=[{"role": "user", "content": "n=2"}], logprobs=True, top_logprobs=1, stream=False).json()
    assert (replica.bodies[-1]["logprobs"], replica.bodies[-1]["top_logprobs"]) == (True, 1)
    assert [item["token"] for item in got["logprobs"]] == ["t0", "t1"]
    assert got["logprobs"][0]["top_logprobs"][0]["logprob"] == -0.5
    streamed = lines(post(plane, "chat", model="m", messages=[{"role": "user", "content": "n=2"}], logprobs=True))
    assert [line["logprobs"][0]["token"] for line in streamed[:2]] == ["t0", "t1"]


def test_embeddings(plane: Plane) -> None:
    got = post(plane, "embed", model="m", input=["a", "bb"]).json()
    assert got["embeddings"] == [[3.0, 4.0, 1.0], [3.0, 4.0, 2.0]]
    assert (got["model"], got["prompt_eval_count"]) == ("m", 2)
    assert post(plane, "embed", model="m", input="a", dimensions=2).json()["embeddings"] == [[0.6, 0.8]]
    assert post(plane, "embeddings", model="m", prompt="abc").json() == {"embedding": [3.0, 4.0, 3.0]}


def test_an_empty_prompt_loads(plane: Plane) -> None:
    got = post(plane, "generate", model="m", stream=False).json()
    assert (got["done"], got["done_reason"], got["response"]) == (True, "load", "")
    assert lines(post(plane, "chat", model="m", messages=[], keep_alive=0))[0]["done_reason"] == "unload"


def test_listings(plane: Plane) -> None:
    tags = httpx.get(f"{plane.url}/ollama/api/tags").json()["models"]
    assert [item["name"] for item in tags] == ["m:latest", "other:v2"]
    assert tags[0]["details"]["parameter_size"] == "134.52M"
    assert (tags[0]["digest"], tags[0]["size"]) == ("a" * 64, 91)
    running_now = httpx.get(f"{plane.url}/ollama/api/ps").json()["models"]
    assert [item["name"] for item in running_now] == ["m:latest"]
    shown = post(plane, "show", model="m").json()
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["model_info"]["llama.context_length"] == 8192
    assert post(plane, "show", model="none").status_code == 404
    assert lines(post(plane, "pull", model="m"))[-1] == {"status": "success"}
    assert post(plane, "pull", model="m", stream=False).json() == {"status": "success"}
    assert post(plane, "pull", model="none").status_code == 404


def test_the_root(plane: Plane) -> None:
    assert httpx.get(f"{plane.url}/ollama").text == "Ollama is running"
    assert httpx.get(f"{plane.url}/ollama/").text == "Ollama is running"
    assert httpx.head(f"{plane.url}/ollama/").status_code == 200
    assert "version" in httpx.get(f"{plane.url}/ollama/api/version").json()


BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("chat", {}, 400, "model"),
    ("chat", {"model": "m", "messages": "x"}, 400, "messages"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": 5}]}, 400, "content"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": "x"}], "options": {"temperature": "hot"}}, 400, "temperature"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": "x"}], "format": "xml"}, 400, "format"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": "x"}], "keep_alive": "soon"}, 400, "keep_alive"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": "x", "images": ["aaaa"]}]}, 400, "images"),
    ("chat", {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}, 404, "nobody"),
    ("generate", {"model": "m", "prompt": "x", "suffix": "y"}, 400, "suffix"),
    ("generate", {"model": "m", "prompt": "x", "context": [1]}, 400, "context"),
    ("embed", {"model": "m", "input": []}, 400, "input"),
    ("embed", {"model": "m", "input": {"a": 1}}, 400, "input"),
    ("copy", {"source": "m", "destination": "n"}, 404, "copy"),
]


@pytest.mark.parametrize(("path", "body", "status", "hint"), BAD, ids=range(len(BAD)))
def test_bad_input(plane: Plane, path: str, body: dict[str, Any], status: int, hint: str) -> None:
    answer = post(plane, path, **body)
    assert answer.status_code == status
    assert hint in answer.json()["error"]


def test_a_stream_that_breaks_ends_with_an_error_line(plane: Plane) -> None:
    got = lines(post(plane, "generate", model="m", prompt="n=5 die=2"))
    assert [line.get("response") for line in got] == ["t0", " t1", None]
    assert "went away" in got[-1]["error"]
    assert plane.events()[-1].error == "upstream"
    assert "out of memory" in lines(post(plane, "generate", model="m", prompt="n=5 error=0"))[-1]["error"]
