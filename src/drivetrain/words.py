"""Numbers in words, as JSON and people read them."""

from __future__ import annotations

import math


def spelled(value: float) -> float | str:
    """A number for JSON, which has no form for NaN and infinities: those as words, in the spelling that browsers and protobuf read."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


_UNITS = ((90, 1, "second"), (5400, 60, "minute"), (172_800, 3600, "hour"), (math.inf, 86_400, "day"))
"""Below which time one counts in a unit, its length in seconds, and its name."""


def span(seconds: float) -> str:
    """A time in words, rounded up to what people count in: 45 seconds, 12 minutes, 6.7 hours, 30 days."""
    length, name = next((length, name) for limit, length, name in _UNITS if seconds < limit)
    parts = 1 if length < 3600 else 10
    count = math.ceil(round(max(0.0, seconds) / length * parts, 6)) / parts
    return f"{count:,.10g} {name}{'' if count == 1 else 's'}"
