"""OpenAI: translate, call the gateway, translate back."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Iterable
from typing import Any

import msgspec

from drivetrain.dialects.openai.requests import (
    Chat,
    Completion,
    Sampling,
    chat_decoder,
    checked_texts,
    completion_decoder,
    embeddings_decoder,
)
from drivetrain.dialects.openai.stream import Frames, error_body
from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.serving.catalog import Catalog, Servable
from drivetrain.serving.gateway.canonical import CHAT, COMPLETIONS, EMBEDDINGS, chunk, parsed, renamed, vectors, with_fields
from drivetrain.serving.gateway.gateway import Gateway
from drivetrain.serving.gateway.generate import Transcript
from drivetrain.serving.gateway.relay import relay
from drivetrain.wire.request import Request, run_sync
from drivetrain.wire.routing import Endpoint


class OpenAI:
    """The dialect as the door sees it."""

    name = "openai"
    prefixes: tuple[str, ...] = ("/v1", "/openai/v1")

    def __init__(self, gateway: Gateway, catalog: Catalog, *, max_body: int) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._max_body = max_body

    def token(self, request: Request) -> str | None:
        return None  # Authorization: Bearer, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, msgspec.json.encode(error_body(error)), "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        return (
            Endpoint("POST", "/chat/completions", self._chat),
            Endpoint("POST", "/completions", self._completions),
            Endpoint("POST", "/embeddings", self._embed),
            Endpoint("GET", "/models", self._models),
            Endpoint("GET", "/models/{name:path}", self._model),
        )

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound(
            f"This server does not serve {request.method} {request.path} of the OpenAI API. It serves: POST /chat/completions, "
            "/completions, /embeddings; GET /models, /models/{id}."
        )

    async def _chat(self, request: Request) -> None:
        await self._generate(request, "chat", CHAT, chat_decoder)

    async def _completions(self, request: Request) -> None:
        await self._generate(request, "completion", COMPLETIONS, completion_decoder)

    async def _generate(self, request: Request, task: str, target: str, decoder: msgspec.json.Decoder[Any]) -> None:
        with self._gateway.exchange(request, dialect=self.name, task=task) as call:
            raw = await request.body(self._max_body)
            wanted: Chat | Completion = parsed(decoder, raw)
            stream = bool(wanted.stream)
            body = _canonical(wanted, raw, stream=stream)
            await call.route(wanted.model, unit=wanted.user, stream=stream, body=body)
            if stream:
                await relay(request, call, target, body, Frames(wanted.model, usage=wanted.wants_usage))
                return
            answer = await call.fetch(target, body)
            said = chunk(answer.body)
            transcript = Transcript((said,))
            call.finish(output=transcript.text, tokens=transcript.tokens)
            await request.respond(200, renamed(answer.body, said.model, wanted.model), "application/json")

    async def _embed(self, request: Request) -> None:
        with self._gateway.exchange(request, dialect=self.name, task="embeddings") as call:
            raw = await request.body(self._max_body)
            wanted = parsed(embeddings_decoder, raw)
            checked_texts(wanted.input, "input")
            body = with_fields(raw, {"encoding_format": "float"}, without=("dimensions", "user"))
            await call.route(wanted.model, unit=wanted.user, stream=False, body=body)
            answer = await call.fetch(EMBEDDINGS, body)
            said = vectors(answer.body)
            data = [
                {
                    "object": "embedding",
                    "index": item.index,
                    "embedding": _encoded(item.embedding, wanted.encoding_format, wanted.dimensions),
                }
                for item in said.data
            ]
            used = {"prompt_tokens": said.usage.prompt_tokens, "total_tokens": said.usage.prompt_tokens}
            out = msgspec.json.encode({"object": "list", "data": data, "model": wanted.model, "usage": used})
            call.finish(tokens=said.usage.counts)
            await request.respond(200, out, "application/json")

    async def _models(self, request: Request) -> None:
        await request.respond_json({"object": "list", "data": [_about(item) for item in await self._listed(request)]})

    async def _listed(self, request: Request) -> list[Servable]:
        return list(await run_sync(self._catalog, request.context))

    async def _model(self, request: Request, name: str) -> None:
        for item in await self._listed(request):
            if name in (item.name, f"{item.name}:latest"):
                await request.respond_json(_about(item) | {"id": name})
                return
        raise NotFound(
            f"There is no model {name!r} in the workspace {request.context.workspace!r}. GET /v1/models lists those there are.",
            param="model",
        )


def _canonical(wanted: Sampling, raw: bytes, *, stream: bool) -> bytes:
    """The body as replicas take it; the client's own bytes whenever they will do."""
    changes: dict[str, Any] = {}
    without: tuple[str, ...] = ()
    if stream:
        changes["stream_options"] = {"include_usage": True}
    elif wanted.stream_options is not None:
        raise Invalid("`stream_options` is for streams: set stream to true or leave it out.", param="stream_options")
    if isinstance(wanted, Chat):
        if wanted.max_completion_tokens is not None:
            changes["max_tokens"] = wanted.max_completion_tokens
            without = ("max_completion_tokens",)
        if any(message.role == "developer" for message in wanted.messages):
            # Chat templates know this role by its older name.
            messages = msgspec.json.decode(raw)["messages"]
            changes["messages"] = [m | {"role": "system"} if m["role"] == "developer" else m for m in messages]
        if wanted.response_format is not None and wanted.response_format.type == "json_schema" and not wanted.response_format.json_schema:
            raise Invalid("`response_format` of type json_schema needs its json_schema.", param="response_format.json_schema")
        if wanted.top_logprobs and not wanted.logprobs:
            raise Invalid("`top_logprobs` needs logprobs to be true.", param="top_logprobs")
    elif isinstance(wanted, Completion):
        checked_texts(wanted.prompt, "prompt")
    return with_fields(raw, changes, without=without) if changes else raw


def _encoded(vector: list[float], encoding: str, dimensions: int | None) -> list[float] | str:
    if dimensions is not None and dimensions != len(vector):
        if dimensions > len(vector):
            raise Invalid(f"`dimensions` is {dimensions}, but this model's vectors have {len(vector)}.", param="dimensions")
        vector = vector[:dimensions]
        norm = math.sqrt(sum(x * x for x in vector)) or 1.0
        vector = [x / norm for x in vector]
    if encoding == "float":
        return vector
    packed = array("f", vector)
    if _BIG_ENDIAN:
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()


_BIG_ENDIAN = array("H", [1]).tobytes() == b"\0\1"


def _about(item: Servable) -> dict[str, Any]:
    return {"id": item.name, "object": "model", "created": item.created_ms // 1000, "owned_by": "drivetrain"}
