"""The unmodified `openai` library, in its own process, against a real server and a real model."""

from __future__ import annotations

import httpx
import pytest

from tests.clients.scripts import run
from tests.conftest import Server

pytestmark = pytest.mark.slow


def test_chat_whole_and_streamed(chat_server: Server) -> None:
    got = run(
        chat_server.url,
        """
import json, openai
client = openai.OpenAI()
messages = [{"role": "user", "content": "Say hello."}]
whole = client.chat.completions.create(model="bot", messages=messages, max_tokens=12, temperature=0, seed=1)
stream = client.chat.completions.create(model="bot", messages=messages, max_tokens=12, temperature=0, seed=1, stream=True)
pieces, models, finish, usage = [], set(), None, 0
for chunk in stream:
    models.add(chunk.model)
    usage += chunk.usage is not None
    pieces.append(chunk.choices[0].delta.content or "")
    finish = chunk.choices[0].finish_reason or finish
usage_too = {"stream": True, "stream_options": {"include_usage": True}}
asked = list(client.chat.completions.create(model="bot", messages=messages, max_tokens=4, **usage_too))
print(json.dumps({
    "whole": whole.choices[0].message.content, "model": whole.model, "id": whole._request_id, "out": whole.usage.completion_tokens,
    "streamed": "".join(pieces), "models": sorted(models), "finish": finish, "usage": usage, "pieces": sum(map(bool, pieces)),
    "asked": asked[-1].usage.completion_tokens, "choices": len(asked[-1].choices),
}))
""",
    )
    assert got["whole"]
    assert got["streamed"] == got["whole"]
    assert (got["model"], got["models"]) == ("bot", ["bot"])
    assert got["finish"] in ("stop", "length")
    assert got["usage"] == 0
    assert got["pieces"] > 1
    assert (got["asked"], got["choices"]) == (4, 0)
    assert len(got["id"]) == 32


def test_completions_logprobs_json_and_models(chat_server: Server) -> None:
    got = run(
        chat_server.url,
        """
import json, openai
client = openai.OpenAI()
text = client.completions.create(model="bot", prompt="The capital of France is", max_tokens=6, temperature=0)
hi = [{"role": "user", "content": "Hi"}]
logs = client.chat.completions.create(model="bot", messages=hi, max_tokens=3, logprobs=True, top_logprobs=2)
schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False}
structured = client.chat.completions.create(
    model="bot", messages=[{"role": "user", "content": "How old are you? Answer as JSON."}], max_tokens=60, temperature=0,
    response_format={"type": "json_schema", "json_schema": {"name": "age", "schema": schema, "strict": True}})
listed = [model.id for model in client.models.list()]
print(json.dumps({
    "text": text.choices[0].text, "logs": len(logs.choices[0].logprobs.content),
    "top": len(logs.choices[0].logprobs.content[0].top_logprobs),
    "json": structured.choices[0].message.content, "listed": listed, "one": client.models.retrieve("bot").id,
}))
""",
    )
    assert "Paris" in got["text"]
    assert (got["logs"], got["top"]) == (3, 2)
    assert '"age"' in got["json"]
    assert "bot" in got["listed"]
    assert got["one"] == "bot"


def test_errors_are_the_librarys_own(chat_server: Server) -> None:
    got = run(
        chat_server.url,
        """
import json, openai
client = openai.OpenAI(max_retries=0)
def failed(**body):
    try:
        client.chat.completions.create(**body)
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.param, error.message, error.request_id]
message = [{"role": "user", "content": "x"}]
print(json.dumps([
    failed(model="nobody", messages=message),
    failed(model="bot", messages=[]),
    failed(model="bot", messages=message, temperature=9),
    failed(model="bot", messages=[{"role": "user", "content": "word " * 20000}]),
]))
""",
    )
    assert [row[:2] for row in got] == [["NotFoundError", 404]] + [["BadRequestError", 400]] * 3
    assert [row[2] for row in got[:3]] == ["model", "messages", "temperature"]
    assert "context" in got[3][3]
    assert all(len(row[4]) == 32 for row in got)


def test_a_name_of_the_registry_starts_on_demand(chat_server: Server) -> None:
    got = run(
        chat_server.url,
        """
import json, openai
answer = openai.OpenAI().chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "Hi"}], max_tokens=3)
print(json.dumps({"model": answer.model, "text": answer.choices[0].message.content}))
""",
    )
    assert got["model"] == "smollm2"
    assert got["text"]


def test_a_dropped_stream_stops_the_model(chat_server: Server) -> None:
    with httpx.stream(
        "POST",
        f"{chat_server.url}/v1/chat/completions",
        json={"model": "bot", "stream": True, "messages": [{"role": "user", "content": "Tell a very long story."}], "max_tokens": 3000},
        timeout=60,
    ) as answer:
        next(answer.iter_bytes())
    got = run(
        chat_server.url,
        """
import json, openai
answer = openai.OpenAI().chat.completions.create(model="bot", messages=[{"role": "user", "content": "Hi"}], max_tokens=3, timeout=30)
print(json.dumps(answer.choices[0].message.content))
""",
    )
    assert got
