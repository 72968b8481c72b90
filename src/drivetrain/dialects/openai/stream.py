"""OpenAI's streams: frames of the replica, passed on nearly as they are."""

from __future__ import annotations

import msgspec

from drivetrain.errors import DrivetrainError, UpstreamFailed
from drivetrain.serving.gateway.canonical import Frames, Transcript, chunk, renamed
from drivetrain.serving.gateway.exchange import Exchange
from drivetrain.serving.gateway.upstream import Answer
from drivetrain.wire.request import Request

DONE = b"data: [DONE]"


class Relay:
    """Turns a replica's frames into a client's: the model's name is the one the client used, the usage frame (which the gateway
    always asks for) is left out when the client did not ask."""

    def __init__(self, name: str, *, usage: bool) -> None:
        self._name = name
        self._usage = usage
        self._frames = Frames()
        self.transcript = Transcript()
        self.done = False
        self.failed = ""

    def feed(self, piece: bytes) -> bytes:
        """What to send on. After the last frame `done` is set; `failed` says why, when the replica reports an error."""
        sent: list[bytes] = []
        for frame in self._frames.feed(piece):
            if not frame.startswith(b"data: {"):
                if frame.startswith(DONE):
                    self.done = True
                    sent.append(DONE)
                elif frame.startswith((b"error:", b"event: error")):
                    self.failed = frame.decode("utf-8", "replace")[:500]
                    break
                continue  # comments and keep-alives
            read = chunk(frame[6:])
            if read.error is not None:
                self.failed = read.error if isinstance(read.error, str) else read.error.message
                break
            self.transcript.add(read)
            if read.usage is not None and not read.choices and not self._usage:
                continue
            sent.append(renamed(frame, read.model, self._name) if read.model else frame)
        if sent:
            sent.append(b"")
        return b"\n\n".join(sent)


async def relay(request: Request, call: Exchange, answer: Answer, name: str, *, usage: bool) -> None:
    """Pass a stream on to its end; what breaks it becomes an error frame, as OpenAI sends it."""
    through = Relay(name, usage=usage)
    transcript = through.transcript
    async with request.streaming("text/event-stream; charset=utf-8", [("cache-control", "no-cache"), ("x-accel-buffering", "no")]) as write:
        try:
            async for piece in answer.chunks():
                out = through.feed(piece)
                call.event.bytes_out += len(out)
                if through.failed:
                    raise UpstreamFailed(f"The replica broke its answer off: {through.failed}")
                if through.done:
                    call.finish(output=transcript.text, tokens=transcript.tokens)
                if out:
                    await write(out)
                if through.done:
                    return
            raise UpstreamFailed("The replica's answer ended before it was complete. Ask again.")
        except DrivetrainError as error:
            call.broke(error, output=transcript.text)
            await write(b"data: " + msgspec.json.encode(error_body(error)) + b"\n\n")


def error_body(error: DrivetrainError) -> dict[str, dict[str, str | None]]:
    """OpenAI's error object."""
    kind, code = _KINDS.get(error.status, ("server_error" if error.status >= 500 else "invalid_request_error", None))
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": code}}


_KINDS: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", "insufficient_permissions"),
    404: ("invalid_request_error", "not_found"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "unavailable"),
    504: ("server_error", "timeout"),
}
