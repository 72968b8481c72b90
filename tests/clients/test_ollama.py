"""The unmodified `ollama` library, in its own process, against a real server and a real model."""

from __future__ import annotations

import pytest

from tests.clients.scripts import run
from tests.conftest import Server

pytestmark = pytest.mark.slow


def test_chat_and_generate(chat_server: Server) -> None:
    got = run(
        chat_server.url,
        """
import json, ollama
messages = [{"role": "user", "content": "Say hello."}]
options = {"num_predict": 12, "temperature": 0, "seed": 1}
whole = ollama.chat("bot", messages=messages, options=options)
pieces = list(ollama.chat("bot", messages=messages, options=options, stream=True))
generated = ollama.generate("bot:latest", "Say hello.", options=options)
raw = ollama.generate("bot", "The capital of France is", raw=True, options=options)
print(json.dumps({
    "whole": whole.message.content, "streamed": "".join(p.message.content for p in pieces), "pieces": len(pieces),
    "last": [pieces[-1].done, pieces[-1].done_reason, pieces[-1].eval_count, pieces[-1].prompt_eval_count],
    "durations": [pieces[-1].total_duration, pieces[-1].eval_duration, pieces[-1].prompt_eval_duration],
    "generated": generated.response, "raw": raw.response, "model": generated.model,
}))
""",
    )
    assert got["whole"]
    assert got["whole"] == got["streamed"] == got["generated"]
    assert "Paris" in got["raw"]
    assert got["pieces"] > 2
    assert got["last"][0] is True
    assert got["last"][1] in ("stop", "length")
    assert 0 < got["last"][2] <= 12
    assert got["last"][3] > 0
    assert all(duration > 100_000 for duration in got["durations"])
    assert got["model"] == "bot:latest"


def test_listings(chat_server: Server) -> None:
    got = run(
        chat_server.url,
        """
import json, ollama
shown = ollama.show("smollm2")
print(json.dumps({
    "tags": [(m.model, m.size, len(m.digest), m.details.format, m.details.quantization_level) for m in ollama.list().models],
    "running": [m.model for m in ollama.ps().models],
    "family": shown.details.family, "capabilities": shown.capabilities, "info": sorted(shown.modelinfo),
    "pull": ollama.pull("smollm2").status,
}))
""",
    )
    tags = {tag[0]: tag[1:] for tag in got["tags"]}
    assert {"bot:latest", "smollm2:latest"} <= set(tags)
    size, digest, form, quantization = tags["smollm2:latest"]
    assert size > 50_000_000
    assert digest == 64
    assert (form, quantization) == ("gguf", "Q4_1")
    assert "bot:latest" in got["running"]
    assert got["family"] == "llama"
    assert "completion" in got["capabilities"]
    assert "llama.context_length" in got["info"]
    assert got["pull"] == "success"


def test_json_and_errors(chat_server: Server) -> None:
    got = run(
        chat_server.url,
        """
import json, ollama
schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
structured = ollama.chat("bot", messages=[{"role": "user", "content": "How old are you?"}], format=schema, options={"num_predict": 60})
def failed(call):
    try:
        call()
    except ollama.ResponseError as error:
        return [error.status_code, error.error]
print(json.dumps({
    "json": structured.message.content,
    "unknown": failed(lambda: ollama.chat("nobody", messages=[{"role": "user", "content": "x"}])),
    "stream": failed(lambda: list(ollama.generate("nobody", "x", stream=True))),
    "options": failed(lambda: ollama.generate("bot", "x", options={"temperature": "hot"})),
    "embed": failed(lambda: ollama.embed("bot", "x")),
}))
""",
    )
    assert '"age"' in got["json"]
    assert got["unknown"][0] == 404
    assert "nobody" in got["unknown"][1]
    assert got["stream"][0] == 404
    assert got["options"][0] == 400
    assert got["embed"][0] == 400
