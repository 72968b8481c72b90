"""Values as two kinds of client see them: nested config and flat params, rows of mixed values and points of numbers.

JSON texts are lenient here: NaN and infinities stand in them as bare words, as wandb writes them.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from drivetrain.errors import Invalid
from drivetrain.search.documents import NUMBER
from drivetrain.tracking import checks
from drivetrain.words import spelled

MAX_DEPTH = 32
EXACT = 1 << 53
"""Beyond this a double does not hold every integer."""

Json = dict[str, Any]
_NUMBER = re.compile(NUMBER)
_ODD = re.compile(r"NaN|Infinity|\\u0000|\\ud[89a-f]")
_UNREADABLE = re.compile("[\ud800-\udfff]")
_NAN = {"_type": "NaN"}
_NAN_WRITTEN = json.dumps(_NAN)
_MARK = "\x00Infinity"
"""No text in what was tamed has a NUL: this stands for a number until it is written."""
_INFINITE = json.dumps(_MARK)[1:-1]


def parse_object(text: str, what: str) -> Json:
    """Raises `Invalid`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Invalid(f"The {what} is not a JSON object.", param=what)
    return found


def stored(value: Mapping[str, Any]) -> str:
    """JSON that databases read, too: an infinite number is one that is too large, NaN an object that is none; a NUL is left out, and half
    a pair of surrogates is the letter that stands for what cannot be read."""
    text = json.dumps(value)
    if _ODD.search(text) is None:
        return text
    return json.dumps(_tame(value), allow_nan=False).replace(f'"{_INFINITE}"', "1e999").replace(f'"-{_INFINITE}"', "-1e999")


def loaded(text: str) -> Json:
    """What was `stored`."""
    found: Json = json.loads(text, object_hook=_untamed) if _NAN_WRITTEN in text else json.loads(text)
    return found


def _tame(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return _NAN if math.isnan(value) else _MARK if value > 0 else f"-{_MARK}"
    if isinstance(value, str):
        return _UNREADABLE.sub("\ufffd", value.replace("\x00", ""))
    if isinstance(value, dict):
        return {_tame(key): _tame(one) for key, one in value.items()}
    return [_tame(one) for one in value] if isinstance(value, list) else value


def _untamed(found: Json) -> Any:
    return math.nan if found == _NAN else found


def flat(nested: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """(dotted key, leaf) of each leaf. Empty objects are leaves, and so are objects with a `_type`: media are not taken apart."""
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and "_type" not in value and depth < MAX_DEPTH:
            yield from flat(value, f"{name}.", depth + 1)
        else:
            yield name, value


def param(value: Any) -> str:
    """A config's value as the text that MLflow's client would have logged."""
    text = value if isinstance(value, str) else str(value)
    return text.replace("\x00", "")[: checks.MAX_PARAM]


def params(config: Mapping[str, Any]) -> dict[str, str]:
    """What of a nested config is shown as params."""
    return {key[: checks.MAX_KEY].replace("\x00", ""): param(value) for key, value in flat(config) if key}


def unparam(text: str) -> Any:
    """A param's text as a value: truth values, None and numbers (as searches understand them), else the text."""
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    if _NUMBER.fullmatch(text) is None:
        return text
    return float(text) if re.search(r"[.eE]", text) else int(text)


def is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def split_row(row: Mapping[str, Any]) -> tuple[dict[str, float], Json]:
    """(numbers, rest) of a row: the numbers become points, the rest stays as it is."""
    numbers: dict[str, float] = {}
    rest: Json = {}
    for key, value in flat(row):
        key = key.replace("\x00", "")
        if key.startswith("_") or not is_number(value) or not key or len(key) > checks.MAX_KEY:
            rest[key] = value
        else:
            if isinstance(value, int) and abs(value) > EXACT:
                rest[key] = value
            with contextlib.suppress(OverflowError):
                numbers[key] = float(value)
    return numbers, rest


def plain(value: float) -> float | int:
    """A point's value as JSON shows it: whole numbers without a point."""
    return int(value) if math.isfinite(value) and value == int(value) and abs(value) <= EXACT else value


def strict(value: Any) -> Any:
    """For JSON that knows neither NaN nor infinities: those as words."""
    if isinstance(value, float):
        return spelled(value)
    if isinstance(value, dict):
        return {key: strict(one) for key, one in value.items()}
    if isinstance(value, list):
        return [strict(one) for one in value]
    return value
