"""A replica made for tests: a real HTTP peer on a Unix socket that speaks the canonical protocol and misbehaves when told to.

What it does is written in the request: the last message (or the prompt) is a list of words, `key=value` among them.
`n=8` tokens to say, `gap=0.01` seconds between them, `die=3` ends the process's side after so many tokens (0: before any),
`wait=0.5` seconds before anything, `status=400` answers with an error, `garbage` is not HTTP, `error=2` an error frame after two tokens.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any


class FakeReplica:
    def __init__(self, socket: Path, *, name: str = "replica") -> None:
        self.socket = socket
        self.name = name
        self.active = 0
        self.most_active = 0
        self.cancelled = 0
        self.connections = 0
        self.bodies: list[dict[str, Any]] = []
        self.targets: list[str] = []
        self.sent_bytes = 0
        self.loading = False
        self.deaths_left = 1 << 30
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> FakeReplica:
        self.socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.socket), backlog=256)
        return self

    async def stop(self) -> None:
        """As kill -9: the socket goes, connections break."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        self.socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        target = head.split(" ", 2)[1]
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        body = json.loads(raw) if raw else {}
        self.bodies.append(body)
        self.targets.append(target)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        watch = asyncio.ensure_future(reader.read(1))
        work = asyncio.ensure_future(self._answer(target, body, writer))
        try:
            done, _ = await asyncio.wait({watch, work}, return_when=asyncio.FIRST_COMPLETED)
            if work not in done:
                self.cancelled += 1
                return False
            return work.result() and headers.get("connection") != "close"
        finally:
            for task in (watch, work):
                task.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)
            self.active -= 1

    async def _answer(self, target: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        if self.loading:
            return await self._json(writer, {"error": {"code": 503, "message": "Loading model"}}, 503)
        if target.startswith("/v2/models/model/infer"):
            return await self._json(writer, _inferred(body))
        if target == "/v2/models/model":
            tensor = {"name": "x", "datatype": "FP64", "shape": [-1]}
            return await self._json(
                writer, {"name": "model", "versions": ["1"], "platform": "test", "inputs": [tensor], "outputs": [tensor]}
            )
        if target == "/v1/embeddings":
            texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
            data = [{"object": "embedding", "index": i, "embedding": [3.0, 4.0, float(len(t))]} for i, t in enumerate(texts)]
            usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
            return await self._json(writer, {"object": "list", "data": data, "model": "/secret/path.gguf", "usage": usage})
        return await self._generate(target, body, writer)

    async def _generate(self, target: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        chat = target == "/v1/chat/completions"
        said = body["messages"][-1]["content"] if chat else body["prompt"]
        words = said if isinstance(said, str) else said[0]["text"]
        told: dict[str, str] = {word.partition("=")[0]: word.partition("=")[2] or "1" for word in words.split()}
        count = int(told.get("n", "3"))
        count = min(count, body.get("max_tokens", count))
        await asyncio.sleep(float(told.get("wait", "0")))
        if "status" in told:
            return await self._json(
                writer, {"error": {"code": int(told["status"]), "message": "the replica does not like this"}}, int(told["status"])
            )
        if "garbage" in told:
            writer.write(b"this is not HTTP\r\n\r\n")
            return False
        die = int(told["die"]) if "die" in told and self.deaths_left > 0 else -1
        self.deaths_left -= die >= 0
        usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count, "prompt_tokens_details": {"cached_tokens": 2}}
        common = {"id": "chatcmpl-1", "created": 1, "model": "/secret/path.gguf", "system_fingerprint": "b0"}
        tools = (
            [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}] if "tool" in told else None
        )

        def logs(*tokens: int) -> dict[str, Any]:
            shown = [{"id": i, "token": f"t{i}", "logprob": -0.5, "bytes": [116]} for i in tokens]
            return {"logprobs": {"content": [one | {"top_logprobs": [one]} for one in shown]}} if body.get("logprobs") else {}

        if not body.get("stream"):
            if die >= 0:
                writer.transport.abort()
                return False
            text = " ".join(f"t{i}" for i in range(count))
            message = {"role": "assistant", "content": text} | ({"tool_calls": tools} if tools else {})
            choice = {"index": 0, "finish_reason": "stop"} | ({"message": message} if chat else {"text": text}) | logs(*range(count))
            return await self._json(writer, common | {"object": "chat.completion", "choices": [choice], "usage": usage})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

        def frame(data: dict[str, Any] | str) -> None:
            line = f"data: {data if isinstance(data, str) else json.dumps(data, separators=(',', ':'))}\n\n".encode()
            writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self.sent_bytes += len(line)

        filler = "x" * int(told.get("fill", "0"))
        for i in range(count):
            if i == die:
                await writer.drain()
                writer.transport.abort()
                return False
            if i == int(told.get("error", "-1")):
                frame({"error": {"code": 500, "message": "out of memory"}})
                return False
            text = (f"t{i}" if i == 0 else f" t{i}") + filler
            choice = {"index": 0, "finish_reason": None} | ({"delta": {"content": text}} if chat else {"text": text}) | logs(i)
            frame(common | {"object": "chat.completion.chunk", "choices": [choice]})
            await writer.drain()
            if gap := float(told.get("gap", "0")):
                await asyncio.sleep(gap)
        if tools:
            frame(common | {"choices": [{"index": 0, "delta": {"tool_calls": tools}}]})
        last: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        frame(common | {"choices": [{"index": 0, "finish_reason": "length"} | last]})
        if (body.get("stream_options") or {}).get("include_usage"):
            frame(common | {"choices": [], "usage": usage, "timings": {"prompt_ms": 2.5, "predicted_ms": 4.5}})
        frame("[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return False  # as llama.cpp: closes after a stream

    async def _json(self, writer: asyncio.StreamWriter, value: Any, status: int = 200) -> bool:
        data = json.dumps(value, separators=(",", ":")).encode()
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()
        return status == 200


def _inferred(body: dict[str, Any]) -> dict[str, Any]:
    """Echoes tensors; a table becomes the sums of its rows."""
    if (body.get("parameters") or {}).get("content_type") == "pd":
        columns = [[x if isinstance(x, (int, float)) else 0 for x in item["data"]] for item in body["inputs"]]
        sums = [float(sum(row)) for row in zip(*columns, strict=True)]
        return {"model_name": "model", "outputs": [{"name": "sum", "datatype": "FP64", "shape": [len(sums)], "data": sums}]}
    return {"model_name": "model", "outputs": [{k: item[k] for k in ("name", "datatype", "shape", "data")} for item in body["inputs"]]}
