"""MLflow's REST protocol: read the request, call its handler, answer."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import Future

import msgspec

from drivetrain.dialects.mlflow import evaluation, files, ingest, logged, otlp, registry, traces, tracking
from drivetrain.dialects.mlflow.messages import read, read_query
from drivetrain.dialects.mlflow.routing import NoEndpoint, Router, WrongMethod, answered
from drivetrain.errors import (
    Conflict,
    DrivetrainError,
    Forbidden,
    Invalid,
    NotFound,
    Overloaded,
    StorageFull,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from drivetrain.platform import Platform
from drivetrain.wire.request import Request, run_sync

SPOKEN_VERSION = "3.17.2"
"""The release of MLflow whose protocol this is; clients ask for it."""

_API = re.compile(r"/(?:ajax-)?api/[23]\.0/mlflow/(.+)")
_ARTIFACTS = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/(.+)", re.DOTALL)
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
    (WrongMethod, 405, "BAD_REQUEST"),
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
    hot = False

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._max_body = platform.settings.max_body_bytes
        self._files = files.Files(platform)
        self._router = Router((*tracking.ROUTES, *logged.ROUTES, *registry.ROUTES, *evaluation.ROUTES, *traces.ROUTES))

    def token(self, request: Request) -> str | None:
        return None  # Authorization, Basic or Bearer, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        status, code = next(((status, code) for kind, status, code in _ERRORS if isinstance(error, kind)), (error.status, "INTERNAL_ERROR"))
        return status, msgspec.json.encode({"error_code": code, "message": error.message}), "application/json"

    async def handle(self, request: Request) -> None:
        path = request.path
        if found := _API.fullmatch(path):
            await self._call(request, found[1])
        elif found := _ARTIFACTS.fullmatch(path):
            await self._files.handle(request, found[1])
        elif path == ingest.PATH:
            await ingest.ingest(self._platform.tracking, request, self._max_body)
        elif path == "/version":
            await request.respond(200, SPOKEN_VERSION.encode(), "text/plain; charset=utf-8")
        elif path == "/health":
            await request.respond(200, b"OK", "text/plain; charset=utf-8")
        elif path in ("/get-artifact", "/model-versions/get-artifact"):
            await self._files.by_query(request, of_version=path != "/get-artifact")
        elif path == "/" and request.method in ("GET", "HEAD"):
            await request.respond(200, _ROOT, "text/plain; charset=utf-8")
        else:
            raise NoEndpoint(f"This server does not serve {request.method} {path[:200]!r} of MLflow's API.")

    async def _call(self, request: Request, path: str) -> None:
        if path in ("server-info", "server-features") and request.method == "GET":
            await request.respond_json(_SERVER_INFO)
            return
        route, parts = self._router.find(request.method, path)
        if request.method == "GET":
            message = read_query(request.query, route.message)
        else:
            raw = await request.body(self._max_body)
            kind = request.header("content-type") or ""
            if raw and kind.partition(";")[0].strip().lower() != "application/json":
                raise Invalid(f"The body's type is {kind[:80]!r}: send JSON, with the header Content-Type: application/json.")
            message = read(raw, route.message)
        answer = await run_sync(route.begin, self._platform, request.context, message, parts)
        if isinstance(answer, Future):  # a write on its way to the disk: no thread waits for it
            answer = answered(await asyncio.wrap_future(answer))
        await request.respond_json(answer)
