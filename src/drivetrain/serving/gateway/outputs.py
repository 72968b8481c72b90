"""What an answer looked like, in three words that its event keeps whatever the deployment's policy of capture: what is wrong with it if
something is, its form, and what it said. Rollouts compare them; nothing of an answer is in them but a number or a short word, as the name
of a class is, and of that a hash where events keep no plain outputs.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

MOST = 64 << 10
"""Bytes of tensors that are looked at; of larger answers it is their size that is seen."""
MOST_NAME = 64
MOST_WORD, MOST_SPACES = 32, 1
"""Characters and spaces of what may be the name of a class; of what is longer the length is kept, as of text."""
LOOKED_AT = frozenset({"infer", "chat", "completion"})
"""Tasks whose answers are looked at."""
_SPELT = {"nan": "nan", "inf": "infinite", "+inf": "infinite", "-inf": "infinite", "infinity": "infinite", "-infinity": "infinite"}


class Seen(NamedTuple):
    """`wrong`: null, nan, infinite, empty, shape or type; "" if nothing is. `form`: of tensors types and inner shapes, of text `text`; ""
    if it was not looked at. `said`: the prediction (of several rows the first; of a row of numbers which is the greatest, of another
    row its first value), of text, also in tensors, its length in characters."""

    wrong: str = ""
    form: str = ""
    said: float | str | None = None


class _Tensor(msgspec.Struct):
    name: str = ""
    datatype: str = ""
    shape: list[int] = []
    data: Any = None


class _Answer(msgspec.Struct):
    outputs: list[_Tensor] = []


_answers = msgspec.json.Decoder(_Answer)


def look(task: str, output: str | bytes | None, *, plain: bool = True) -> Seen:
    """Look at an answer to a request of this task. Unless events keep `plain` outputs, words are hashed."""
    if output is None or task not in LOOKED_AT:
        return Seen()
    if task == "infer":
        return _tensors(output, plain)
    text = output if isinstance(output, str) else output.decode("utf-8", "replace")
    return Seen("" if text.strip() else "empty", "text", float(len(text)))


def _tensors(output: str | bytes, plain: bool) -> Seen:
    if len(output) > MOST:
        return Seen("", "large", float(len(output)))
    try:
        outputs = _answers.decode(output).outputs
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Seen("shape", "unreadable")
    if not outputs:
        return Seen("empty", "nothing")
    form = " ".join(f"{one.datatype}{one.shape[1:]}" for one in outputs)[: 2 * MOST_NAME]
    wrong, said = "", None
    for number, one in enumerate(outputs):
        flat = _flat(one.data)
        wrong = wrong or _wrong(one, flat)
        if number == 0 and flat and not wrong:
            said = _said(one, flat, plain)
    return Seen(wrong, form, said)


def _flat(data: Any) -> list[Any] | None:
    if not isinstance(data, list):
        return None
    flat: list[Any] = data
    while flat and isinstance(flat[0], list):
        flat = [value for part in flat for value in (part if isinstance(part, list) else (part,))]
    return flat


def _wrong(tensor: _Tensor, flat: list[Any] | None) -> str:
    if flat is None:
        return "null"
    if not flat:
        return "empty"
    if math.prod(tensor.shape) != len(flat):
        return "shape"
    numeric = tensor.datatype.startswith(("FP", "BF", "INT", "UINT"))
    for value in flat:
        if value is None:
            return "null"
        if isinstance(value, str):
            if numeric:
                return _SPELT.get(value.casefold(), "type")
            if not value.strip():
                return "empty"
        elif isinstance(value, float) and not math.isfinite(value):
            return "nan" if value != value else "infinite"
    return ""


def _said(tensor: _Tensor, flat: list[Any], plain: bool) -> float | str | None:
    width = math.prod(tensor.shape[1:]) if tensor.shape else 1
    row = flat[: max(1, width)]
    if len(row) > 1 and all(isinstance(value, (int, float)) for value in row):
        return f"greatest: {row.index(max(row))}"
    value = row[0]
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 1e300 else None
    text = str(value)
    if len(text) > MOST_WORD or text.count(" ") > MOST_SPACES or not text.isprintable():
        return float(len(text))
    return text if plain else hidden(text)


def hidden(word: str) -> str:
    """A word by which equal ones are known, and not read."""
    return "#" + sha256(word.encode("utf-8", "surrogatepass")).hexdigest()[:16]
