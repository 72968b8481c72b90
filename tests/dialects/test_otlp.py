"""Spans off the wire: the hand-written reader against opentelemetry-proto, and bytes that are none of its messages."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from drivetrain.dialects.mlflow import otlp
from drivetrain.errors import Invalid, TooLarge
from drivetrain.tracking.traces.spans import Event, Link, Span, Status

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False) | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ATTRIBUTES = st.dictionaries(TEXT, VALUES, max_size=4)
TIMES = st.integers(0, (1 << 63) - 1)
STATUSES: tuple[Status, ...] = ("UNSET", "OK", "ERROR")


def digits(length: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=length, max_size=length).map(bytes.hex)


SPANS = st.builds(
    Span,
    trace_id=digits(16),
    span_id=digits(8),
    parent_id=st.none() | digits(8),
    name=TEXT,
    start_ns=TIMES,
    end_ns=st.none() | st.integers(1, (1 << 63) - 1),
    status=st.sampled_from(STATUSES),
    message=TEXT,
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, TEXT, TIMES, ATTRIBUTES), max_size=2).map(tuple),
    links=st.lists(st.builds(Link, digits(16), digits(8), ATTRIBUTES), max_size=2).map(tuple),
    resource=ATTRIBUTES,
)


def put(message: AnyValue, value: Any) -> None:
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, list):
        message.array_value.SetInParent()
        for one in value:
            put(message.array_value.values.add(), one)
    elif isinstance(value, dict):
        message.kvlist_value.SetInParent()
        put_all(message.kvlist_value.values, value)


def put_all(entries: Any, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        entry = entries.add(key=key)
        entry.value.SetInParent()
        put(entry.value, value)


def message_of(spans: list[Span]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for one in spans:
        group = request.resource_spans.add()
        put_all(group.resource.attributes, one.resource)
        group.schema_url = "https://example.invalid"
        scope = group.scope_spans.add()
        scope.scope.name = "scope"
        span = scope.spans.add(
            trace_id=bytes.fromhex(one.trace_id),
            span_id=bytes.fromhex(one.span_id),
            parent_span_id=bytes.fromhex(one.parent_id or ""),
            name=one.name,
            kind=Message.SPAN_KIND_SERVER,
            start_time_unix_nano=one.start_ns,
            end_time_unix_nano=one.end_ns or 0,
            trace_state="a=b",
            dropped_links_count=3,
            flags=257,
        )
        span.status.message = one.message
        span.status.code = STATUSES.index(one.status)
        put_all(span.attributes, one.attributes)
        for event in one.events:
            put_all(span.events.add(name=event.name, time_unix_nano=event.time_ns).attributes, event.attributes)
        for link in one.links:
            ids = {"trace_id": bytes.fromhex(link.trace_id), "span_id": bytes.fromhex(link.span_id)}
            put_all(span.links.add(**ids).attributes, link.attributes)
    return request


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPANS, max_size=3))
def test_protobuf_is_read_as_its_own_library_writes_it(spans: list[Span]) -> None:
    assert otlp.from_protobuf(message_of(spans).SerializeToString()) == spans


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPANS, max_size=3))
def test_json_is_read_as_its_own_library_writes_it(spans: list[Span]) -> None:
    body = MessageToDict(message_of(spans))
    for group in body.get("resourceSpans", ()):
        for span in (one for scope in group["scopeSpans"] for one in scope["spans"]):
            for part in (span, *span.get("links", ())):  # OTLP's JSON writes ids in hexadecimal digits
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in part:
                        part[name] = base64.b64decode(part[name]).hex()
    assert otlp.from_json(json.dumps(body).encode()) == spans


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPANS)
def test_what_goes_back_is_what_the_library_reads(span: Span) -> None:
    back = ParseDict(json.loads(json.dumps(otlp.to_json(span))), Message())
    sent = message_of([span]).resource_spans[0].scope_spans[0].spans[0]
    for name in ("kind", "trace_state", "dropped_links_count", "flags"):
        sent.ClearField(name)
    if not (span.message or span.status != "UNSET"):
        sent.ClearField("status")
        back.ClearField("status")
    assert back == sent


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (otlp.from_protobuf, otlp.from_json):
        with contextlib.suppress(Invalid):
            read(body)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SPANS, min_size=1, max_size=2), st.data())
def test_damaged_messages_are_read_or_refused(spans: list[Span], data: st.DataObject) -> None:
    body = bytearray(message_of(spans).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Invalid):
        otlp.from_protobuf(bytes(body[: data.draw(st.integers(0, len(body)))]))


def test_values_within_values_have_a_limit() -> None:
    value: Any = 1
    for _ in range(otlp.MAX_DEPTH + 5):
        value = [value]
    deep = Span(trace_id="1" * 32, span_id="1" * 16, attributes={"a": value})
    with pytest.raises(Invalid, match="deep"):
        otlp.from_protobuf(message_of([deep]).SerializeToString())
    with pytest.raises(Invalid):
        otlp.from_json(b'{"resourceSpans": [{"resource": {"attributes": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}]}")


def test_nan_goes_through() -> None:
    sent = Span(trace_id="1" * 32, span_id="1" * 16, attributes={"nan": math.nan})
    (found,) = otlp.from_protobuf(message_of([sent]).SerializeToString())
    assert math.isnan(found.attributes["nan"])
    assert otlp.to_json(found)["attributes"] == [{"key": "nan", "value": {"double_value": "NaN"}}]


def test_bodies_are_unpacked_up_to_a_limit() -> None:
    body = b"spans" * 1000
    raw = zlib.compressobj(wbits=-15)
    for encoding, packed in (
        ("", body),
        ("gzip", gzip.compress(body)),
        ("gzip", gzip.compress(body[:7]) + gzip.compress(body[7:])),
        ("deflate", zlib.compress(body)),
        ("deflate", raw.compress(body) + raw.flush()),
    ):
        assert otlp.inflated(packed, encoding, len(body)) == body
        if encoding:
            with pytest.raises(TooLarge):
                otlp.inflated(packed, encoding, len(body) - 1)
            with pytest.raises(Invalid):
                otlp.inflated(packed[:-5], encoding, len(body))
    with pytest.raises(Invalid, match="br"):
        otlp.inflated(body, "br", 1 << 20)
