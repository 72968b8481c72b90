"""The GGUF reader against a real file, and against everything that can be wrong with one."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.errors import Invalid
from drivetrain.formats import gguf


def read(data: bytes, size: int | None = None) -> gguf.Gguf:
    return gguf.read(lambda start, end: data[start:end], len(data) if size is None else size, "m.gguf")


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def small(*more: bytes, tensors: int = 1, keys: int | None = None, version: int = 3) -> bytes:
    """A whole, tiny file: one tensor of 4 × 8 floats."""
    pairs = [
        key("general.architecture", 8, text("llama")),
        key("general.file_type", 4, struct.pack("<I", 0)),
        key("llama.context_length", 4, struct.pack("<I", 2048)),
        key("llama.block_count", 4, struct.pack("<I", 2)),
        key("llama.embedding_length", 4, struct.pack("<I", 64)),
        key("llama.attention.head_count", 4, struct.pack("<I", 4)),
        key("llama.attention.head_count_kv", 4, struct.pack("<I", 2)),
        *more,
    ]
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, len(pairs) if keys is None else keys) + b"".join(pairs)
    head += text("w") + struct.pack("<IQQIQ", 2, 4, 8, 0, 0)
    return head + b"\0" * (-len(head) % 32) + b"\0" * 128


def test_a_real_file(gguf_model: Path) -> None:
    data = gguf_model.read_bytes()
    head = read(data)
    assert (head.architecture, head.layers, head.context_length) == ("llama", 30, 8192)
    assert head.parameters == 134_515_008
    assert head.kv_bytes_per_token == 30 * 3 * 64 * 2 * 2  # layers × heads × width × (keys and values) × two bytes
    assert head.chat_template
    assert (head.kind, head.pooling, head.vocabulary) == ("model", "", 49152)


def test_a_small_file() -> None:
    head = read(small())
    assert (head.parameters, head.quantization, head.kv_bytes_per_token) == (32, "F32", 2 * 2 * 32 * 2)


def test_what_only_accompanies_a_model_is_known() -> None:
    assert read(small(key("general.type", 8, text("adapter")))).kind == "adapter"
    assert read(small(key("general.architecture", 8, text("clip")))).kind == "projector"
    assert read(small(key("llama.pooling_type", 4, struct.pack("<I", 3)))).pooling == "last"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (b"PK\x03\x04" + b"\0" * 100, "no GGUF"),
        (small(version=9), "version 9"),
        (small(keys=1 << 40), "announces"),
        (small(tensors=1 << 40), "announces"),
        (small(key("x", 8, struct.pack("<Q", 1 << 60))), "truncated or damaged"),
        (small(key("x", 9, struct.pack("<IQ", 8, 1 << 50))), "truncated"),
        (small(key("x", 9, struct.pack("<IQ", 5, 1 << 50))), "truncated or damaged"),
        (small(key("x", 77, b"")), "unknown type 77"),
        (small()[:-1], "1 bytes of its weights are missing"),
    ],
)
def test_damage_is_named(data: bytes, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        read(data)


@given(st.integers(0, len(small()) - 1))
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(Invalid):
        read(small()[:length])


@settings(max_examples=300)
@given(st.data())
def test_noise_is_refused_or_read_but_never_worse(data: st.DataObject) -> None:
    """Flipped bytes anywhere: an answer or `Invalid`, never another error, never gigabytes."""
    noisy = bytearray(small())
    for _ in range(data.draw(st.integers(1, 4))):
        noisy[data.draw(st.integers(0, len(noisy) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Invalid):
        read(bytes(noisy))
