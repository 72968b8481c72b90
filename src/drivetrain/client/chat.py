"""A chat answer as it arrives."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from drivetrain.client.http import Connection, Json, events
from drivetrain.errors import UpstreamFailed


class ChatStream:
    """Iterate over it for the pieces of text. After that (or before, as far as it has come) it knows the rest.

    Times are in seconds since the question was sent; `tokens_in` and `tokens_out` come with the end of the answer.
    """

    def __init__(self, connection: Connection, body: Json) -> None:
        self._connection = connection
        self._body = body
        self.request_id = ""
        self.text = ""
        self.first_s: float | None = None
        self.seconds = 0.0
        self.tokens_in = 0
        self.tokens_out = 0
        self.finish = ""

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of the answer over the time since its first one."""
        if self.first_s is None or self.tokens_out < 2 or self.seconds <= self.first_s:
            return None
        return (self.tokens_out - 1) / (self.seconds - self.first_s)

    def __iter__(self) -> Iterator[str]:
        began = time.monotonic()
        body = {**self._body, "stream": True, "stream_options": {"include_usage": True}}
        with self._connection.stream("POST", "/v1/chat/completions", body, timeout=600) as answer:
            self.request_id = answer.headers.get("x-request-id", "")
            for event in events(answer):
                if error := event.get("error"):
                    raise UpstreamFailed(str(error.get("message", error)) if isinstance(error, dict) else str(error))
                self.seconds = time.monotonic() - began
                if usage := event.get("usage"):
                    self.tokens_in, self.tokens_out = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
                for choice in event.get("choices") or ():
                    self.finish = choice.get("finish_reason") or self.finish
                    if piece := (choice.get("delta") or {}).get("content"):
                        if self.first_s is None:
                            self.first_s = self.seconds
                        self.text += piece
                        yield piece

    def read(self) -> str:
        """All of the answer."""
        for _ in self:
            pass
        return self.text


def messages_of(prompt: str | Sequence[Json], system: str | None) -> list[Json]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [{"role": "system", "content": system}, *messages] if system else messages
