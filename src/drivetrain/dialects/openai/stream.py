"""OpenAI's streams: frames of the replica, passed on nearly as they are; and its errors, which are the same in a stream."""

from __future__ import annotations

import msgspec

from drivetrain.errors import DrivetrainError
from drivetrain.serving.gateway.canonical import renamed
from drivetrain.serving.gateway.generate import Frame, Transcript
from drivetrain.store.events.model import Event


class Frames:
    """The model's name is the one that the client used; the usage, which the gateway always asks for, is left out when the client did not
    ask."""

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, name: str, *, usage: bool) -> None:
        self._name = name
        self._usage = usage

    def part(self, frame: Frame) -> bytes:
        said = frame.chunk
        if said.usage is not None and not said.choices and not self._usage:
            return b""
        return (renamed(frame.raw, said.model, self._name) if said.model else frame.raw) + b"\n\n"

    def end(self, transcript: Transcript, event: Event) -> bytes:
        return b"data: [DONE]\n\n"

    def error(self, error: DrivetrainError) -> bytes:
        return b"data: " + msgspec.json.encode(error_body(error)) + b"\n\n"


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
