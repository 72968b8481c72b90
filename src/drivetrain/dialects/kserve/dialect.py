"""Open Inference v2: translate, call the gateway, translate back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from drivetrain.dialects.kserve.tensors import Infer, answer, inflated, read
from drivetrain.errors import DrivetrainError, Invalid, NotFound, Unavailable
from drivetrain.identity.model import Scope
from drivetrain.serving.gateway.canonical import INFER, METADATA
from drivetrain.serving.gateway.gateway import Gateway
from drivetrain.serving.routes import DeploymentRoute, VariantRoute
from drivetrain.wire.request import Request
from drivetrain.wire.routing import Endpoint

_ON_THE_LOOP = 128 * 1024
"""Bodies up to this size (bytes) are converted at once; larger ones in a thread, so that they do not hold up others' streams."""


class KServe:
    """The dialect as the door sees it."""

    name = "kserve"
    prefixes: tuple[str, ...] = ("/kserve", "/v2")

    def __init__(self, gateway: Gateway, *, server_version: str, max_body: int) -> None:
        self._gateway = gateway
        self._version = server_version
        self._max_body = max_body

    def token(self, request: Request) -> str | None:
        return None  # Authorization: Bearer, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, msgspec.json.encode({"error": error.message}), "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        """Clients put the version of the protocol before every path: below `/v2` it is there already."""
        at = "" if mount == "/v2" else "/v2"
        yield Endpoint("GET", at or "/", self._server)
        yield Endpoint("GET", f"{at}/health/live", self._live)
        yield Endpoint("GET", f"{at}/health/ready", self._ready)
        yield Endpoint("POST", f"{at}/repository/index", self._index)
        yield Endpoint("POST", f"{at}/repository/models/{{name:path}}/load", self._load)
        yield Endpoint("POST", f"{at}/repository/models/{{name:path}}/unload", self._unload)
        for of in (f"{at}/models/{{name:path}}", f"{at}/models/{{name:path}}/versions/{{version}}"):
            yield Endpoint("POST", f"{of}/infer", self._infer)
            yield Endpoint("GET", of, self._metadata)
            yield Endpoint("GET", f"{of}/ready", self._model_ready)
            yield Endpoint("GET", f"{of}/config", self._config)

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound(f"This server does not serve {request.method} {request.path} of the Open Inference Protocol.")

    async def _server(self, request: Request) -> None:
        extensions = ["binary_tensor_data", "model_repository"]
        await request.respond_json({"name": "drivetrain", "version": self._version, "extensions": extensions})

    async def _live(self, request: Request) -> None:
        await request.respond_json({"live": True})

    async def _ready(self, request: Request) -> None:
        await request.respond_json({"ready": True})

    async def _infer(self, request: Request, name: str, version: str | None = None) -> None:
        with self._gateway.exchange(request, dialect=self.name, task="infer") as call:
            raw = await request.body(self._max_body)
            encoding = (request.header("content-encoding") or "").strip().lower()
            head = request.header("inference-header-content-length")

            def reading() -> tuple[Infer, bytes]:
                return read(inflated(raw, encoding, self._max_body), head)

            small = len(raw) <= _ON_THE_LOOP and not encoding
            wanted, body = reading() if small else await asyncio.to_thread(reading)
            unit = (wanted.parameters or {}).get("user")
            deployment = await call.route(name, unit=unit if isinstance(unit, str) else None, stream=False, body=body)
            _check_version(deployment, version)
            said = await call.fetch(INFER, body)
            told = said.body, wanted, name, version or str(call.event.version or 1)
            out, cut = answer(*told) if len(said.body) <= _ON_THE_LOOP else await asyncio.to_thread(answer, *told)
            call.finish(output=said.body)
            if cut is None:
                await request.respond(200, out, "application/json")
                return
            await request.respond(200, out, "application/octet-stream", [("inference-header-content-length", str(cut))])

    async def _model_ready(self, request: Request, name: str, version: str | None = None) -> None:
        deployment = self._deployment(request, name, version)
        if not any(variant.replicas for variant in deployment.variants):
            raise Invalid(f"The deployment {name!r} is not ready.")
        await request.respond_json({"name": name, "ready": True})

    async def _config(self, request: Request, name: str, version: str | None = None) -> None:
        deployment = self._deployment(request, name, version)
        facts = await self._facts(deployment)
        engine = _main(deployment).engine
        config = {"name": name, "platform": engine, "backend": engine, "max_batch_size": 0}
        await request.respond_json(config | {kind: _tensors(facts.get(f"{kind}s") or []) for kind in ("input", "output")})

    async def _metadata(self, request: Request, name: str, version: str | None = None) -> None:
        deployment = self._deployment(request, name, version)
        facts = await self._facts(deployment)
        versions = [str(variant.version or 1) for variant in deployment.variants if variant.weight > 0]
        platform = facts.get("platform") or _main(deployment).engine
        tensors = {kind: facts.get(kind) or [] for kind in ("inputs", "outputs")}
        await request.respond_json({"name": name, "versions": versions, "platform": platform, **tensors})

    async def _facts(self, deployment: DeploymentRoute) -> dict[str, Any]:
        facts: dict[str, Any] = msgspec.json.decode(await self._gateway.directory.ask(deployment, METADATA))
        return facts

    def _deployment(self, request: Request, name: str, version: str | None) -> DeploymentRoute:
        request.context.require(Scope.read)
        deployment = self._gateway.directory.named(request.context, name)
        if deployment is None:
            raise NotFound(f"There is no deployment {name!r} in the workspace {request.context.workspace!r}.")
        _check_version(deployment, version)
        return deployment

    async def _index(self, request: Request) -> None:
        request.context.require(Scope.read)
        out = []
        for deployment in self._gateway.directory.deployments(request.context.workspace_id):
            for variant in deployment.variants:
                if "infer" in variant.tasks:
                    state = "READY" if variant.replicas else "UNAVAILABLE"
                    out.append({"name": deployment.name, "version": str(variant.version or 1), "state": state, "reason": variant.problem})
        await request.respond_json(out)

    async def _load(self, request: Request, name: str) -> None:
        self._known(request, name)
        with self._gateway.exchange(request, dialect=self.name, task="infer") as call:
            await call.route(name, unit=None, stream=False, body=b"")
            await call.ready()
            call.finish()
            await request.respond(200, b"", "application/json")

    async def _unload(self, request: Request, name: str) -> None:
        self._known(request, name)
        raise Invalid(f"Deployments are not unloaded over this protocol. Scale {name!r} to nothing or delete it: drivetrain deploy --help")

    def _known(self, request: Request, name: str) -> None:
        request.context.require(Scope.invoke)
        if self._gateway.directory.named(request.context, name) is None:
            raise NotFound(
                f"There is no deployment {name!r} in the workspace {request.context.workspace!r}. Make it with: drivetrain deploy"
            )


def _main(deployment: DeploymentRoute) -> VariantRoute:
    """The variant that most of the traffic goes to."""
    if not deployment.variants:
        raise Unavailable(f"The deployment {deployment.name!r} has no variant yet.")
    return max(deployment.variants, key=lambda variant: variant.weight)


def _check_version(deployment: DeploymentRoute, version: str | None) -> None:
    """A client may name the version that it expects; which one serves is the deployment's decision."""
    live = {str(variant.version or 1) for variant in deployment.variants if variant.weight > 0}
    if version is not None and version not in live:
        raise NotFound(f"The deployment {deployment.name!r} serves version {', '.join(sorted(live)) or 'none'}, not {version}.")


def _tensors(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = {"BYTES": "STRING"}
    return [
        {"name": t["name"], "data_type": f"TYPE_{kinds.get(t['datatype'], t['datatype'])}", "dims": t.get("shape", [])} for t in tensors
    ]
