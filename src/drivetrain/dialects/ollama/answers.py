"""From the canonical protocol's answers to Ollama's lines."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from drivetrain.errors import DrivetrainError
from drivetrain.serving.gateway.canonical import Choice, Chunk
from drivetrain.serving.gateway.generate import Frame, Transcript
from drivetrain.store.events.model import Event


class Lines:
    """Makes the lines of one answer. `chat` decides between `message` and `response`."""

    content_type = "application/x-ndjson"

    def __init__(self, name: str, *, chat: bool) -> None:
        self._name = name
        self._chat = chat
        self._began = time.perf_counter_ns()

    def part(self, frame: Frame) -> bytes:
        line = self.pieces(frame.chunk)
        return b"" if line is None else _encoded(line)

    def end(self, transcript: Transcript, event: Event) -> bytes:
        tools = self.tools(transcript)
        return (b"" if tools is None else _encoded(tools)) + _encoded(self.last(transcript, event))

    def error(self, error: DrivetrainError) -> bytes:
        return _encoded({"error": error.message})

    def pieces(self, chunk: Chunk) -> dict[str, Any] | None:
        """The line for one frame; None when it has nothing to show yet."""
        for choice in chunk.choices:
            if choice.index:
                continue
            said = choice.delta or choice.message
            text = choice.text or (said.content if said else None) or ""
            thinking = said.reasoning_content if said else None
            logprobs = _logprobs(choice)
            if text or thinking or logprobs:
                return self._line(text, thinking, logprobs, None)
        return None

    def tools(self, transcript: Transcript) -> dict[str, Any] | None:
        """The line with the tool calls, which are shown when they are complete."""
        calls = [{"function": {"name": name, "arguments": _object(arguments)}} for name, arguments in transcript.tool_calls()]
        return self._line("", None, None, calls) if calls else None

    def last(self, transcript: Transcript, event: Event, *, reason: str | None = None) -> dict[str, Any]:
        """The closing line with the counts. Durations are nanoseconds."""
        line = self._line("", None, None, None)
        total = time.perf_counter_ns() - self._began
        queued = int(event.queue_ms * 1e6)
        if transcript.timings is not None:
            prompt, spoken = int(transcript.timings.prompt_ms * 1e6), int(transcript.timings.predicted_ms * 1e6)
        else:
            prompt = max(0, int((event.ttft_ms or 0) * 1e6) - queued)
            spoken = max(0, total - queued - prompt)
        read, _, written = transcript.tokens or (0, 0, 0)
        finish = transcript.finish_reason
        return line | {
            "done": True,
            "done_reason": reason or (finish if finish == "length" else "stop"),
            "total_duration": total,
            "load_duration": queued,
            "prompt_eval_count": read,
            "prompt_eval_duration": prompt,
            "eval_count": written,
            "eval_duration": spoken,
        }

    def whole(self, chunk: Chunk, transcript: Transcript, event: Event) -> dict[str, Any]:
        """The answer to a request that did not want a stream."""
        line = self.pieces(chunk) or {}
        tools = self.tools(transcript)
        out = self.last(transcript, event)
        if self._chat:
            out["message"] |= line.get("message", {})
            if tools:
                out["message"]["tool_calls"] = tools["message"]["tool_calls"]
        else:
            out |= {key: line[key] for key in ("response", "thinking") if key in line}
        if "logprobs" in line:
            out["logprobs"] = line["logprobs"]
        return out

    def _line(self, text: str, thinking: str | None, logprobs: list[Any] | None, tool_calls: list[Any] | None) -> dict[str, Any]:
        line: dict[str, Any] = {"model": self._name, "created_at": timestamp()}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if thinking:
                message["thinking"] = thinking
            if tool_calls:
                message["tool_calls"] = tool_calls
            line["message"] = message
        else:
            line["response"] = text
            if thinking:
                line["thinking"] = thinking
        if logprobs:
            line["logprobs"] = logprobs
        line["done"] = False
        return line


def _encoded(line: dict[str, Any]) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def timestamp(milliseconds: int | None = None) -> str:
    """RFC 3339 with microseconds and Z."""
    moment = datetime.now(UTC) if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Top(msgspec.Struct, omit_defaults=True):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(msgspec.Struct, omit_defaults=True):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Top] = []


class _LogProbs(msgspec.Struct):
    content: list[_Token] | None = None


_reader = msgspec.json.Decoder(_LogProbs | None)


def _logprobs(choice: Choice) -> list[_Token] | None:
    if not bytes(choice.logprobs):
        return None
    read = _reader.decode(choice.logprobs)
    return read.content if read else None


def _object(arguments: str) -> Any:
    """Tool arguments are an object in Ollama, JSON text in the canonical protocol."""
    try:
        return msgspec.json.decode(arguments) if arguments else {}
    except msgspec.DecodeError:
        return {"arguments": arguments}
