"""What Ollama's requests look like, and what they mean in the canonical protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from drivetrain.errors import Invalid

Name = Annotated[str, Meta(min_length=1, max_length=512)]
KeepAlive = float | str
Format = str | dict[str, Any]
Think = bool | Literal["low", "medium", "high"]


class Options(Struct):
    """Of Ollama's options those that mean something to one request; the others (num_ctx, num_gpu, …) are the server's to decide."""

    num_predict: int | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None

    def canonical(self) -> dict[str, Any]:
        """In the replica's names."""
        out = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        most = out.pop("num_predict", None)
        if most is not None and most > 0:
            out["max_tokens"] = most
        return out


class Common(Struct, kw_only=True):
    model: Name
    stream: bool | None = None
    format: Format | None = None
    options: Options | None = None
    keep_alive: KeepAlive | None = None
    think: Think | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None

    @property
    def streams(self) -> bool:
        return self.stream is not False

    def canonical(self) -> dict[str, Any]:
        """The fields that generate and chat share, in the canonical protocol."""
        check_keep_alive(self.keep_alive)
        out: dict[str, Any] = {"model": self.model, "stream": self.streams}
        if self.streams:
            out["stream_options"] = {"include_usage": True}
        if self.options is not None:
            out.update(self.options.canonical())
        if self.format:
            if isinstance(self.format, dict):
                out["response_format"] = {"type": "json_schema", "json_schema": {"name": "format", "schema": self.format, "strict": True}}
            elif self.format == "json":
                out["response_format"] = {"type": "json_object"}
            else:
                raise Invalid('`format` must be "json" or a JSON schema.', param="format")
        if self.think is not None:
            out["chat_template_kwargs"] = {"enable_thinking": bool(self.think)}
            if isinstance(self.think, str):
                out["reasoning_effort"] = self.think
        if self.logprobs:
            out["logprobs"] = True
            out["top_logprobs"] = self.top_logprobs or 0
        return out


class Generate(Common, kw_only=True):
    prompt: str = ""
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[str] | None = None


class Function(Struct):
    name: str
    arguments: dict[str, Any] = {}


class ToolCall(Struct):
    function: Function


class Message(Struct):
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    thinking: str | None = None


class Chat(Common, kw_only=True):
    messages: list[Message] = []
    tools: list[dict[str, Any]] | None = None


class Embed(Struct, kw_only=True):
    model: Name
    input: str | list[str] = ""
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    options: Options | None = None
    keep_alive: KeepAlive | None = None


class Embedding(Struct, kw_only=True):
    """The older form, one text at a time."""

    model: Name
    prompt: str = ""
    options: Options | None = None
    keep_alive: KeepAlive | None = None


class Named(Struct, kw_only=True):
    """show and pull; older clients say `name`."""

    model: str = ""
    name: str = ""
    stream: bool | None = None
    verbose: bool | None = None
    insecure: bool | None = None

    @property
    def called(self) -> str:
        if not (self.model or self.name):
            raise Invalid("`model` is missing: say which model.", param="model")
        return self.model or self.name


generate_decoder = msgspec.json.Decoder(Generate)
chat_decoder = msgspec.json.Decoder(Chat)
embed_decoder = msgspec.json.Decoder(Embed)
embedding_decoder = msgspec.json.Decoder(Embedding)
named_decoder = msgspec.json.Decoder(Named)

_UNITS = ("ns", "us", "µs", "ms", "s", "m", "h")


def check_keep_alive(value: KeepAlive | None) -> None:
    """A number of seconds or a Go duration ("5m", "1h30m")."""
    if isinstance(value, str):
        rest = value.removeprefix("-")
        while rest:
            number = len(rest) - len(rest.lstrip("0123456789."))
            unit = next((u for u in sorted(_UNITS, key=len, reverse=True) if rest[number:].startswith(u)), "")
            if not number or not unit:
                break
            rest = rest[number + len(unit) :]
        if rest.strip("0123456789.") or not value:
            raise Invalid(f"`keep_alive` is {value!r}: it must be seconds or a duration such as 5m.", param="keep_alive")


def canonical_generate(wanted: Generate) -> tuple[str, dict[str, Any]]:
    """Task and canonical body of /api/generate."""
    for field, value, why in (
        ("context", wanted.context, "send the conversation to /api/chat instead"),
        ("template", wanted.template, "the model's own template is used; raw: true uses none"),
        ("suffix", wanted.suffix, "filling in the middle is not served"),
        ("images", wanted.images, "this server's models read text only"),
    ):
        if value:
            raise Invalid(f"`{field}` is not supported here: {why}.", param=field)
    body = wanted.canonical()
    if wanted.raw:
        body["prompt"] = wanted.prompt
        if body.pop("logprobs", None):
            body["logprobs"] = body.pop("top_logprobs")
        body.pop("chat_template_kwargs", None)
        return "completion", body
    messages = [{"role": "system", "content": wanted.system}] if wanted.system else []
    body["messages"] = [*messages, {"role": "user", "content": wanted.prompt}]
    return "chat", body


def canonical_chat(wanted: Chat) -> dict[str, Any]:
    """Canonical body of /api/chat. Tool calls get the identifiers that the canonical protocol wants and Ollama's lacks."""
    body = wanted.canonical()
    messages: list[dict[str, Any]] = []
    open_calls: list[tuple[str, str]] = []  # (name, id) not answered yet
    made = 0
    for message in wanted.messages:
        if message.images:
            raise Invalid("`images` is not supported here: this server's models read text only.", param="messages.images")
        out: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.thinking:
            out["reasoning_content"] = message.thinking
        if message.tool_calls:
            calls = []
            for call in message.tool_calls:
                identity = f"call_{made}"
                made += 1
                open_calls.append((call.function.name, identity))
                arguments = msgspec.json.encode(call.function.arguments).decode()
                calls.append({"id": identity, "type": "function", "function": {"name": call.function.name, "arguments": arguments}})
            out["tool_calls"] = calls
        if message.role == "tool":
            found = next((c for c in open_calls if c[0] == message.tool_name), open_calls[0] if open_calls else None)
            if found is not None:
                open_calls.remove(found)
            out["tool_call_id"] = found[1] if found else "call_0"
            if message.tool_name:
                out["name"] = message.tool_name
        messages.append(out)
    body["messages"] = messages
    if wanted.tools:
        body["tools"] = wanted.tools
    return body
