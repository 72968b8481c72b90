"""wandb's file of records, and what a terminal shows: read by our own readers, whatever is in them."""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivetrain.errors import Invalid
from drivetrain.portable.terminal import WINDOW, Numbers, Terminal
from drivetrain.portable.wandb_log import BLOCK, HEADER, MAGIC, Log, fields, text, whole


def log(records: list[bytes]) -> bytes:
    """As LevelDB's writer does it."""
    out = bytearray(MAGIC)
    for data in records:
        begun = False
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < HEADER:
                out += bytes(left)
                left = BLOCK
            piece, data = data[: left - HEADER], data[left - HEADER :]
            kind = {(False, True): 1, (False, False): 2, (True, False): 3, (True, True): 4}[begun, not data]
            out += struct.pack("<IHB", zlib.crc32(piece, zlib.crc32(bytes([kind]))), len(piece), kind) + piece
            begun = True
            if not data:
                break
    return bytes(out)


def read(data: bytes) -> tuple[list[bytes], Log]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run-x.wandb"
        path.write_bytes(data)
        found = Log(path)
        return list(found.records()), found


sizes = st.lists(st.integers(0, 300) | st.integers(0, 3 * BLOCK) | st.integers(BLOCK - 40, BLOCK + 10), max_size=12)


@given(sizes)
def test_records_of_any_size_are_read(lengths: list[int]) -> None:
    records = [os.urandom(length) for length in lengths]
    found, it = read(log(records))
    assert found == records and not it.damaged and not it.cut


@given(sizes, st.floats(0, 1))
def test_what_was_cut_off_is_read_as_far_as_it_goes(lengths: list[int], where: float) -> None:
    records = [os.urandom(length) for length in lengths]
    data = log(records)
    found, it = read(data[: len(MAGIC) + int(where * (len(data) - len(MAGIC)))])
    assert found == records[: len(found)] and not it.damaged


@given(sizes.filter(lambda lengths: sum(lengths) > 0), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_damage_takes_no_record_for_another(lengths: list[int], where: float, flip: int) -> None:
    records = [os.urandom(length) for length in lengths]
    data = bytearray(log(records))
    data[len(MAGIC) + int(where * (len(data) - len(MAGIC)))] ^= flip
    found, _ = read(bytes(data))
    left = iter(records)
    assert all(one in left for one in found)


def test_other_files_are_refused() -> None:
    for data in (b"", b"PK", b":W&B\x00\x00\x00"):
        with pytest.raises(Invalid):
            read(data)


@given(st.binary(max_size=60))
def test_messages_are_taken_apart_or_refused(data: bytes) -> None:
    try:
        found = fields(data)
    except Invalid:
        return
    assert all(isinstance(text(found, number), str) and isinstance(whole(found, number), int) for number in found)


def shown(*pieces: str) -> list[str]:
    terminal = Terminal(Numbers())
    found = [line for piece in pieces for line in terminal.write(piece, 0.0)] + list(terminal.rest())
    assert [number for number, _, _ in found] == list(range(len(found)))
    return [line for _, _, line in found]


def test_a_terminal_shows_what_is_left_in_the_end() -> None:
    assert shown("a\nb\n\nc") == ["a", "b", "", "c"]
    assert shown("10%", "\r", "20%", "\r", "100%\n", "done") == ["100%", "done"]
    assert shown("longer\rab") == ["abnger"] and shown("longer\r\x1b[Kab") == ["ab"]
    assert shown("one\ntwo\x1b[A\rONE") == ["ONE", "two"]
    assert shown("x\x1b[31m red\x1b[0m") == ["x\x1b[31m red\x1b[0m"]
    assert shown("ab\b\bc") == ["cb"] and shown("") == [] and shown("\x1b") == []
    many = [f"line {n}" for n in range(WINDOW * 3)]
    assert shown("\n".join(many)) == many


@given(st.text(st.sampled_from("ab\n\r\b\x1b[0123456789;ABCDGKm"), max_size=80))
def test_no_output_breaks_a_terminal(output: str) -> None:
    assert all("\n" not in line for line in shown(output))
