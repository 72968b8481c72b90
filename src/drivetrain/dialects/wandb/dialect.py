"""wandb's protocol: GraphQL, the stream of runs, files.

| path below the mount | what |
|---|---|
| `POST /graphql` | runs, projects, files, artifacts, sweeps, the public API |
| `POST /files/{entity}/{project}/{run}/file_stream` | what a running client sends |
| `PUT`, `GET /storage/run/{run id}/{path in base64}` | a run's files, by addresses that are signed |
| `/storage/…`, `/artifactsV2/…` | artifacts' files: see artifact_files.py |
| `GET /{entity}/{project}[/runs/{run}]` | to the dashboard |

Registry, reports, automations, launch and rewinding runs are not served.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import msgspec

from drivetrain.dialects.wandb import artifact_files, filestream, graphql, roots
from drivetrain.dialects.wandb.call import Call, Json, run_of
from drivetrain.errors import Conflict, DrivetrainError, Forbidden, Invalid, NotFound, Unauthenticated
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tracking.model import Owner
from drivetrain.wire.door import credential
from drivetrain.wire.request import Request, run_sync

log = logging.getLogger(__name__)

_NO_RETRY = (Invalid, NotFound, Conflict, Forbidden)
"""Mistakes: the client tries everything of 500 and above again, for minutes."""


class GraphQLRequest(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  the protocol's own name


class Wandb:
    """The dialect as the door sees it. `enter` finds out what the caller may do in another workspace."""

    name = "wandb"
    prefixes: tuple[str, ...] = ("/wandb",)
    hot = False

    def __init__(self, platform: Platform, enter: Callable[[str, str | None, str], Awaitable[Context]]) -> None:
        self._platform = platform
        self._enter = enter
        self._max_body = platform.settings.max_body_bytes
        self._max_upload = platform.settings.upload_max_bytes

    def token(self, request: Request) -> str | None:
        return None  # Basic, with "api" as the user: the door reads it

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, msgspec.json.encode({"errors": [{"message": error.message}], "error": error.message}), "application/json"

    async def handle(self, request: Request) -> None:
        parts = [unquote(part) for part in request.path.strip("/").split("/")]
        method = request.method
        call = Call(self._platform, request.base_url)
        if parts == ["graphql"] and method == "POST":
            await self._graphql(request, call)
        elif parts[0] == "files" and parts[-1] == "file_stream" and len(parts) == 5 and method == "POST":
            await self._in(request, parts[1])
            body = filestream.inflate(await request.body(self._max_body), request.header("content-encoding") or "", self._max_body)
            await request.respond_json(await run_sync(filestream.stream, call, request.context, parts[2], parts[3], body))
        elif parts[:2] == ["storage", "run"] and len(parts) == 4:
            await self._run_file(request, call, parts[2], parts[3])
        elif await artifact_files.handle(request, call, parts, self._in, self._max_upload):
            pass
        elif method in ("GET", "HEAD") and parts[0] not in ("files", "storage", "artifactsV2", "artifacts", "oidc"):
            await self._link(request, call, parts)
        else:
            raise NotFound(f"This server does not serve {method} {request.path[:200]!r} of wandb's API.")

    async def _in(self, request: Request, entity: str | None) -> None:
        """Let the request speak of the workspace that it names."""
        if entity and entity != request.context.workspace:
            header = request.header("authorization")
            request.context = await self._enter(request.id, credential(header) if header else None, entity)

    async def _graphql(self, request: Request, call: Call) -> None:
        asked = await request.json(GraphQLRequest, self._max_body)
        variables = asked.variables or {}
        try:
            await self._in(request, _entity(variables))
            data = await run_sync(_execute, call, request.context, asked.query, variables, asked.operationName)
        except Unauthenticated:
            raise
        except _NO_RETRY as error:
            await request.respond_json({"data": None, "errors": [{"message": error.message}]})
            return
        except DrivetrainError:
            raise
        except Exception:
            # Not 500: the client would repeat its question for many minutes.
            log.exception("request %s: GraphQL %s failed", request.id, asked.operationName)
            message = f"The server failed at this request; its log says why, under {request.id}."
            await request.respond_json({"data": None, "errors": [{"message": message}]})
            return
        await request.respond_json({"data": data})

    async def _run_file(self, request: Request, call: Call, run_id: str, name: str) -> None:
        tracking = call.platform.tracking
        try:
            path = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        except (binascii.Error, ValueError):
            raise Invalid("This is no address that the server made.") from None
        if request.method == "PUT":
            await run_sync(tracking.artifacts.check_owner, request.context, Owner.run, run_id, writable=True)
            blob = await request.save(tracking.artifacts.blobs, self._max_upload, md5=True)
            await run_sync(tracking.artifacts.put, request.context, Owner.run, run_id, path, blob)
            await request.respond(200, b"", "text/plain", [("etag", f'"{blob.md5}"')])
        elif request.method in ("GET", "HEAD"):
            file = await run_sync(tracking.artifacts.get, request.context, Owner.run, run_id, path)
            await request.respond_blob(tracking.artifacts.blobs, file.sha256, name=path.rpartition("/")[2])
        else:
            raise NotFound(f"A run's files take PUT, GET and HEAD, not {request.method}.")

    async def _link(self, request: Request, call: Call, parts: list[str]) -> None:
        """The addresses that the client prints lead to the dashboard."""
        target = "/runs"
        if len(parts) >= 4 and parts[2] == "runs":
            await self._in(request, parts[0])
            found = await run_sync(run_of, call, request.context, parts[1], parts[3])
            target = f"/runs/{found.id}"
        elif len(parts) >= 4 and parts[2] == "sweeps":
            target = f"/sweeps/{parts[3]}"
        elif len(parts) >= 2:
            experiment = await run_sync(call.platform.tracking.experiments.find, request.context, parts[1])
            target = f"/runs?experiment={experiment.id}"
        await request.respond(302, b"", "text/plain", [("location", target)])


class Telemetry:
    """What the client would tell its makers: 404, whoever asks, switches it off. It asks without a key, and complains of a 401."""

    name = "wandb"
    prefixes: tuple[str, ...] = ("/wandb/sdk",)
    hot = False

    def token(self, request: Request) -> str | None:
        return None

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return 404, b"{}", "application/json"

    async def handle(self, request: Request) -> None:
        raise NotFound("This server wants no telemetry.")


@lru_cache(maxsize=256)
def _parsed(text: str) -> graphql.Document:
    return graphql.parse(text)


def _execute(call: Call, ctx: Context, query: str, variables: Json, name: str | None) -> Json:
    return graphql.execute(_parsed(query), roots.root(call, ctx), variables, name)


def _entity(variables: Json) -> str | None:
    for given in (variables, variables.get("input")):
        if isinstance(given, dict):
            for key in ("entity", "entityName"):
                if isinstance(given.get(key), str) and given[key]:
                    return str(given[key])
    return None
