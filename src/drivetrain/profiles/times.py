"""Moments in all the forms in which they come: dates, ISO 8601 texts, and seconds, milli-, micro- or nanoseconds since 1970."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LEAST_TIMES = 0.95
"""A column in which so many of the values are times is one of times; the others are of another form."""
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}|$)")
_EARLIEST, _LATEST = 946_684_800.0, 4_102_444_800.0
"""Numbers are times between the years 2000 and 2100."""
_UNITS = (1.0, 1e3, 1e6, 1e9)


def seconds(values: npt.NDArray[Any], *, numbers: bool = True) -> Floats:
    """Seconds since 1970 of each value, NaN for what is no time; times without a zone are taken for UTC. `numbers`: whether numbers are
    times, by their magnitude."""
    import numpy as np

    if values.dtype.kind == "M":
        since = values.astype("datetime64[us]")
        return np.where(np.isnat(since), np.nan, since.astype(np.int64) / 1e6)
    if values.dtype.kind in "iuf":
        return _of_numbers(values.astype(np.float64)) if numbers else np.full(len(values), np.nan)
    listed = values.tolist()
    found = np.array([_second(value) for value in listed], dtype=np.float64)
    if numbers:
        plain = np.array([_number(value) for value in listed], dtype=np.float64)
        found = np.where(np.isnan(found), _of_numbers(plain), found)
    return found


def iso(second: float) -> str:
    """A moment as people write it, to the day where it is midnight."""
    try:
        moment = datetime.fromtimestamp(second, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{second:.4g} s"
    return f"{moment:%Y-%m-%d}" if second % 86_400 == 0 else f"{moment:%Y-%m-%d %H:%M}"


def _of_numbers(numbers: Floats) -> Floats:
    import numpy as np

    found = np.full(len(numbers), np.nan)
    for unit in _UNITS:
        there = (numbers >= _EARLIEST * unit) & (numbers < _LATEST * unit)
        found[there] = numbers[there] / unit
    return found


def _second(value: Any) -> float:
    if isinstance(value, str):
        if not _ISO.match(value):
            return math.nan
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return math.nan
    if isinstance(value, datetime):
        if value != value:  # pandas' NaT is a datetime of its kind
            return math.nan
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return math.nan


def _number(value: Any) -> float:
    if isinstance(value, (bool, date)):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
