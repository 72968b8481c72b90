"""Where OpenTelemetry's exporters post spans: `/v1/traces`, below MLflow's mount and at the server's root."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from drivetrain.dialects.mlflow import otlp
from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.tracking.service import Tracking
from drivetrain.wire.request import Request, run_sync
from drivetrain.wire.routing import Endpoint

PATH = "/v1/traces"
_READ = {"application/x-protobuf": otlp.from_protobuf, "application/json": otlp.from_json}


class Otlp:
    """The same, as a dialect of its own at the root."""

    name = "otlp"
    prefixes: tuple[str, ...] = (PATH,)

    def __init__(self, tracking: Tracking, *, max_body: int) -> None:
        self._tracking = tracking
        self._max_body = max_body

    def token(self, request: Request) -> str | None:
        return None  # Authorization, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, msgspec.json.encode({"code": error.status, "message": error.message}), "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        yield Endpoint("POST", "/" if mount else PATH, self._ingest)

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound(f"Spans are posted to {PATH}.")

    async def _ingest(self, request: Request) -> None:
        await ingest(self._tracking, request, self._max_body)


async def ingest(tracking: Tracking, request: Request, max_body: int) -> None:
    """Answered when the spans are on disk."""
    experiment = request.header("x-mlflow-experiment-id")
    if not experiment:
        raise otlp.Unprocessable("The header x-mlflow-experiment-id is missing: it says which experiment the traces belong to.")
    kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if kind not in _READ:
        raise Invalid(f"The body's type is {kind[:80]!r}: send application/x-protobuf, or application/json.")
    body = await request.body(max_body)
    encoding = (request.header("content-encoding") or "").strip().lower()
    await run_sync(_keep, tracking, request.context, kind, encoding, body, max_body, experiment, request.header("x-mlflow-run-id"))
    # An empty ExportTraceServiceResponse: everything was taken.
    await request.respond(200, b"" if kind != "application/json" else b"{}", kind)


def _keep(
    tracking: Tracking, ctx: Context, kind: str, encoding: str, body: bytes, max_body: int, experiment: str, run_id: str | None
) -> None:
    spans = _READ[kind](otlp.inflated(body, encoding, max_body))
    if not spans:
        raise Invalid("There are no spans in the body.")
    tracking.traces.log_spans(ctx, experiment, spans, run_id=run_id)
