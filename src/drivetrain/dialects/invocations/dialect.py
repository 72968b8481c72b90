"""MLflow's scoring protocol: translate, call the gateway, translate back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from drivetrain.dialects.invocations.convert import canonical, canonical_csv, predictions
from drivetrain.errors import DrivetrainError, Invalid, NotFound, Unavailable, UpstreamFailed
from drivetrain.identity.model import Scope
from drivetrain.serving.gateway.canonical import INFER, parsed
from drivetrain.serving.gateway.gateway import Gateway
from drivetrain.serving.routes import DeploymentRoute
from drivetrain.wire.request import Request
from drivetrain.wire.routing import Endpoint

_ON_THE_LOOP = 128 * 1024
"""Bodies up to this size (bytes) are converted at once; larger ones in a thread, so that they do not hold up others' streams."""


class Invocations:
    """The dialect as the door sees it."""

    name = "invocations"
    prefixes: tuple[str, ...] = ("/invoke",)

    def __init__(self, gateway: Gateway, *, server_version: str, max_body: int) -> None:
        self._gateway = gateway
        self._version = server_version
        self._max_body = max_body

    def token(self, request: Request) -> str | None:
        return None  # Authorization: Bearer, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return (
            error.status,
            msgspec.json.encode({"error_code": _CODES.get(error.status, "INTERNAL_ERROR"), "message": error.message}),
            "application/json",
        )

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        return (
            Endpoint("POST", "/{name:path}/invocations", self._invoke),
            Endpoint("GET", "/{name:path}/ping", self._ready),
            Endpoint("GET", "/{name:path}/health", self._ready),
            Endpoint("GET", "/{name:path}/version", self._about),
        )

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound(f"This server does not serve {request.method} {request.path} here. Send POST /invoke/DEPLOYMENT/invocations.")

    async def _invoke(self, request: Request, name: str) -> None:
        with self._gateway.exchange(request, dialect=self.name, task="infer") as call:
            raw = await request.body(self._max_body)
            kind = (request.header("content-type") or "application/json").partition(";")[0].strip().lower()
            if kind not in ("application/json", "text/csv", "application/octet-stream", "application/x-www-form-urlencoded"):
                raise Invalid(f"Content-Type {kind!r} is not supported: use application/json or text/csv.")
            convert = _from_csv if kind == "text/csv" else _from_json
            body = convert(raw) if len(raw) <= _ON_THE_LOOP else await asyncio.to_thread(convert, raw)
            await call.route(name, unit=None, stream=False, body=body)
            answer = await call.fetch(INFER, body)
            out = _back(answer.body) if len(answer.body) <= _ON_THE_LOOP else await asyncio.to_thread(_back, answer.body)
            call.finish(output=answer.body)
            await request.respond(200, out, "application/json")

    async def _about(self, request: Request, name: str) -> None:
        self._deployment(request, name)
        await request.respond(200, self._version.encode(), "text/plain; charset=utf-8")

    async def _ready(self, request: Request, name: str) -> None:
        if not any(variant.replicas for variant in self._deployment(request, name).variants):
            raise Unavailable(f"The deployment {name!r} has no ready replica.")
        await request.respond(200, b"\n", "application/json")

    def _deployment(self, request: Request, name: str) -> DeploymentRoute:
        request.context.require(Scope.read)
        deployment = self._gateway.directory.named(request.context, name)
        if deployment is None:
            raise NotFound(f"There is no deployment {name!r} in the workspace {request.context.workspace!r}.")
        return deployment


_any = msgspec.json.Decoder(Any)


def _from_json(raw: bytes) -> bytes:
    return msgspec.json.encode(canonical(parsed(_any, raw)))


def _from_csv(raw: bytes) -> bytes:
    try:
        return msgspec.json.encode(canonical_csv(raw.decode("utf-8-sig")))
    except UnicodeDecodeError:
        raise Invalid("The CSV is not valid UTF-8.") from None


def _back(body: bytes) -> bytes:
    try:
        return msgspec.json.encode({"predictions": predictions(msgspec.json.decode(body))})
    except msgspec.DecodeError as error:
        raise UpstreamFailed(f"The replica's answer is not in the canonical protocol: {error}") from error


_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "BAD_REQUEST",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}
