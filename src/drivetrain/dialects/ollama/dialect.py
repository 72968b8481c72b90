"""Ollama: translate, call the gateway, translate back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from drivetrain.dialects.ollama import listing
from drivetrain.dialects.ollama.answers import Lines
from drivetrain.dialects.ollama.requests import (
    canonical_chat,
    canonical_generate,
    chat_decoder,
    check_keep_alive,
    embed_decoder,
    embedding_decoder,
    generate_decoder,
    named_decoder,
)
from drivetrain.errors import DrivetrainError, Invalid, NotFound, UpstreamFailed
from drivetrain.serving.catalog import Catalog, Servable
from drivetrain.serving.gateway.canonical import CHAT, COMPLETIONS, EMBEDDINGS, Usage, chunk, parsed, vectors
from drivetrain.serving.gateway.exchange import Exchange
from drivetrain.serving.gateway.gateway import Gateway
from drivetrain.serving.gateway.generate import Transcript
from drivetrain.serving.gateway.relay import relay
from drivetrain.wire.request import Request, run_sync
from drivetrain.wire.routing import Endpoint

API_VERSION = "0.13.0"
"""The version of Ollama's API that this speaks: clients decide by it which features they use."""


class Ollama:
    """The dialect as the door sees it."""

    name = "ollama"
    prefixes: tuple[str, ...] = ("/ollama",)

    def __init__(self, gateway: Gateway, catalog: Catalog, *, max_body: int) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._max_body = max_body

    def token(self, request: Request) -> str | None:
        return None  # Authorization: Bearer, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, msgspec.json.encode({"error": error.message}), "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        return (
            Endpoint("POST", "/api/chat", self._chat),
            Endpoint("POST", "/api/generate", self._generate),
            Endpoint("POST", "/api/embed", self._embed),
            Endpoint("POST", "/api/embeddings", self._embedding),
            Endpoint("GET", "/api/tags", self._tags),
            Endpoint("GET", "/api/ps", self._running),
            Endpoint("POST", "/api/show", self._show),
            Endpoint("POST", "/api/pull", self._pull),
            Endpoint("GET", "/api/version", self._version),
            Endpoint("GET", "/", self._here),
        )

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound(f"This server does not serve {request.method} {request.path} of the Ollama API.")

    async def _tags(self, request: Request) -> None:
        await request.respond_json({"models": [listing.tag(item) for item in await self._listed(request)]})

    async def _running(self, request: Request) -> None:
        items, deployments = await self._listed(request), self._gateway.directory.deployments(request.context.workspace_id)
        await request.respond_json({"models": listing.running(items, deployments)})

    async def _show(self, request: Request) -> None:
        wanted = parsed(named_decoder, await request.body(self._max_body))
        await request.respond_json(listing.shown(await self._one(request, wanted.called)))

    async def _version(self, request: Request) -> None:
        await request.respond_json({"version": API_VERSION})

    async def _here(self, request: Request) -> None:
        await request.respond(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def _chat(self, request: Request) -> None:
        with self._gateway.exchange(request, dialect=self.name, task="chat") as call:
            wanted = parsed(chat_decoder, await request.body(self._max_body))
            body = canonical_chat(wanted)
            lines = Lines(wanted.model, chat=True)
            if not wanted.messages:
                await self._load(request, call, lines, wanted.model, wanted.keep_alive, stream=wanted.streams)
                return
            await self._answer(request, call, lines, wanted.model, CHAT, body)

    async def _generate(self, request: Request) -> None:
        with self._gateway.exchange(request, dialect=self.name, task="chat") as call:
            wanted = parsed(generate_decoder, await request.body(self._max_body))
            call.event.task, body = canonical_generate(wanted)
            lines = Lines(wanted.model, chat=False)
            if not wanted.prompt:
                await self._load(request, call, lines, wanted.model, wanted.keep_alive, stream=wanted.streams)
                return
            await self._answer(request, call, lines, wanted.model, CHAT if call.event.task == "chat" else COMPLETIONS, body)

    async def _answer(self, request: Request, call: Exchange, lines: Lines, name: str, target: str, fields: dict[str, Any]) -> None:
        body = msgspec.json.encode(fields)
        await call.route(name, unit=None, stream=fields["stream"], body=body)
        if fields["stream"]:
            await relay(request, call, target, body, lines)
            return
        said = chunk((await call.fetch(target, body)).body)
        transcript = Transcript((said,))
        out = msgspec.json.encode(lines.whole(said, transcript, call.event))
        call.finish(output=transcript.text, tokens=transcript.tokens)
        await request.respond(200, out, "application/json")

    async def _load(
        self, request: Request, call: Exchange, lines: Lines, name: str, keep_alive: float | str | None, *, stream: bool
    ) -> None:
        """An empty prompt loads the model: wait until a replica is ready. With keep_alive 0 it lets go of it."""
        await call.route(name, unit=None, stream=False, body=b"")
        unload = keep_alive in (0, "0", "0s")
        if not unload:
            await call.ready()
        line = msgspec.json.encode(lines.last(Transcript(), call.event, reason="unload" if unload else "load"))
        call.finish()
        await request.respond(200, line + b"\n" if stream else line, "application/x-ndjson" if stream else "application/json")

    async def _embed(self, request: Request) -> None:
        with self._gateway.exchange(request, dialect=self.name, task="embeddings") as call:
            wanted = parsed(embed_decoder, await request.body(self._max_body))
            check_keep_alive(wanted.keep_alive)
            texts = [wanted.input] if isinstance(wanted.input, str) else wanted.input
            if not texts or not all(texts):
                raise Invalid("`input` is empty: send a text or a list of texts that are not empty.", param="input")
            found, usage = await self._vectors(call, wanted.model, texts)
            if (most := wanted.dimensions) is not None:
                found = [_unit(vector[:most]) for vector in found]
            total = int(call.elapsed_ms * 1e6)
            out = {
                "model": wanted.model,
                "embeddings": found,
                "total_duration": total,
                "load_duration": int(call.event.queue_ms * 1e6),
                "prompt_eval_count": usage.prompt_tokens,
            }
            call.finish(tokens=usage.counts)
            await request.respond_json(out)

    async def _embedding(self, request: Request) -> None:
        with self._gateway.exchange(request, dialect=self.name, task="embeddings") as call:
            wanted = parsed(embedding_decoder, await request.body(self._max_body))
            check_keep_alive(wanted.keep_alive)
            if not wanted.prompt:
                raise Invalid("`prompt` is empty: send a text.", param="prompt")
            found, usage = await self._vectors(call, wanted.model, [wanted.prompt])
            call.finish(tokens=usage.counts)
            await request.respond_json({"embedding": found[0]})

    async def _vectors(self, call: Exchange, name: str, texts: list[str]) -> tuple[list[list[float]], Usage]:
        body = msgspec.json.encode({"model": name, "input": texts, "encoding_format": "float"})
        await call.route(name, unit=None, stream=False, body=body)
        answer = await call.fetch(EMBEDDINGS, body)
        said = vectors(answer.body)
        if len(said.data) != len(texts):
            raise UpstreamFailed(f"The replica sent {len(said.data)} embeddings for {len(texts)} texts.")
        return [item.embedding for item in said.data], said.usage

    async def _pull(self, request: Request) -> None:
        wanted = parsed(named_decoder, await request.body(self._max_body))
        item = await self._one(request, wanted.called)
        steps: list[dict[str, Any]] = [{"status": "pulling manifest"}]
        if item.digest:
            size = max(item.size, 1)
            steps.append({"status": f"pulling {item.digest[:12]}", "digest": f"sha256:{item.digest}", "total": size, "completed": size})
        steps += [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"}]
        if wanted.stream is False:
            await request.respond_json(steps[-1])
            return
        await request.respond(200, b"".join(msgspec.json.encode(step) + b"\n" for step in steps), "application/x-ndjson")

    async def _listed(self, request: Request) -> list[Servable]:
        """What speaks or embeds: models of tables are not Ollama's."""
        items = await run_sync(self._catalog, request.context)
        return [item for item in items if set(item.tasks) - {"infer"}]

    async def _one(self, request: Request, name: str) -> Servable:
        for item in await self._listed(request):
            if name in (item.name, f"{item.name}:latest"):
                return item
        raise NotFound(f"model '{name}' not found. Bring it in with: drivetrain pull", param="model")


def _unit(vector: list[float]) -> list[float]:
    norm = sum(x * x for x in vector) ** 0.5 or 1.0
    return [x / norm for x in vector]
