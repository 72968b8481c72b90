"""Identifiers: UUIDv7 (RFC 9562 §5.7), so that what is made later sorts later."""

from __future__ import annotations

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def uuid7() -> str:
    """32 lower-case hex digits; strictly increasing within a process, also when the clock steps back."""
    global _last  # noqa: PLW0603 - strictly increasing means remembering the last one
    with _lock:
        # 48 bits of milliseconds, then 12 bits that count within one millisecond.
        now = (time.time_ns() // 1_000_000) << 12
        _last = now if now > _last else _last + 1
        stamp = _last
    high = (stamp >> 12) << 16 | 0x7000 | (stamp & 0xFFF)
    low = 0x8000_0000_0000_0000 | int.from_bytes(os.urandom(8)) >> 2
    return f"{high:016x}{low:016x}"


def uuid7_ms(value: str) -> int:
    """The moment (milliseconds since 1970) that a UUIDv7 was made. Raises ValueError if `value` is none."""
    if len(value) != 32 or value[12] != "7":
        raise ValueError(f"{value!r} is not a UUIDv7")
    return int(value[:12], 16)


def first_id(ms: int) -> str:
    """What sorts before every UUIDv7 of this moment (milliseconds since 1970), and after those of before."""
    return f"{ms:012x}" + "0" * 20


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
