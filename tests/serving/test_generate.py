"""The one reader of streams: however the bytes are cut, the frames are the same; what breaks a stream comes after what it said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.errors import UpstreamFailed
from drivetrain.serving.gateway.generate import MOST_FRAME, Reader

DONE = "data: [DONE]\n\n"
ENDS = ("\n", "\r\n", "\r")

words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8)
said = st.fixed_dictionaries({"content": words}, optional={"reasoning_content": words})
calls = st.builds(
    lambda index, name, arguments: {"tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]},
    st.integers(0, 2),
    words,
    words,
)
chunks = st.one_of(
    st.builds(
        lambda delta, reason: {"choices": [{"delta": delta, "finish_reason": reason}]}, said | calls, st.sampled_from([None, "stop"])
    ),
    st.builds(lambda text: {"choices": [{"text": text}]}, words),
    st.builds(lambda i, o: {"choices": [], "usage": {"prompt_tokens": i, "completion_tokens": o}}, st.integers(0, 99), st.integers(0, 99)),
)
noise = st.sampled_from([": keep-alive\n\n", "\n", "event: message\nid: 7\nretry: 10\n\n", "data:\n\n", ": \u00e9\u20ac\U0001f600\n\n"])


@st.composite
def events(draw: st.DrawFn) -> tuple[list[dict[str, Any]], str]:
    """Chunks, and a stream that says them, without its end."""
    out, made = "", draw(st.lists(chunks, max_size=6))
    for chunk in made:
        out += draw(st.sampled_from(["", ""]) | noise)
        text = json.dumps(chunk, ensure_ascii=draw(st.booleans()))
        form = draw(st.integers(0, 3))
        if form == 0:
            out += f"data: {text}\n\n"
        elif form == 1:
            out += f"data:{text}\n\n"
        elif form == 2:
            out += f": said\nid: 3\nevent: message\ndata: {text}\n\n"
        else:  # one event's data on several lines
            out += "data: " + json.dumps(chunk, indent=1).replace("\n", "\ndata: ") + "\n\n"
    return made, out


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def fed(pieces: Sequence[bytes]) -> tuple[Reader, list[dict[str, Any]]]:
    """What each frame says by its own bytes, which are what a client of the same protocol is sent."""
    reader = Reader()
    frames = []
    for piece in pieces:
        frames += reader.feed(piece)
        if reader.over():
            break
    for frame in frames:
        assert b"\r" not in frame.raw and b"\n\n" not in frame.raw
    sent = ["".join(line.removeprefix("data: ") for line in frame.raw.decode().split("\n")) for frame in frames]
    return reader, [json.loads(text) for text in sent]


@settings(max_examples=100, deadline=None)
@given(st.data(), events(), st.sampled_from(ENDS))
def test_any_cut_of_the_bytes_gives_the_same_frames(data: st.DataObject, made: tuple[list[dict[str, Any]], str], end: str) -> None:
    chunks, text = made
    raw = (text + DONE + "data: not read any more\n\n").replace("\n", end).encode()
    reader, said = fed(data.draw(cut(raw)))
    assert said == chunks
    assert (reader.done, reader.failed) == (True, "")
    single, _ = fed([raw[at : at + 1] for at in range(len(raw))])
    whole, _ = fed([raw])
    assert reader.transcript.text() == single.transcript.text() == whole.transcript.text()
    assert reader.transcript.tokens == single.transcript.tokens == whole.transcript.tokens
    assert reader.transcript.finish_reason == single.transcript.finish_reason == whole.transcript.finish_reason


@settings(max_examples=100, deadline=None)
@given(
    st.data(),
    events(),
    st.sampled_from(
        [
            ('data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
            ('data: {"error": "out of memory"}\n\n', "out of memory"),
            ('event: error\ndata: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
            ("event: error\ndata: out of memory\n\n", "out of memory"),
            ('error: {"code": 500, "message": "out of memory"}\n\n', "out of memory"),
            ('data: {"error": {"message": ""}}\n\n', "does not say why"),
            ('data: {"choices": 3}\n\n', "not in the canonical protocol"),
            ('data: {"choices": [\n\n', "not in the canonical protocol"),
        ]
    ),
)
def test_what_came_before_a_failure_is_kept_and_nothing_after_it(
    data: st.DataObject, made: tuple[list[dict[str, Any]], str], failure: tuple[str, str]
) -> None:
    chunks, text = made
    broken, why = failure
    reader, said = fed(data.draw(cut((text + broken + 'data: {"choices": [{"text": "late"}]}\n\n' + DONE).encode())))
    assert said == chunks
    assert why in reader.failed
    assert not reader.done
    assert "late" not in reader.transcript.text() or any("late" in json.dumps(chunk) for chunk in chunks)


@settings(max_examples=50, deadline=None)
@given(st.data(), events())
def test_a_stream_that_is_cut_off_says_what_it_had_and_fails(data: st.DataObject, made: tuple[list[dict[str, Any]], str]) -> None:
    chunks, text = made
    raw = (text + DONE).encode()
    short = raw[: data.draw(st.integers(0, len(raw) - 1))]
    reader, said = fed(data.draw(cut(short)))
    assert said == chunks[: len(said)]
    assert said == fed([short])[1]
    with pytest.raises(UpstreamFailed, match="ended before it was complete"):
        reader.close()
    for byte in raw[len(short) :]:
        reader.feed(bytes([byte]))
    reader.close()


def test_the_last_frames_come_with_the_failure() -> None:
    reader, said = fed([b'data: {"choices": []}\n\ndata: {"error": "gone"}\n\n'])
    assert said == [{"choices": []}]
    with pytest.raises(UpstreamFailed, match="broke its answer off: gone"):
        reader.close()


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_frame_without_an_end_is_refused(pieces: int) -> None:
    reader = Reader()
    data = b'data: {"choices": [{"text": "' + b"x" * (MOST_FRAME + 1)
    for at in range(0, len(data), len(data) // pieces + 1):
        assert reader.feed(data[at : at + len(data) // pieces + 1]) == []
    assert "no end" in reader.failed
    assert "no end" in fed([data + b'"}]}\n\n'])[0].failed
