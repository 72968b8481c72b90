"""Open Inference v2: translate, call the gateway, translate back."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec

from drivetrain.dialects.kserve.tensors import Infer, answer, inflated, read
from drivetrain.errors import DrivetrainError, Invalid, NotFound, Unavailable
from drivetrain.identity.model import Scope
from drivetrain.serving.gateway.canonical import INFER, METADATA
from drivetrain.serving.gateway.gateway import Gateway
from drivetrain.serving.routes import DeploymentRoute, VariantRoute
from drivetrain.wire.request import Request

_ON_THE_LOOP = 128 * 1024
"""Bodies up to this size (bytes) are converted at once; larger ones in a thread, so that they do not hold up others' streams."""
_MODEL = re.compile(r"/models/(?P<name>.+?)(?:/versions/(?P<version>[^/]+))?(?P<what>/infer|/ready|/config|/stats)?")
_REPOSITORY = re.compile(r"/repository/models/(?P<name>.+)/(?P<what>load|unload)")


class KServe:
    """The dialect as the door sees it."""

    name = "kserve"
    prefixes: tuple[str, ...] = ("/kserve", "/v2")
    hot = True

    def __init__(self, gateway: Gateway, *, server_version: str, max_body: int) -> None:
        self._gateway = gateway
        self._version = server_version
        self._max_body = max_body

    def token(self, request: Request) -> str | None:
        return None  # Authorization: Bearer, which the door reads

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, msgspec.json.encode({"error": error.message}), "application/json"

    async def handle(self, request: Request) -> None:
        method, path = request.method, request.path.removeprefix("/v2").rstrip("/")
        if method == "GET" and path == "":
            extensions = ["binary_tensor_data", "model_repository"]
            await request.respond_json({"name": "drivetrain", "version": self._version, "extensions": extensions})
            return
        if method == "GET" and path in ("/health/live", "/health/ready"):
            await request.respond_json({"live" if path.endswith("live") else "ready": True})
            return
        if method == "POST" and path == "/repository/index":
            await self._index(request)
            return
        if method == "POST" and (found := _REPOSITORY.fullmatch(path)):
            await self._load(request, found["name"], found["what"])
            return
        if found := _MODEL.fullmatch(path):
            name, version, what = found["name"], found["version"], found["what"]
            if method == "POST" and what == "/infer":
                await self._infer(request, name, version)
                return
            if method == "GET" and what in (None, "/ready", "/config"):
                await self._about(request, name, version, what)
                return
        raise NotFound(f"This server does not serve {method} {path or '/'} of the Open Inference Protocol.")

    async def _infer(self, request: Request, name: str, version: str | None) -> None:
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

    async def _about(self, request: Request, name: str, version: str | None, what: str | None) -> None:
        request.context.require(Scope.read)
        deployment = self._gateway.directory.named(request.context, name)
        if deployment is None:
            raise NotFound(f"There is no deployment {name!r} in the workspace {request.context.workspace!r}.")
        _check_version(deployment, version)
        if what == "/ready":
            if not any(variant.replicas for variant in deployment.variants):
                raise Invalid(f"The deployment {name!r} is not ready.")
            await request.respond_json({"name": name, "ready": True})
            return
        facts: dict[str, Any] = msgspec.json.decode(await self._gateway.directory.ask(deployment, METADATA))
        main = _main(deployment)
        inputs, outputs = facts.get("inputs") or [], facts.get("outputs") or []
        if what == "/config":
            config = {"name": name, "platform": main.engine, "backend": main.engine, "max_batch_size": 0}
            await request.respond_json(config | {"input": _config(inputs), "output": _config(outputs)})
            return
        versions = [str(variant.version or 1) for variant in deployment.variants if variant.weight > 0]
        platform = facts.get("platform") or main.engine
        await request.respond_json({"name": name, "versions": versions, "platform": platform, "inputs": inputs, "outputs": outputs})

    async def _index(self, request: Request) -> None:
        request.context.require(Scope.read)
        out = []
        for deployment in self._gateway.directory.deployments(request.context.workspace_id):
            for variant in deployment.variants:
                if "infer" in variant.tasks:
                    state = "READY" if variant.replicas else "UNAVAILABLE"
                    out.append({"name": deployment.name, "version": str(variant.version or 1), "state": state, "reason": variant.problem})
        await request.respond_json(out)

    async def _load(self, request: Request, name: str, what: str) -> None:
        request.context.require(Scope.invoke)
        if self._gateway.directory.named(request.context, name) is None:
            raise NotFound(
                f"There is no deployment {name!r} in the workspace {request.context.workspace!r}. Make it with: drivetrain deploy"
            )
        if what == "unload":
            raise Invalid(
                f"Deployments are not unloaded over this protocol. Scale {name!r} to nothing or delete it: drivetrain deploy --help"
            )
        with self._gateway.exchange(request, dialect=self.name, task="infer") as call:
            await call.route(name, unit=None, stream=False, body=b"")
            await call.ready()
            call.finish()
            await request.respond(200, b"", "application/json")


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


def _config(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kinds = {"BYTES": "STRING"}
    return [
        {"name": t["name"], "data_type": f"TYPE_{kinds.get(t['datatype'], t['datatype'])}", "dims": t.get("shape", [])} for t in tensors
    ]
