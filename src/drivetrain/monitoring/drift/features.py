"""Events as a table: the columns of what came in, and what went out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from drivetrain.store.events.model import Event

OUTPUT = "prediction"
"""The column of what the model said. A profile's target is compared with it."""
MOST_WIDTH = 4096
_ROUNDING = 1e-3


class _Tensor(msgspec.Struct):
    name: str = ""
    shape: list[int] = []
    data: Any = None


class _Infer(msgspec.Struct):
    inputs: list[_Tensor] = []
    outputs: list[_Tensor] = []


class _Message(msgspec.Struct):
    role: str = ""
    content: Any = None


class _Chat(msgspec.Struct):
    messages: list[_Message] = []
    prompt: Any = None
    input: Any = None


def table(events: Iterable[Event]) -> tuple[dict[str, list[Any]], int]:
    """The columns of these events' inputs and outputs, and how many rows that are. An event may hold several rows; one that kept
    nothing, or failed, holds none."""
    rows: list[dict[str, Any]] = []
    for event in events:
        if event.error or event.shadow or not event.input or event.input.startswith("sha256:"):
            continue
        try:
            rows += _infer(event) if event.task == "infer" else _text(event)
        except (msgspec.DecodeError, ValueError, TypeError):
            continue  # cut off, or in a form of a model's own
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}, len(rows)


def confidences(events: Iterable[Event]) -> list[float]:
    """How sure the model was of each answer, where its output is a table of probabilities: rows × classes, each row adding up to 1."""
    found: list[float] = []
    for event in events:
        if event.error or event.shadow or event.task != "infer" or not event.output or event.output.startswith("sha256:"):
            continue
        try:
            said = msgspec.json.decode(event.output, type=_Infer).outputs
            found += _confidence(said[0]) if said else []
        except (msgspec.DecodeError, ValueError, TypeError):
            continue
    return found


def _confidence(tensor: _Tensor) -> list[float]:
    if len(tensor.shape) != 2 or tensor.shape[1] < 2 or not isinstance(tensor.data, list):
        return []
    flat, width = _flat(tensor.data), tensor.shape[1]
    rows = [flat[i : i + width] for i in range(0, len(flat), width)]
    sure = [max(row) for row in rows if len(row) == width and min(row) >= 0 and abs(sum(row) - 1) < _ROUNDING]
    return [float(value) for value in sure] if len(sure) == len(rows) else []


def _infer(event: Event) -> list[dict[str, Any]]:
    asked = msgspec.json.decode(event.input or "", type=_Infer)
    rows = _rows(asked.inputs)
    if event.output and not event.output.startswith("sha256:"):
        said = msgspec.json.decode(event.output, type=_Infer).outputs
        if said and isinstance(said[0].data, list):
            found = said[0].data
            if len(found) == len(rows):
                for row, value in zip(rows, found, strict=True):
                    row[OUTPUT] = value[0] if isinstance(value, list) and len(value) == 1 else value
    return [{name: value for name, value in row.items() if not isinstance(value, list)} for row in rows]


def _rows(tensors: list[_Tensor]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for tensor in tensors:
        if not tensor.shape or not isinstance(tensor.data, list):
            continue
        count = tensor.shape[0] if len(tensor.shape) > 1 or len(tensors) > 1 or tensor.name else 1
        flat = _flat(tensor.data)
        width = len(flat) // count if count else 0
        if not count or math.prod(tensor.shape) != len(flat) or width > MOST_WIDTH:
            continue
        while len(rows) < count:
            rows.append({})
        for i in range(count):
            if width == 1:
                rows[i][tensor.name] = flat[i]
            else:
                prefix = "" if len(tensors) == 1 else f"{tensor.name}_"
                rows[i].update({f"{prefix}column_{j}": flat[i * width + j] for j in range(width)})
    return rows


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [value for part in data for value in part]
    return data


def _text(event: Event) -> list[dict[str, Any]]:
    asked = msgspec.json.decode(event.input or "", type=_Chat)
    words = [_content(message.content) for message in asked.messages if message.role == "user"]
    prompt = words[-1] if words else _content(asked.prompt if asked.prompt is not None else asked.input)
    row: dict[str, Any] = {"prompt": prompt}
    if event.task != "embeddings":
        row[OUTPUT] = event.output
    return [row]


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content if isinstance(part, (str, dict)))
    return ""
