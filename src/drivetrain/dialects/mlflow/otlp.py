"""OpenTelemetry's protocol for spans (OTLP over HTTP): an `ExportTraceServiceRequest`, in protobuf or JSON.

The few messages are read off the wire by hand: field numbers are those of opentelemetry-proto 1.x, unknown fields are passed over.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from drivetrain.errors import Invalid, TooLarge
from drivetrain.store.sql import INT64
from drivetrain.tracking.traces.spans import Event, Link, Span, Status, Value
from drivetrain.words import spelled

MAX_DEPTH = 32
"""Of values within values."""
_UINT64 = 1 << 64
_STATUS: dict[int, Status] = {0: "UNSET", 1: "OK", 2: "ERROR"}
_STATUS_NAMES: dict[str, Status] = {"STATUS_CODE_UNSET": "UNSET", "STATUS_CODE_OK": "OK", "STATUS_CODE_ERROR": "ERROR"}
_Field = tuple[int, int, Any]
"""Number, wire type, and an int (varint, fixed) or bytes."""


class Unprocessable(Invalid):
    """A request that is well formed and lacks something."""

    status = 422


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo gzip or deflate. Raises `Invalid`, and `TooLarge` beyond the limit."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise Invalid(f"The content encoding {encoding[:40]!r} is not known: use gzip, deflate or none.", param="content-encoding")
    # Deflate comes with or without a head; gzip may consist of several members.
    raw = encoding == "deflate" and (len(body) < 2 or body[0] & 15 != 8 or int.from_bytes(body[:2]) % 31 != 0)
    out = bytearray()
    try:
        while body:
            unpack = zlib.decompressobj(31 if encoding == "gzip" else -15 if raw else 15)
            out += unpack.decompress(body, limit + 1 - len(out))
            if len(out) > limit:
                raise TooLarge(f"The body is larger than {limit} bytes when it is unpacked: send fewer spans at once.")
            if not unpack.eof:
                raise zlib.error("it ends too early")
            body = unpack.unused_data if encoding == "gzip" else b""
    except zlib.error as error:
        raise Invalid(f"The body cannot be unpacked as {encoding}: {error}.") from None
    return bytes(out)


# --- protobuf


def from_protobuf(body: bytes) -> list[Span]:
    """Raises `Invalid` for what is not such a message."""
    try:
        return [span for number, wire, part in _fields(body) if (number, wire) == (1, 2) for span in _resource_spans(part)]
    except (UnicodeDecodeError, struct.error, IndexError) as error:
        raise Invalid(f"The body is no OTLP request for traces: {error}.") from None


def _resource_spans(data: bytes) -> Iterator[Span]:
    fields = list(_fields(data))
    resource: dict[str, Value] = {}
    for number, wire, part in fields:
        if (number, wire) == (1, 2):
            resource |= _attributes(part, 1)
    for number, wire, part in fields:
        if (number, wire) == (2, 2):
            for inner, kind, span in _fields(part):
                if (inner, kind) == (2, 2):
                    yield _span(span, resource)


def _span(data: bytes, resource: dict[str, Value]) -> Span:
    about: dict[str, Any] = {"trace_id": "", "span_id": "", "resource": resource}
    attributes: dict[str, Value] = {}
    events: list[Event] = []
    links: list[Link] = []
    for number, wire, value in _fields(data):
        match number, wire:
            case 1, 2:
                about["trace_id"] = value.hex()
            case 2, 2:
                about["span_id"] = value.hex()
            case 4, 2:
                about["parent_id"] = value.hex() or None
            case 5, 2:
                about["name"] = value.decode()
            case 7, 1:
                about["start_ns"] = value
            case 8, 1:
                about["end_ns"] = value or None
            case 9, 2:
                _entry(value, attributes, 0)
            case 11, 2:
                events.append(_event(value))
            case 13, 2:
                links.append(_link(value))
            case 15, 2:
                for inner, kind, part in _fields(value):
                    if (inner, kind) == (2, 2):
                        about["message"] = part.decode()
                    elif (inner, kind) == (3, 0):
                        about["status"] = _STATUS.get(part, "UNSET")
    return Span(attributes=attributes, events=tuple(events), links=tuple(links), **about)


def _event(data: bytes) -> Event:
    name, time_ns = "", 0
    for number, wire, value in _fields(data):
        if (number, wire) == (1, 1):
            time_ns = value
        elif (number, wire) == (2, 2):
            name = value.decode()
    return Event(name, time_ns, _attributes(data, 3))


def _link(data: bytes) -> Link:
    ids = {1: "", 2: ""}
    for number, wire, value in _fields(data):
        if number in ids and wire == 2:
            ids[number] = value.hex()
    return Link(ids[1], ids[2], _attributes(data, 4))


def _attributes(data: bytes, field: int, depth: int = 0) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for number, wire, value in _fields(data):
        if (number, wire) == (field, 2):
            _entry(value, found, depth)
    return found


def _entry(data: bytes, into: dict[str, Value], depth: int) -> None:
    key, value = "", None
    for number, wire, part in _fields(data):
        if (number, wire) == (1, 2):
            key = part.decode()
        elif (number, wire) == (2, 2):
            value = _value(part, depth + 1)
    into[key] = value


def _value(data: bytes, depth: int) -> Value:
    _check_depth(depth)
    found: Value = None
    for number, wire, part in _fields(data):
        match number, wire:
            case 1, 2:
                found = part.decode()
            case 2, 0:
                found = bool(part)
            case 3, 0:
                found = part - _UINT64 if part >= INT64 else part
            case 4, 1:
                found = struct.unpack("<d", part.to_bytes(8, "little"))[0]
            case 5, 2:
                found = [_value(one, depth + 1) for inner, kind, one in _fields(part) if (inner, kind) == (1, 2)]
            case 6, 2:
                found = _attributes(part, 1, depth)
            case 7, 2:
                found = part
    return found


def _fields(data: bytes) -> Iterator[_Field]:
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise IndexError("a field has the number 0")
        if wire == 0:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise IndexError(f"a field is of the unknown type {wire}")
        if length > end - at:
            raise IndexError("it ends too early")
        part = data[at : at + length]
        at += length
        yield number, wire, part if wire == 2 else int.from_bytes(part, "little")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise IndexError("it ends too early, or a number is too long")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (_UINT64 - 1), at
        shift += 7


# --- JSON: ids are hexadecimal, 64-bit numbers may be strings


def from_json(body: bytes) -> list[Span]:
    """Raises `Invalid` for what is not such a message."""
    try:
        given = msgspec.json.decode(body, type=dict[str, Any])
        found: list[Span] = []
        for group in given.get("resourceSpans") or ():
            resource = _json_attributes((group.get("resource") or {}).get("attributes"))
            for scope in group.get("scopeSpans") or ():
                found += [_json_span(span, resource) for span in scope.get("spans") or ()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise Invalid("The body is no OTLP request for traces in JSON.") from None
    return found


def _json_span(given: dict[str, Any], resource: dict[str, Value]) -> Span:
    told = given.get("status") or {}
    code = told.get("code", 0)
    return Span(
        trace_id=_hex(given.get("traceId")),
        span_id=_hex(given.get("spanId")),
        parent_id=_hex(given.get("parentSpanId")) or None,
        name=_text(given.get("name")),
        start_ns=int(given.get("startTimeUnixNano") or 0),
        end_ns=int(given.get("endTimeUnixNano") or 0) or None,
        status=_STATUS_NAMES.get(code, "UNSET") if isinstance(code, str) else _STATUS.get(code, "UNSET"),
        message=_text(told.get("message")),
        attributes=_json_attributes(given.get("attributes")),
        events=tuple(
            Event(_text(one.get("name")), int(one.get("timeUnixNano") or 0), _json_attributes(one.get("attributes")))
            for one in given.get("events") or ()
        ),
        links=tuple(
            Link(_hex(one.get("traceId")), _hex(one.get("spanId")), _json_attributes(one.get("attributes")))
            for one in given.get("links") or ()
        ),
        resource=resource,
    )


def _json_attributes(given: Any, depth: int = 0) -> dict[str, Value]:
    return {_text(one.get("key")): _json_value(one.get("value"), depth + 1) for one in given or ()}


def _json_value(given: Any, depth: int) -> Value:
    _check_depth(depth)
    for kind, value in (given or {}).items():
        read = _JSON_VALUES.get(kind)
        if read is not None:
            return read(value)
        if kind == "arrayValue":
            return [_json_value(one, depth + 1) for one in value.get("values") or ()]
        if kind == "kvlistValue":
            return _json_attributes(value.get("values"), depth)
    return None


def _int64(value: Any) -> int:
    number = int(value)
    if not -INT64 <= number < INT64:
        raise ValueError(number)
    return number


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(value)
    return value or ""


def _hex(value: Any) -> str:
    return bytes.fromhex(_text(value)).hex()


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError(value) from None


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Invalid(f"An attribute of a span holds values within values, more than {MAX_DEPTH} deep: send it as a text.", param="spans")


_JSON_VALUES: dict[str, Callable[[Any], Value]] = {
    "stringValue": _text,
    "boolValue": bool,
    "intValue": _int64,
    "doubleValue": float,
    "bytesValue": _bytes,
}


# --- the way back: protobuf's own JSON, in which bytes are base64


def to_json(span: Span) -> dict[str, Any]:
    """A span as MLflow's API tells it."""
    out: dict[str, Any] = {
        "trace_id": _base64(span.trace_id),
        "span_id": _base64(span.span_id),
        "name": span.name,
        "start_time_unix_nano": span.start_ns,
        "attributes": _typed(span.attributes),
        "status": {"code": f"STATUS_CODE_{span.status}"} | ({"message": span.message} if span.message else {}),
    }
    if span.parent_id:
        out["parent_span_id"] = _base64(span.parent_id)
    if span.end_ns is not None:
        out["end_time_unix_nano"] = span.end_ns
    if span.events:
        out["events"] = [{"name": e.name, "time_unix_nano": e.time_ns, "attributes": _typed(e.attributes)} for e in span.events]
    if span.links:
        out["links"] = [
            {"trace_id": _base64(one.trace_id), "span_id": _base64(one.span_id), "attributes": _typed(one.attributes)} for one in span.links
        ]
    return out


def _base64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


def _typed(given: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any_value(value)} for key, value in given.items()]


def _any_value(value: Value) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"bool_value": value}
    if isinstance(value, str):
        return {"string_value": value}
    if isinstance(value, int):
        return {"int_value": value}
    if isinstance(value, float):
        return {"double_value": spelled(value)}
    if isinstance(value, bytes):
        return {"bytes_value": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {"kvlist_value": {"values": _typed(value)}}
    return {"array_value": {"values": [_any_value(one) for one in value]}}
