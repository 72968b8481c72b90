"""The canonical protocol of replicas, as much of it as dialects must understand: OpenAI's chunks and usage, Open Inference tensors.

Decoders name only the fields that somebody reads; everything else passes through as bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from drivetrain.errors import Invalid, UpstreamFailed

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
INFER = "/v2/models/model/infer"
METADATA = "/v2/models/model"


class Cached(Struct, frozen=True):
    cached_tokens: int = 0


_MOST_TOKENS = 1 << 31


class Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: Cached | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        """In, of these cached, out. Engines say what they like; what is counted of it must not run over."""
        cached = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else 0
        tokens_in, cached, tokens_out = (min(max(0, said), _MOST_TOKENS) for said in (self.prompt_tokens, cached, self.completion_tokens))
        return tokens_in, cached, tokens_out


class Called(Struct):
    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct):
    """A tool call, or a piece of one."""

    index: int = 0
    id: str | None = None
    function: Called | None = None


class Said(Struct):
    """A message, or a piece of one."""

    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(Struct):
    index: int = 0
    delta: Said | None = None
    message: Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw = msgspec.Raw()


class Timings(Struct):
    """What an engine may add: where the time went, in milliseconds."""

    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class Failure(Struct):
    message: str = "the replica reported an error"


class Chunk(Struct):
    """A frame of a stream, or a whole answer."""

    choices: list[Choice] = []
    model: str = ""
    usage: Usage | None = None
    timings: Timings | None = None
    error: Failure | str | None = None


class Vector(Struct):
    embedding: list[float]
    index: int = 0


class Vectors(Struct):
    """The answer to a request for embeddings."""

    data: list[Vector]
    usage: Usage = Usage()


_vectors = msgspec.json.Decoder(Vectors)
_chunks = msgspec.json.Decoder(Chunk)
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])


def chunk(data: bytes) -> Chunk:
    """Read a frame's data or an answer's body. Raises `UpstreamFailed`."""
    try:
        return _chunks.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamFailed(f"The replica's answer is not in the canonical protocol: {error}") from error


def vectors(data: bytes) -> Vectors:
    """Read the answer to a request for embeddings, in the order of the inputs. Raises `UpstreamFailed`."""
    try:
        said = _vectors.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamFailed(f"The replica's embeddings are not in the canonical protocol: {error}") from error
    said.data.sort(key=lambda item: item.index)
    return said


def fields(body: bytes) -> dict[str, msgspec.Raw]:
    """The top level of a JSON object, its values untouched, so that it can be changed and sent on."""
    return _raw.decode(body)


def with_fields(body: bytes, changes: dict[str, Any], *, without: tuple[str, ...] = ()) -> bytes:
    """The JSON object `body` with some fields set and some left out."""
    values: dict[str, Any] = dict(fields(body))
    for name in without:
        values.pop(name, None)
    values.update(changes)
    return msgspec.json.encode(values)


def parsed(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Decode a client's JSON. Raises `Invalid` that says where it is wrong."""
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        where = str(error).rpartition("`$")[2].rstrip("`").lstrip(".") if "`$" in str(error) else None
        raise Invalid(f"The body does not fit: {error}", param=where or None) from None
    except msgspec.DecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}") from None
    except UnicodeDecodeError:
        raise Invalid("The body is not valid UTF-8.") from None
    except RecursionError:
        raise Invalid("The body is nested too deeply.") from None


def renamed(data: bytes, old: str, new: str, field: str = "model") -> bytes:
    """`data` with the value of the top-level field `model` replaced. JSON strings cannot hold the pattern unescaped."""
    if old == new:
        return data
    pattern = _spelt(field, old)
    if pattern in data:
        return data.replace(pattern, _spelt(field, new), 1)
    return with_fields(data, {field: new})


@lru_cache(maxsize=256)
def _spelt(field: str, value: str) -> bytes:
    """The same for each frame of a stream."""
    return b'"%b":%b' % (field.encode(), msgspec.json.encode(value))
