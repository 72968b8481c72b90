"""The one reader of what replicas generate: server-sent events in the canonical protocol, from bytes to typed frames."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

import msgspec

from drivetrain.errors import UpstreamFailed
from drivetrain.serving.gateway.canonical import Chunk, Failure, Timings, Usage, chunk
from drivetrain.serving.gateway.upstream import Answer

MOST_FRAME = 4 << 20
_DATA, _DONE = b"data: {", b"[DONE]"
_MOST_WORDS = 500
_SILENT = "it does not say why"


class Frame(NamedTuple):
    """One event: its bytes, without the blank line that ends it, and what they say."""

    raw: bytes
    chunk: Chunk


class Transcript:
    """What an answer has said so far, for the event and for dialects that need it whole."""

    __slots__ = ("_parts", "_tools", "finish_reason", "timings", "usage")

    def __init__(self, chunks: Iterable[Chunk] = ()) -> None:
        self._parts: list[str] = []
        self._tools: dict[int, list[str]] = {}
        self.usage: Usage | None = None
        self.timings: Timings | None = None
        self.finish_reason: str | None = None
        for one in chunks:
            self.add(one)

    def add(self, chunk: Chunk) -> None:
        if chunk.usage is not None:
            self.usage = chunk.usage
        if chunk.timings is not None:
            self.timings = chunk.timings
        for choice in chunk.choices:
            if choice.index:
                continue  # of several answers the event keeps the first
            if choice.finish_reason is not None:
                self.finish_reason = choice.finish_reason
            said = choice.delta or choice.message
            if choice.text:
                self._parts.append(choice.text)
            elif said is not None:
                if said.content:
                    self._parts.append(said.content)
                for call in said.tool_calls or ():
                    if call.function is not None:
                        told = self._tools.setdefault(call.index, ["", ""])
                        told[0] += call.function.name or ""
                        told[1] += call.function.arguments or ""

    def text(self) -> str:
        """The text, or the tool calls as JSON when there are any."""
        if self._tools:
            calls = [{"name": name, "arguments": arguments} for name, arguments in self._tools.values()]
            return msgspec.json.encode({"content": "".join(self._parts), "tool_calls": calls}).decode()
        return "".join(self._parts)

    def tool_calls(self) -> list[tuple[str, str]]:
        """Name and arguments (JSON text) of each tool call."""
        return [(name, arguments) for name, arguments in self._tools.values()]

    @property
    def tokens(self) -> tuple[int, int, int] | None:
        return self.usage.counts if self.usage is not None else None


class Reader:
    """Reads one stream. However its bytes are cut into pieces, the frames are the same.

    `done` is set by the stream's own end ([DONE]), `failed` by what breaks it, in words; after either nothing more is read.
    """

    __slots__ = ("_after_cr", "_rest", "done", "failed", "received", "transcript")

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self.transcript = Transcript()
        self.done = False
        self.failed = ""
        self.received = 0

    async def read(self, answer: Answer) -> AsyncIterator[list[Frame]]:
        """The frames as they arrive, all of a piece at once; the last ones when `done` is set. Raises `UpstreamFailed` after the frames
        that came before a failure, also when the stream ends without its end."""
        async for piece in answer.chunks():
            frames = self.feed(piece)
            if frames or self.done:
                yield frames
            if self.failed:
                raise UpstreamFailed(f"The replica broke its answer off: {self.failed}")
            if self.done:
                return
        raise UpstreamFailed("The replica's answer ended before it was complete. Ask again.")

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that are complete with this piece."""
        if self._over():
            return []
        self.received += len(piece)
        if self._after_cr or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        if self._rest:
            piece = self._rest + piece
        events = piece.split(b"\n\n")
        self._rest = events.pop()
        frames: list[Frame] = []
        for raw in events:
            if (frame := self._frame(raw)) is not None:
                frames.append(frame)
            elif self._over():
                return frames
        if len(self._rest) > MOST_FRAME + 1:  # the first byte of what ends it may be there already
            self.failed = "a frame has no end"
        return frames

    def _over(self) -> bool:
        return self.done or bool(self.failed)

    def _frame(self, raw: bytes) -> Frame | None:
        """None for what says nothing: comments, keep-alives, the end, a failure."""
        if raw.startswith(_DATA) and b"\n" not in raw:
            data = raw[6:]
        else:
            kind, lines = _fields(raw)
            data = b"\n".join(lines)
            if data.startswith(_DONE):
                self.done = True
                return None
            if kind == b"error":
                self.failed = _words(data)
                return None
            if not data.startswith(b"{"):
                return None
            raw = b"\n".join([b"data: " + line for line in lines])
        if len(raw) > MOST_FRAME:
            self.failed = "a frame has no end"
            return None
        try:
            read = chunk(data)
        except UpstreamFailed as error:
            self.failed = error.message
            return None
        if read.error is not None:
            self.failed = _reason(read.error)
            return None
        self.transcript.add(read)
        return Frame(raw, read)

    def _with_line_feeds(self, piece: bytes) -> bytes:
        """Lines may end with CR LF or CR alone, and a piece between the two."""
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._after_cr = False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _fields(raw: bytes) -> tuple[bytes, list[bytes]]:
    """An event's type and the lines of its data. Engines also write an error as a field of its own name."""
    kind, data = b"", []
    for line in raw.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
        elif name == b"error":
            kind = b"error"
            data.append(value)
    return kind, data


def _words(data: bytes) -> str:
    """What an error event says."""
    try:
        said = chunk(data).error
    except UpstreamFailed:
        said = None
    if said is None:
        return data.decode("utf-8", "replace")[:_MOST_WORDS] or _SILENT
    return _reason(said)


def _reason(said: Failure | str) -> str:
    return (said if isinstance(said, str) else said.message) or _SILENT
