"""The one reader of what replicas generate: server-sent events in the canonical protocol, from bytes to typed frames."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from drivetrain.errors import UpstreamFailed
from drivetrain.serving.gateway.canonical import Chunk, Failure, Timings, Usage, chunk

MOST_FRAME = 4 << 20
_DATA, _DONE = b"data: {", b"[DONE]"
_MOST_WORDS = 500
_SILENT, _ENDLESS = "it does not say why", "a frame has no end"


class Frame(msgspec.Struct):
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

    `done` is set by the stream's own end ([DONE]), `failed` by what breaks it, in words; after either the reader is over.
    """

    __slots__ = ("_after_cr", "_rest", "done", "failed", "transcript")

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self.transcript = Transcript()
        self.done = False
        self.failed = ""

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that are complete with this piece. Call it until the reader is `over`."""
        if self._after_cr or b"\r" in piece:
            piece = self._with_line_feeds(piece)
        if self._rest:
            piece = self._rest + piece
        events = piece.split(b"\n\n")
        self._rest = events.pop()
        frames: list[Frame] = []
        for raw in events:
            if raw.startswith(_DATA) and b"\n" not in raw:  # as nearly all are
                data = raw[6:]
            else:
                data = self._data(raw)
                if self.over():
                    return frames
                if not data.startswith(b"{"):
                    continue  # a comment, or to keep the connection alive
                raw = b"data: " + data.replace(b"\n", b"\ndata: ")
            if len(data) > MOST_FRAME:
                self.failed = _ENDLESS
                return frames
            try:
                said = chunk(data)
            except UpstreamFailed as error:
                self.failed = error.message
                return frames
            if said.error is not None:
                self.failed = _reason(said.error)
                return frames
            self.transcript.add(said)
            frames.append(Frame(raw, said))
        if len(self._rest) > MOST_FRAME + len(_DATA):  # with what stands around the data
            self.failed = _ENDLESS
        return frames

    def over(self) -> bool:
        """Whether nothing more is read."""
        return self.done or bool(self.failed)

    def close(self) -> None:
        """There is nothing more to read. Raises `UpstreamFailed` unless the stream came to its own end."""
        if self.failed:
            raise UpstreamFailed(f"The replica broke its answer off: {self.failed}")
        if not self.done:
            raise UpstreamFailed("The replica's answer ended before it was complete. Ask again.")

    def _data(self, raw: bytes) -> bytes:
        """What an event of any form holds; its lines are joined. Ends the reading where it is the end, or tells of an error."""
        kind, lines = _fields(raw)
        data = b"\n".join(lines)
        if data.startswith(_DONE):
            self.done = True
        elif kind == b"error":
            self.failed = _words(data)
        return data

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
