"""What a column holds: numbers, categories, texts, identifiers or times. What it is called tells nothing by itself; of numbers, which may
be anything, it tells whether they are meant to be counted with."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from drivetrain.profiles.times import LEAST_TIMES, seconds

if TYPE_CHECKING:
    import numpy.typing as npt

    Values = npt.NDArray[Any]

FEW = 50
"""Texts and whole numbers with so few different values may be categories."""
SHORT = 64
LOOKED_AT = 10_000
LEAST_IDENTIFIERS = 50
DISTINCT = 0.95
"""From this share of different values on, short texts are identifiers."""
LEAST_WORDS = 3.0
"""Short texts of so many words, nearly all different, were written by people."""
_DENSE = 4
"""Identifiers that count up leave few numbers out: rows that were deleted, or that went into another part of the data."""
_EXACT = 2.0**53
_MOST_FORM = 24
_IDENTIFIER = re.compile(r"(?:^|[\W_])(?:id|uid|uuid|guid)$|[a-z](?:Id|ID)$", re.ASCII)
_TIME = re.compile(r"(?:^|[\W_])(?:ts|at|time|date|timestamp|datetime|epoch)$|[a-z](?:At|Time|Date|Timestamp)$", re.ASCII)
_WORD = re.compile(r"[^\W_]+")


def kind_of(name: str, values: Values, *, is_target: bool = False) -> str:
    """numeric, categorical, text, identifier or time. What is to be predicted is never one of the last two."""
    import numpy as np

    if values.dtype.kind == "b":
        return "categorical"
    if values.dtype.kind == "M":
        return "time"
    if values.dtype.kind in "iuf":
        few = is_target and values.dtype.kind in "iu" and len(np.unique(values)) <= FEW
        return "categorical" if few else "numeric" if is_target else _of_numbers(name, values)
    present = [value for value in values[:LOOKED_AT].tolist() if value is not None and value == value]
    if present and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present):
        return "numeric" if is_target else _of_numbers(name, np.array([_float(value) for value in present]))
    if present and not is_target and np.isfinite(seconds(_objects(present), numbers=False)).mean() >= LEAST_TIMES:
        return "time"
    some = [text_of(value) for value in present]
    if len(set(some)) > FEW and max(map(len, some), default=0) > SHORT:
        return "text"
    if is_target or len(some) < LEAST_IDENTIFIERS or len(set(some)) < DISTINCT * len(some):
        return "categorical"
    words = sum(len(text.split()) for text in some) / len(some)
    return "text" if words >= LEAST_WORDS else "identifier"


def form_of(value: Any) -> str:
    """What an identifier looks like: its words are all the same, what stands between them is not. `u-5f3e` is `w-w`."""
    text = text_of(value)
    return "number" if text.isdigit() else _WORD.sub("w", text)[:_MOST_FORM]


def text_of(value: Any) -> str:
    """A value as the name of a category: 3, 3.0 and "3" are one."""
    if isinstance(value, str):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
    return str(int(number)) if math.isfinite(number) and number == int(number) else repr(number)


def _of_numbers(name: str, values: Values) -> str:
    import numpy as np

    some = values[:LOOKED_AT].astype(np.float64)
    some = some[np.isfinite(some)]
    if len(some) < LEAST_IDENTIFIERS:
        return "numeric"
    moments = seconds(some)
    moments = moments[np.isfinite(moments)]
    if len(moments) >= LEAST_TIMES * len(some) and moments.min() < moments.max():
        grow = (np.diff(moments) >= 0).mean() >= LEAST_TIMES
        if grow or _TIME.search(name):
            return "time"
    if (some != np.floor(some)).any() or len(np.unique(some)) < DISTINCT * len(some):
        return "numeric"
    whole = values.dtype.kind in "iu"
    steps = np.diff(some)
    counted_up = whole and bool((steps > 0).all()) and float(steps.mean()) <= _DENSE
    beyond_measure = whole and float(np.median(np.abs(some))) >= _EXACT  # a hash: as a 64-bit number it would not even be exact
    return "identifier" if _IDENTIFIER.search(name) or counted_up or beyond_measure else "numeric"


def _objects(values: list[Any]) -> Values:
    import numpy as np

    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.nan
