"""The binary tensor extension: raw little-endian bytes after the JSON, without NumPy."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Iterable
from typing import Any

from drivetrain.errors import Invalid

_CODES = {
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP32": "f",
    "FP64": "d",
}
DATATYPES = frozenset({*_CODES, "BOOL", "FP16", "BF16", "BYTES"})


def unpack(raw: memoryview, datatype: str, count: int, name: str) -> list[Any]:
    """`count` elements from their bytes. Raises `Invalid`."""
    try:
        out: list[Any]
        if datatype == "BYTES":
            out = list(_strings(raw))
        elif datatype == "BOOL":
            out = [bool(x) for x in raw]
        elif datatype == "FP16":
            out = list(struct.unpack(f"<{len(raw) // 2}e", raw))
        elif datatype == "BF16":
            out = [struct.unpack("<f", b"\0\0" + bytes(raw[i : i + 2]))[0] for i in range(0, len(raw), 2)]
        else:
            values = array(_CODES[datatype])
            values.frombytes(raw)
            if sys.byteorder == "big":
                values.byteswap()
            out = values.tolist()
    except (struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise Invalid(f"The binary data of input {name!r} is not {datatype}: {error}", param=name) from None
    if len(out) != count:
        raise Invalid(f"Input {name!r} has {len(out)} elements, its shape says {count}.", param=name)
    return out


def pack(values: Iterable[Any], datatype: str) -> bytes:
    """The bytes of elements."""
    if datatype == "BYTES":
        parts = [value if isinstance(value, bytes) else b"" if value is None else str(value).encode() for value in values]
        return b"".join([struct.pack("<I", len(part)) + part for part in parts])
    if datatype == "BOOL":
        return bytes([1 if value else 0 for value in values])
    numbers = [math.nan if value is None else value for value in values]
    if datatype == "FP16":
        return struct.pack(f"<{len(numbers)}e", *numbers)
    if datatype == "BF16":
        return b"".join([struct.pack("<f", value)[2:] for value in numbers])
    packed = array(_CODES[datatype], numbers)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def flat(data: Any) -> list[Any]:
    """Row-major elements of nested lists."""
    if not isinstance(data, list):
        return [data]
    if not any(isinstance(item, list) for item in data):
        return data
    return [element for item in data for element in flat(item)]


def _strings(raw: memoryview) -> list[str]:
    out = []
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + length > len(raw):
            raise ValueError("a string is longer than the data")
        out.append(bytes(raw[at : at + length]).decode())
        at += length
    return out
