"""Spans: one step of a trace each. Their form at rest, and what they say of their trace: tokens, costs, previews."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from drivetrain.errors import Invalid
from drivetrain.store.sql import INT64
from drivetrain.tags import SPAN_COST, SPAN_KIND, SPAN_USAGE
from drivetrain.words import spelled

Value = Any
"""None, bool, int, float, str, bytes, a list of these, or a dict with them."""
Status = Literal["UNSET", "OK", "ERROR"]

PREVIEW = 1000
_USAGE = ("input_tokens", "output_tokens", "total_tokens")
_CACHE = ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation_input_tokens_above_1hr")
_COST = ("input_cost", "output_cost", "total_cost")


class Event(Struct, frozen=True):
    name: str
    time_ns: int
    attributes: Mapping[str, Value] = {}


class Link(Struct, frozen=True):
    """Ids in hexadecimal digits."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Value] = {}


class Span(Struct, frozen=True, kw_only=True):
    """`trace_id`, `span_id` and `parent_id` are in hexadecimal digits."""

    trace_id: str
    span_id: str
    parent_id: str | None = None
    name: str = ""
    start_ns: int = 0
    end_ns: int | None = None
    status: Status = "UNSET"
    message: str = ""
    attributes: Mapping[str, Value] = {}
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    resource: Mapping[str, Value] = {}

    @property
    def trace(self) -> str:
        """Its trace, as MLflow's clients call it."""
        return f"tr-{self.trace_id}"


def check(span: Span) -> None:
    """Raises `Invalid` for what cannot be kept."""
    for what, text, digits in (("trace id", span.trace_id, 32), ("span id", span.span_id, 16), ("parent's id", span.parent_id, 16)):
        if text is not None and not (len(text) == digits and text.strip("0") and all(letter in "0123456789abcdef" for letter in text)):
            raise Invalid(f"{text[:64]!r} is no {what}: it has {digits // 2} bytes, which are not all zero.", param="spans")
    if not all(0 <= at < INT64 for at in (span.start_ns, span.end_ns or 0, *(event.time_ns for event in span.events))):
        raise Invalid("The time of a span is beyond what can be kept: it is counted in nanoseconds from 1970 on.", param="spans")


def row(span: Span) -> dict[str, Any]:
    """The columns of a span, without its trace's."""
    usage, cost = token_usage(span.attributes), numbers(decoded(span.attributes.get(SPAN_COST)))
    plain: dict[str, Any] = {}
    odd: dict[str, Any] = {}
    for key, value in span.attributes.items():
        plain[clean(key)] = _plain(value)
        if _is_odd(key) or _is_odd(value):
            odd[key] = _packed(value)
    rest = {
        "message": span.message,
        "odd": odd,
        "events": [[e.name, e.time_ns, _packed(dict(e.attributes))] for e in span.events],
        "links": [[one.trace_id, one.span_id, _packed(dict(one.attributes))] for one in span.links],
    }
    kind = span.attributes.get(SPAN_KIND)
    return {
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": clean(span.name),
        "type": clean(kind) if isinstance(kind, str) else None,
        "status": span.status,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "attributes": json.dumps(plain, ensure_ascii=False, allow_nan=False),
        "rest": json.dumps({key: value for key, value in rest.items() if value}),
        "usage": json.dumps(usage) if usage else None,
        "cost": json.dumps(cost) if cost else None,
    }


def from_row(found: Any, trace_id: str) -> Span:
    rest = json.loads(found.rest)
    attributes = json.loads(found.attributes)
    for key, value in rest.get("odd", {}).items():
        attributes.pop(clean(key), None)
        attributes[key] = _unpacked(value)
    return Span(
        trace_id=trace_id.removeprefix("tr-"),
        span_id=found.span_id,
        parent_id=found.parent_id,
        name=found.name,
        start_ns=found.start_ns,
        end_ns=found.end_ns,
        status=found.status,
        message=rest.get("message", ""),
        attributes=attributes,
        events=tuple(Event(name, at, _unpacked(about)) for name, at, about in rest.get("events", ())),
        links=tuple(Link(trace, span, _unpacked(about)) for trace, span, about in rest.get("links", ())),
    )


def clean(text: str) -> str:
    """Without what PostgreSQL cannot hold."""
    return text.replace("\x00", "\ufffd")


def decoded(value: Value) -> Value:
    """Attributes that are objects come as such, or as JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text(value: Value) -> str:
    value = _plain(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def numbers(given: Value) -> dict[str, int | float]:
    """The finite numbers of an object."""
    if not isinstance(given, Mapping):
        return {}
    return {
        str(key): value
        for key, value in given.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and -INT64 < value < INT64
    }


def token_usage(attributes: Mapping[str, Value]) -> dict[str, int | float]:
    """As MLflow's clients tell it, or else by OpenTelemetry's names for it."""
    if found := numbers(decoded(attributes.get(SPAN_USAGE))):
        return found
    told = numbers({name: attributes.get(f"gen_ai.usage.{name}") for name in ("input_tokens", "output_tokens")})
    return {"input_tokens": 0, "output_tokens": 0} | told | {"total_tokens": sum(told.values())} if told else {}


def summed_usage(spans: Iterable[tuple[str, str | None, Mapping[str, Any]]]) -> dict[str, int] | None:
    found = _summed(list(spans), _USAGE, _CACHE)
    return None if found is None else {key: int(value) for key, value in found.items()}


def summed_cost(spans: Iterable[tuple[str, str | None, Mapping[str, Any]]]) -> dict[str, float] | None:
    found = _summed(list(spans), _COST, ())
    return None if found is None else {key: float(value) for key, value in found.items()}


def _summed(
    spans: list[tuple[str, str | None, Mapping[str, Any]]], keys: Iterable[str], optional: Iterable[str]
) -> dict[str, int | float] | None:
    """What the spans count together. (id, parent's id, counts); one that counts has counted what is below it."""
    children: dict[str | None, list[tuple[str, Mapping[str, Any], bool]]] = {}
    known = {span_id for span_id, _, _ in spans}
    stack: list[tuple[str, Mapping[str, Any], bool]] = []
    for span_id, parent, counts in spans:
        if parent in known:
            children.setdefault(parent, []).append((span_id, counts, False))
        else:
            stack.append((span_id, counts, False))
    totals: dict[str, int | float] = dict.fromkeys(keys, 0)
    seen = False
    while stack:
        span_id, counts, counted = stack.pop()
        if counts and not counted:
            seen = True
            for key in keys:
                totals[key] += counts.get(key, 0)
            for key in optional:
                if key in counts:
                    totals[key] = totals.get(key, 0) + counts[key]
        # Each is taken once, so that spans which are each other's parents end this, too.
        stack += [(child, theirs, counted or bool(counts)) for child, theirs, _ in children.pop(span_id, ())]
    return totals if seen else None


def preview(value: Value, role: str) -> str | None:
    """The beginning of what went in or came out; of a chat, the last message of that role."""
    if value is None:
        return None
    found = _message(decoded(value), role) or text(value)
    return clean(found if len(found) <= PREVIEW else found[: PREVIEW - 3] + "...")


def _message(given: Value, role: str) -> str | None:
    while isinstance(given, dict):
        choices = given.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            candidates: Any = [choices[0].get("message")]
        else:
            candidates = given.get("messages") or given.get("input") or given.get("output")
        messages = (
            [one for one in candidates if isinstance(one, dict) and "role" in one and "content" in one]
            if isinstance(candidates, list)
            else []
        )
        if messages:
            mine = [one for one in messages if one["role"] == role] or messages
            content = mine[-1]["content"]
            for part in content if isinstance(content, list) else [content]:
                if isinstance(part, str):
                    return part
                if isinstance(part, dict) and part.get("type") in ("text", "output_text") and isinstance(part.get("text"), str):
                    return str(part["text"])
            return None
        given = given.get("request")
    return None


def _is_odd(value: Value) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_is_odd(key) or _is_odd(one) for key, one in value.items())
    if isinstance(value, list):
        return any(_is_odd(one) for one in value)
    return isinstance(value, bytes)


def _plain(value: Value) -> Any:
    """What a database's JSON can hold of it."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return spelled(value)
    if isinstance(value, dict):
        return {clean(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _packed(value: Value) -> Any:
    """Everything of it: lists and objects are marked, and so is what JSON has no word for."""
    if isinstance(value, bytes):
        return {"b": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"m": {key: _packed(one) for key, one in value.items()}}
    return [_packed(one) for one in value] if isinstance(value, list) else value


def _unpacked(value: Any) -> Value:
    if isinstance(value, dict):
        if "b" in value:
            return base64.b64decode(value["b"])
        return {key: _unpacked(one) for key, one in value["m"].items()}
    return [_unpacked(one) for one in value] if isinstance(value, list) else value
