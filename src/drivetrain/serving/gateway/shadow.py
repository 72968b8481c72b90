"""Repeating requests on a variant that is to be compared, for nobody: its answers go nowhere but into events.

A repetition begins when the request it repeats has succeeded, so that it takes nothing from the user's answer. There are never more than
`MOST` of them at once, and they never wait for a slot: what does not fit is left out.
"""

from __future__ import annotations

import asyncio
import time

import msgspec

from drivetrain.errors import UpstreamFailed, UpstreamTimeout
from drivetrain.serving.gateway.canonical import chunk, vectors
from drivetrain.serving.gateway.capture import chosen, kept, plain
from drivetrain.serving.gateway.directory import Directory
from drivetrain.serving.gateway.generate import Reader, Transcript
from drivetrain.serving.gateway.outputs import look
from drivetrain.serving.gateway.record import Record
from drivetrain.serving.gateway.upstream import Answer, Lost
from drivetrain.serving.routes import DeploymentRoute, VariantRoute
from drivetrain.store.events.model import Event
from drivetrain.store.ids import uuid7

MOST = 32
WHOLE = 10_000


class Shadows:
    """The repetitions of one gateway."""

    def __init__(self, directory: Directory, record: Record) -> None:
        self._directory = directory
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> int:
        """Repetitions that are on their way."""
        return len(self._tasks)

    def repeat(self, deployment: DeploymentRoute, event: Event, target: str, body: bytes, stream: bool) -> None:
        """Send the request of `event` to the variants that ask for a share of them."""
        for variant in deployment.variants:
            if variant.shadow and variant.id != event.variant and len(self._tasks) < MOST and chosen(variant.shadow / WHOLE, event.id):
                task = asyncio.get_running_loop().create_task(self._send(deployment, variant, event, target, body, stream), name="shadow")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _send(
        self, deployment: DeploymentRoute, variant: VariantRoute, original: Event, target: str, body: bytes, stream: bool
    ) -> None:
        pool = self._directory.pool(variant)
        replica = pool.take()
        if replica is None:
            return
        event = msgspec.structs.replace(
            original,
            id=uuid7(),
            shadow=original.id,
            t=time.time_ns(),
            variant=variant.id,
            variant_name=variant.name,
            repo=variant.repo,
            version=variant.version,
            commit=variant.commit,
            engine=variant.engine,
            replica=replica.id,
            exposed=False,
            assigned="",
            attempts=1,
            queue_ms=0.0,
            ttft_ms=None,
            tokens_in=0,
            tokens_cached=0,
            tokens_out=0,
            bytes_out=0,
            cost=0.0,
            wrong="",
            form="",
            said=None,
            memory_mb=replica.memory_mb(),
            output=None,
        )
        began = time.perf_counter()
        seconds = self._directory.settings.request_seconds
        try:
            answer = await replica.upstream.request(target, body, request_id=event.id, stream=stream, seconds=seconds)
            event.status = answer.status
            try:
                if answer.status != 200:
                    event.error = "invalid" if 400 <= answer.status < 500 else "upstream"
                else:
                    said = await _read(answer, event, began)
                    event.wrong, event.form, event.said = look(event.task, said, plain=plain(deployment.capture))
                    event.output = kept(deployment.capture, deployment.capture_rate, event.id, said)
            finally:
                answer.close()
        except Lost:
            pool.failed(replica)
            event.status, event.error = 502, "upstream"
        except UpstreamTimeout:
            event.status, event.error = 504, "timeout"
        except UpstreamFailed:
            event.status, event.error = 502, "upstream"
        except asyncio.CancelledError:
            event.status, event.error = 499, "cancelled"
            raise
        finally:
            pool.release(replica)
            event.latency_ms = (time.perf_counter() - began) * 1000
            if variant.prices is not None:
                event.cost = variant.prices.cost(event.tokens_in, event.tokens_out)
            self._record.write(event, deployment)


async def _read(answer: Answer, event: Event, began: float) -> str | bytes | None:
    """Read an answer to its end; what an event keeps of it, in the form in which the gateway keeps it of the answers that people get."""
    if event.stream:
        event.ttft_ms = (time.perf_counter() - began) * 1000
        reader = Reader()
        transcript = reader.transcript
        async for piece in answer.chunks():
            event.bytes_out += len(piece)
            reader.feed(piece)
            if reader.over():
                break
        reader.close()
    else:
        event.bytes_out = len(answer.body)
        if event.task == "infer":
            return answer.body
        transcript = Transcript()
        if event.task == "embeddings":
            transcript.usage = vectors(answer.body).usage
        else:
            transcript.add(chunk(answer.body))
    if transcript.tokens is not None:
        event.tokens_in, event.tokens_cached, event.tokens_out = transcript.tokens
    return transcript.text() if event.task != "embeddings" else None
