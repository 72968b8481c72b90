"""From a replica's stream to a client's: a dialect says in a `Form` how it writes a frame, the end and an error, and no more."""

from __future__ import annotations

from typing import Protocol

from drivetrain.errors import DrivetrainError
from drivetrain.serving.gateway.exchange import Exchange
from drivetrain.serving.gateway.generate import Frame, Reader, Transcript
from drivetrain.store.events.model import Event
from drivetrain.wire.request import Request


class Form(Protocol):
    """How a dialect writes a stream."""

    @property
    def content_type(self) -> str: ...

    def part(self, frame: Frame) -> bytes:
        """A frame; nothing where the dialect has nothing to show for it."""

    def end(self, transcript: Transcript, event: Event) -> bytes:
        """What comes after the last frame."""

    def error(self, error: DrivetrainError) -> bytes:
        """What breaks the answer off after it has begun."""


_HEADERS = (("cache-control", "no-cache"), ("x-accel-buffering", "no"))


async def relay(request: Request, call: Exchange, target: str, body: bytes, form: Form) -> None:
    """Send the canonical request, and pass its stream on to its end, in the dialect's form."""
    answer = await call.open(target, body)
    reader, event, part = Reader(), call.event, form.part
    transcript = reader.transcript
    async with request.streaming(form.content_type, _HEADERS) as write:
        try:
            async for piece in answer.chunks():
                parts = [part(frame) for frame in reader.feed(piece)]
                if reader.done:
                    parts.append(form.end(transcript, event))
                out = b"".join(parts)
                event.bytes_out += len(out)
                if reader.done:
                    call.finish(output=transcript.text, tokens=transcript.tokens)
                if out:
                    await write(out)
                if reader.over():
                    break
            reader.close()
        except DrivetrainError as error:
            call.broke(error, output=transcript.text)
            await write(form.error(error))
