"""MLflow's REST protocol: read the request, call its handler, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial

import msgspec

from drivetrain.dialects.mlflow import evaluation, files, ingest, logged, otlp, registry, traces, tracking
from drivetrain.dialects.mlflow.messages import read, read_query
from drivetrain.dialects.mlflow.routing import NoEndpoint, Route, answered
from drivetrain.errors import (
    Conflict,
    DrivetrainError,
    Forbidden,
    Invalid,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from drivetrain.platform import Platform
from drivetrain.wire.request import Request, run_sync
from drivetrain.wire.routing import Endpoint

SPOKEN_VERSION = "3.17.2"
"""The release of MLflow whose protocol this is; clients ask for it."""

ROUTES = (*tracking.ROUTES, *logged.ROUTES, *registry.ROUTES, *evaluation.ROUTES, *traces.ROUTES)
_APIS = tuple(f"/{api}/{number}/mlflow" for api in ("api", "ajax-api") for number in ("2.0", "3.0"))
_UNSERVED = ("traces/metrics", "traces/calculate-trace-filter-correlation")
"""Of the protocol, but not served, where a trace's id would stand."""
_ROOT = b"This port speaks MLflow's protocol. The dashboard is at the server's own address.\n"
"""What its root says on a port of its own; below `/mlflow` the dashboard has a page there."""
_SERVER_INFO = {
    "store_type": "SqlStore",
    "workspaces_enabled": True,  # by the header X-MLFLOW-WORKSPACE, which MLFLOW_WORKSPACE makes the client send
    "trace_archival_enabled": False,
    "multipart_uploads_enabled": False,
    "multipart_downloads_enabled": False,
    "presigned_upload_run_id_supported": False,
    "presigned_upload_model_id_supported": False,
    "features_enabled": {"gateway": False},
}

# The first that fits; this protocol answers 400 to what exists already.
_ERRORS: tuple[tuple[type[DrivetrainError], int, str], ...] = (
    (NoEndpoint, 404, "ENDPOINT_NOT_FOUND"),
    (MethodNotAllowed, 405, "BAD_REQUEST"),
    (TooLarge, 413, "RESOURCE_LIMIT_EXCEEDED"),
    (files.NoMultipart, 501, "NOT_IMPLEMENTED"),
    (otlp.Unprocessable, 422, "INVALID_PARAMETER_VALUE"),
    (Invalid, 400, "INVALID_PARAMETER_VALUE"),
    (Unauthenticated, 401, "UNAUTHENTICATED"),
    (Forbidden, 403, "PERMISSION_DENIED"),
    (NotFound, 404, "RESOURCE_DOES_NOT_EXIST"),
    (Conflict, 400, "RESOURCE_ALREADY_EXISTS"),
    (Overloaded, 429, "REQUEST_LIMIT_EXCEEDED"),
    (Unavailable, 503, "TEMPORARILY_UNAVAILABLE"),
    (StorageFull, 507, "RESOURCE_EXHAUSTED"),
)


class MLflow:
    """The dialect as the door sees it."""

    name = "mlflow"
    prefixes: tuple[str, ...] = ("/mlflow",)

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._max_body = platform.settings.max_body_bytes
        self._files = files.Files(platform)

    def token(self, request: Request) -> str | None:
        return None  # Authorization, Basic or Bearer, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        status, code = next(((status, code) for kind, status, code in _ERRORS if isinstance(error, kind)), (error.status, "INTERNAL_ERROR"))
        return status, msgspec.json.encode({"error_code": code, "message": error.message}), "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        for api in _APIS:
            yield Endpoint("GET", f"{api}/server-info", self._server_info)
            yield Endpoint("GET", f"{api}/server-features", self._server_info)
            for route in ROUTES:
                yield Endpoint(route.method, f"{api}/{route.path}", partial(self._call, route))
            for path in _UNSERVED:
                yield Endpoint("POST", f"{api}/{path}", self._refuse)
        yield from self._files.endpoints()
        yield Endpoint("POST", ingest.PATH, self._ingest)
        yield Endpoint("GET", "/version", self._version)
        yield Endpoint("GET", "/health", self._health)
        if not mount:
            yield Endpoint("GET", "/", self._here)

    def unserved(self, request: Request) -> DrivetrainError:
        return NoEndpoint(f"This server does not serve {request.method} {request.path[:200]!r} of MLflow's API.")

    async def _refuse(self, request: Request) -> None:
        raise self.unserved(request)

    async def _ingest(self, request: Request) -> None:
        await ingest.ingest(self._platform.tracking, request, self._max_body)

    async def _version(self, request: Request) -> None:
        await request.respond(200, SPOKEN_VERSION.encode(), "text/plain; charset=utf-8")

    async def _health(self, request: Request) -> None:
        await request.respond(200, b"OK", "text/plain; charset=utf-8")

    async def _here(self, request: Request) -> None:
        await request.respond(200, _ROOT, "text/plain; charset=utf-8")

    async def _server_info(self, request: Request) -> None:
        await request.respond_json(_SERVER_INFO)

    async def _call(self, route: Route, request: Request, **parts: str) -> None:
        if route.method == "GET":
            message = read_query(request.query, route.message)
        else:
            raw = await request.body(self._max_body)
            kind = request.header("content-type") or ""
            if raw and kind.partition(";")[0].strip().lower() != "application/json":
                raise Invalid(f"The body's type is {kind[:80]!r}: send JSON, with the header Content-Type: application/json.")
            message = read(raw, route.message)
        answer = await run_sync(route.begin, self._platform, request.context, message, tuple(parts.values()))
        if isinstance(answer, Future):  # a write on its way to the disk: no thread waits for it
            answer = answered(await asyncio.wrap_future(answer))
        await request.respond_json(answer)
