"""wandb's file of records (`run-*.wandb`), read without wandb.

The file is LevelDB's log format: blocks of 32 KiB, in them chunks with a checksum, and a record is one chunk or several. A record is a
message of Protocol Buffers; here it is taken apart by field numbers (wandb_internal.proto).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from drivetrain.errors import Invalid

MAGIC = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
BLOCK, HEADER = 32 << 10, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
MAX_RECORD = 256 << 20

Value = int | bytes
Fields = dict[int, list[Value]]


class Log:
    """Records of one file, in order. After reading, `damaged` says how many stretches could not be read, and `cut` whether the end is
    missing, as after a crash."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.cut = False

    def records(self) -> Iterator[bytes]:
        """Raises `Invalid` for what is no such file."""
        with self.path.open("rb") as file:
            block = file.read(BLOCK)
            if not block.startswith(MAGIC):
                raise Invalid(f"{self.path} is no file of wandb's records, or of a release that is not known here.")
            at, pieces, size = len(MAGIC), list[bytes](), 0
            while block:
                kind, data, at = self._chunk(block, at)
                if kind is None:
                    # Whatever was begun is not complete: reading goes on with the next block.
                    if data is not None:
                        pieces, size = [], 0
                    block, at = file.read(BLOCK), 0
                    continue
                assert data is not None
                if kind in (FULL, FIRST):
                    self.damaged += bool(pieces)
                    pieces, size = [], 0
                elif not pieces:
                    continue  # the beginning was damaged
                pieces.append(data)
                size += len(data)
                if size > MAX_RECORD:
                    raise Invalid(f"A record in {self.path} is larger than {MAX_RECORD >> 20} MiB.")
                if kind in (FULL, LAST):
                    yield b"".join(pieces)
                    pieces, size = [], 0
            self.cut = self.cut or bool(pieces)

    def _chunk(self, block: bytes, at: int) -> tuple[int | None, bytes | None, int]:
        """(kind, data, where the next one begins); without a kind the block is read: with data if it ended in damage."""
        if len(block) - at < HEADER:
            self.cut = self.cut or (len(block) < BLOCK and len(block) > at)
            return None, None, 0
        checksum, length, kind = struct.unpack_from("<IHB", block, at)
        end = at + HEADER + length
        if not (checksum or length or kind):
            return None, None, 0  # the rest of the block is empty
        if end > len(block):
            if len(block) < BLOCK:
                self.cut = True
            else:
                self.damaged += 1
            return None, b"", 0
        data = block[at + HEADER : end]
        if not FULL <= kind <= LAST or zlib.crc32(data, zlib.crc32(block[at + 6 : at + 7])) != checksum:
            self.damaged += 1
            return None, b"", 0
        return kind, data, end


def fields(data: bytes) -> Fields:
    """Field number → its values: whole numbers as they stand (8 and 4 bytes as bytes), texts and messages as bytes. Raises `Invalid`."""
    found: Fields = {}
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: Value
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            if kind == 2:
                length, at = _varint(data, at)
            else:
                length = 8 if kind == 1 else 4
            if at + length > end:
                raise Invalid("A record ends too soon.")
            value, at = data[at : at + length], at + length
        else:
            raise Invalid(f"A record has a field of an unknown kind ({kind}).")
        found.setdefault(number, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if at >= len(data) or shift > 63:
            raise Invalid("A record has a number that does not end.")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def message(found: Fields, number: int) -> Fields:
    """The last value of a field, as a message; empty if it is missing."""
    values = found.get(number)
    return fields(values[-1]) if values and isinstance(values[-1], bytes) else {}


def messages(found: Fields, number: int) -> list[Fields]:
    return [fields(one) for one in found.get(number, ()) if isinstance(one, bytes)]


def texts(found: Fields, number: int) -> list[str]:
    return [one.decode("utf-8", "replace") for one in found.get(number, ()) if isinstance(one, bytes)]


def text(found: Fields, number: int) -> str:
    return (texts(found, number) or [""])[-1]


def whole(found: Fields, number: int, default: int = 0) -> int:
    """An int32, int64, bool or enum."""
    value = (found.get(number) or [default])[-1]
    if not isinstance(value, int):
        return default
    return value - (1 << 64) if value >= 1 << 63 else value


def seconds(found: Fields, number: int) -> float | None:
    """A google.protobuf.Timestamp."""
    if number not in found:
        return None
    stamp = message(found, number)
    return whole(stamp, 1) + whole(stamp, 2) / 1e9
