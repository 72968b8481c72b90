"""Requests and answers of Open Inference v2: what clients send to what replicas take, and back."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from drivetrain.dialects.kserve.binary import DATATYPES, flat, pack, unpack
from drivetrain.errors import Invalid, TooLarge, UpstreamFailed
from drivetrain.serving.gateway.canonical import parsed


class Input(Struct, omit_defaults=True):
    name: str
    shape: list[Annotated[int, Meta(ge=0)]]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] | None = None


class Output(Struct):
    name: str
    parameters: dict[str, Any] | None = None


class Infer(Struct):
    inputs: Annotated[list[Input], Meta(min_length=1)]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Output] | None = None


class Tensor(Struct, omit_defaults=True):
    """An output."""

    name: str
    datatype: str
    shape: list[int]
    data: Any = None
    parameters: dict[str, Any] | None = None


class Inferred(Struct):
    outputs: list[Tensor]
    parameters: dict[str, Any] | None = None


_infer = msgspec.json.Decoder(Infer)
_inferred = msgspec.json.Decoder(Inferred)


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo Content-Encoding, never to more than `limit` bytes."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise Invalid(f"Content-Encoding {encoding!r} is not supported: use gzip or deflate, or send the body as it is.")
    inflater = zlib.decompressobj(wbits=31 if encoding == "gzip" else 15)
    try:
        out = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Invalid(f"The body is not valid {encoding}: {error}") from None
    if len(out) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes when it is unpacked (setting max_body_bytes).")
    if not inflater.eof:
        raise Invalid(f"The body is not valid {encoding}: it ends too early.")
    return out


def read(body: bytes, header_length: str | None) -> tuple[Infer, bytes]:
    """The request, and its canonical body for the replica."""
    cut = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdigit() and len(header_length) < 20) or int(header_length) > len(body):
            raise Invalid("The header Inference-Header-Content-Length must be the length of the JSON at the start of the body.")
        cut = int(header_length)
    wanted: Infer = parsed(_infer, body[:cut] if cut < len(body) else body)
    rest = memoryview(body)[cut:]
    at = 0
    inputs: list[Input] = []
    for item in wanted.inputs:
        if item.datatype not in DATATYPES:
            raise Invalid(
                f"Input {item.name!r} has the datatype {item.datatype!r}; there are: {', '.join(sorted(DATATYPES))}.", param=item.name
            )
        size = (item.parameters or {}).get("binary_data_size")
        if size is not None:
            if not isinstance(size, int) or size < 0 or at + size > len(rest):
                raise Invalid(f"binary_data_size of input {item.name!r} does not fit the length of the body.", param=item.name)
            values = unpack(rest[at : at + size], item.datatype, math.prod(item.shape), item.name)
            at += size
            kept = {key: value for key, value in (item.parameters or {}).items() if key != "binary_data_size"}
            encoded = msgspec.Raw(msgspec.json.encode(values))
            item = Input(item.name, item.shape, _plain(item.datatype), encoded, kept or None)
        elif not bytes(item.data):
            raise Invalid(f"Input {item.name!r} has no data.", param=item.name)
        inputs.append(item)
    if at != len(rest):
        raise Invalid(f"The body has {len(rest) - at} bytes more than its inputs say.")
    for output in wanted.outputs or ():
        if (output.parameters or {}).get("classification"):
            raise Invalid("`classification` is not supported: ask for the output itself.", param=output.name)
    parameters = {key: value for key, value in (wanted.parameters or {}).items() if key not in ("binary_data_output", "user")}
    canonical: dict[str, Any] = {"inputs": inputs}
    if parameters:
        canonical["parameters"] = parameters
    return wanted, msgspec.json.encode(canonical)


def answer(body: bytes, wanted: Infer, name: str, version: str) -> tuple[bytes, int | None]:
    """The client's answer; and, when some outputs are binary, the length of the JSON at its start."""
    try:
        said = _inferred.decode(body)
    except msgspec.DecodeError as error:
        raise UpstreamFailed(f"The replica's answer is not in the canonical protocol: {error}") from error
    outputs = said.outputs
    everything = bool((wanted.parameters or {}).get("binary_data_output"))
    binary = {output.name: everything for output in outputs}
    if wanted.outputs:
        by_name = {output.name: output for output in outputs}
        missing = [output.name for output in wanted.outputs if output.name not in by_name]
        if missing:
            raise Invalid(f"The model has no output {missing[0]!r}; it has: {', '.join(by_name)}.", param="outputs")
        outputs = [by_name[output.name] for output in wanted.outputs]
        binary |= {o.name: bool((o.parameters or {}).get("binary_data", everything)) for o in wanted.outputs}
    blobs: list[bytes] = []
    shown: list[Tensor] = []
    for output in outputs:
        if binary[output.name] and output.datatype in DATATYPES:
            try:
                blob = pack(flat(output.data), output.datatype)
            except (TypeError, ValueError, OverflowError, struct.error) as error:
                raise UpstreamFailed(f"The replica's output {output.name!r} is not {output.datatype}: {error}") from error
            blobs.append(blob)
            output = Tensor(output.name, output.datatype, output.shape, None, {**(output.parameters or {}), "binary_data_size": len(blob)})
        shown.append(output)
    head: dict[str, Any] = {"model_name": name, "model_version": version}
    if wanted.id is not None:
        head["id"] = wanted.id
    if said.parameters:
        head["parameters"] = said.parameters
    head["outputs"] = shown
    text = msgspec.json.encode(head)
    return (text + b"".join(blobs), len(text)) if blobs else (text, None)


def _plain(datatype: str) -> str:
    """JSON has no half-precision numbers."""
    return "FP32" if datatype in ("FP16", "BF16") else datatype
