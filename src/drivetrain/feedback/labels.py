"""Whether a label says what the answer said."""

from __future__ import annotations

from typing import Any

import msgspec


def prediction(output: str | None) -> Any:
    """The one value that an Open Inference answer holds, else None (also when the event kept a hash or nothing of it)."""
    if not output:
        return None
    try:
        data = msgspec.json.decode(output)["outputs"][0]["data"]
    except (msgspec.DecodeError, KeyError, IndexError, TypeError):
        return None
    while isinstance(data, list) and len(data) == 1:
        data = data[0]
    return None if isinstance(data, list) else data


def same(predicted: Any, label: Any) -> bool:
    """Equal as values: 3, 3.0 and "3" are one label, since clients send labels as they have them."""
    if predicted == label:
        return True
    try:
        return float(predicted) == float(label)
    except (TypeError, ValueError):
        return str(predicted) == str(label)
