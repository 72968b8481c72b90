"""What OpenAI requests must look like. Only what is checked or read is named; other fields reach the engine as they are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from drivetrain.errors import Invalid

Name = Annotated[str, Meta(min_length=1, max_length=512)]
Count = Annotated[int, Meta(ge=1)]
Stops = Annotated[list[str], Meta(max_length=64)]


class Part(Struct):
    """A piece of a message's content."""

    type: str
    text: str | None = None


class Message(Struct):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None


class Sampling(Struct, kw_only=True):
    """What chat and plain completions have in common."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    seed: int | None = None
    stop: str | Stops | None = None

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class Tool(Struct):
    type: str
    function: dict[str, Any] | None = None


class ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class Chat(Sampling, kw_only=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None


class Completion(Sampling, kw_only=True):
    prompt: str | list[Any] = ""
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    suffix: str | None = None


class Embeddings(Struct, kw_only=True):
    model: Name
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
    user: str | None = None


def checked_texts(value: str | list[Any], field: str) -> None:
    """`input` of embeddings and `prompt`: a text, texts, token ids, or lists of token ids; no empty list."""
    if isinstance(value, str):
        return
    if not value:
        raise Invalid(f"`{field}` is an empty list: send a text or a list of texts.", param=field)
    whole = all(isinstance(item, str) for item in value)
    tokens = all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    lists = all(isinstance(item, list) and item and all(isinstance(t, int) and not isinstance(t, bool) for t in item) for item in value)
    if not (whole or tokens or lists):
        raise Invalid(f"`{field}` must be a text, a list of texts, token ids, or lists of token ids.", param=field)


chat_decoder = msgspec.json.Decoder(Chat)
completion_decoder = msgspec.json.Decoder(Completion)
embeddings_decoder = msgspec.json.Decoder(Embeddings)
