"""Values as two kinds of client see them: nested config and flat params, rows of mixed values and points of numbers.

JSON texts are lenient here: NaN and infinities stand in them as bare words, as wandb writes them.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from drivetrain.errors import Invalid
from drivetrain.tracking import checks

MAX_DEPTH = 32
EXACT = 1 << 53
"""Beyond this a double does not hold every integer."""

Json = dict[str, Any]


def parse_object(text: str, what: str) -> Json:
    """Raises `Invalid`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Invalid(f"The {what} is not a JSON object.", param=what)
    return found


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
    """A param's text as a value: numbers, truth values and None, else the text."""
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    try:
        return int(text) if len(text) < 20 else text
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


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
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(one) for key, one in value.items()}
    if isinstance(value, list):
        return [strict(one) for one in value]
    return value
