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
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import msgspec

from drivetrain.dialects.wandb import artifact_files, filestream, graphql, roots
from drivetrain.dialects.wandb.call import Call, Json, run_of
from drivetrain.errors import Conflict, DrivetrainError, Forbidden, Invalid, NotFound, Unauthenticated
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.registry.artifacts import Artifacts
from drivetrain.tracking.model import Owner
from drivetrain.wire.door import credential
from drivetrain.wire.request import Request, run_sync
from drivetrain.wire.routing import Endpoint

log = logging.getLogger(__name__)

_NO_RETRY = (Invalid, NotFound, Conflict, Forbidden)
"""Mistakes: the client tries everything of 500 and above again, for minutes."""


_NO_ENTITIES = ("files", "storage", "artifactsV2", "artifacts", "oidc")
"""Words of the protocol where a link of the client's has a workspace."""


class GraphQLRequest(msgspec.Struct):
    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  the protocol's own name


class Wandb:
    """The dialect as the door sees it. `enter` finds out what the caller may do in another workspace."""

    name = "wandb"
    prefixes: tuple[str, ...] = ("/wandb",)

    def __init__(self, platform: Platform, enter: Callable[[str, str | None, str], Awaitable[Context]]) -> None:
        self._platform = platform
        self._enter = enter
        self._max_body = platform.settings.max_body_bytes
        self._max_upload = platform.settings.upload_max_bytes

    def token(self, request: Request) -> str | None:
        return None  # Basic, with "api" as the user: the door reads it

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return error.status, msgspec.json.encode({"errors": [{"message": error.message}], "error": error.message}), "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        yield Endpoint("POST", "/graphql", self._graphql)
        yield Endpoint("POST", "/files/{entity}/{project}/{run}/file_stream", self._file_stream)
        yield Endpoint("PUT", "/storage/run/{run}/{name}", self._put_run_file)
        yield Endpoint("GET", "/storage/run/{run}/{name}", self._run_file)
        yield Endpoint("PUT", "/storage/artifact/{key}/{what}/{name}", self._put_artifact)
        yield Endpoint("GET", "/storage/artifact/{key}/{what}/{name}", self._artifact)
        # The manifest of an offline run names no artifact that its files were born in: that segment is empty then.
        for place in ("{collection}/{birth}", "{collection}/{id}/{birth}", "{collection}/", "{collection}/{id}/"):
            yield Endpoint("GET", f"/artifactsV2/{{region}}/{{entity}}/{{project}}/{place}/{{md5}}/{{name}}", self._one_file)
        yield Endpoint("GET", "/", self._all_runs)
        yield Endpoint("GET", "/{entity}", self._all_runs)
        yield Endpoint("GET", "/{entity}/{project}", self._project)
        yield Endpoint("GET", "/{entity}/{project}/{more:path}", self._project)
        yield Endpoint("GET", "/{entity}/{project}/runs/{run}", self._run)
        yield Endpoint("GET", "/{entity}/{project}/runs/{run}/{more:path}", self._run)
        yield Endpoint("GET", "/{entity}/{project}/sweeps/{sweep}", self._sweep)
        yield Endpoint("GET", "/{entity}/{project}/sweeps/{sweep}/{more:path}", self._sweep)
        for word in _NO_ENTITIES:
            yield Endpoint("GET", f"/{word}", self._refuse)
            yield Endpoint("GET", f"/{word}/{{more:path}}", self._refuse)

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound(f"This server does not serve {request.method} {request.path[:200]!r} of wandb's API.")

    async def _refuse(self, request: Request, more: str = "") -> None:
        raise self.unserved(request)

    async def _file_stream(self, request: Request, entity: str, project: str, run: str) -> None:
        await self._in(request, entity)
        body = filestream.inflate(await request.body(self._max_body), request.header("content-encoding") or "", self._max_body)
        await request.respond_json(await run_sync(filestream.stream, self._call(request), request.context, project, run, body))

    def _call(self, request: Request) -> Call:
        return Call(self._platform, request.base_url)

    async def _in(self, request: Request, entity: str | None) -> None:
        """Let the request speak of the workspace that it names."""
        if entity and entity != request.context.workspace:
            header = request.header("authorization")
            request.context = await self._enter(request.id, credential(header) if header else None, entity)

    async def _graphql(self, request: Request) -> None:
        call = self._call(request)
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

    async def _put_run_file(self, request: Request, run: str, name: str) -> None:
        artifacts, path = self._platform.tracking.artifacts, _decoded(name)
        await run_sync(artifacts.check_owner, request.context, Owner.run, run, writable=True)
        blob = await request.save(artifacts.blobs, self._max_upload, md5=True)
        await run_sync(artifacts.put, request.context, Owner.run, run, path, blob)
        await request.respond(200, b"", "text/plain", [("etag", f'"{blob.md5}"')])

    async def _run_file(self, request: Request, run: str, name: str) -> None:
        artifacts, path = self._platform.tracking.artifacts, _decoded(name)
        file = await run_sync(artifacts.get, request.context, Owner.run, run, path)
        await request.respond_blob(artifacts.blobs, file.sha256, name=path.rpartition("/")[2])

    async def _put_artifact(self, request: Request, key: str, what: str, name: str) -> None:
        await artifact_files.put(request, self._platform.registry.uploads, what, key, name, self._max_upload)

    async def _artifact(self, request: Request, key: str, what: str, name: str) -> None:
        await artifact_files.get(request, Artifacts(self._platform.registry), what, key, name)

    async def _one_file(self, request: Request, entity: str, md5: str, name: str, **_: str) -> None:
        await self._in(request, entity)
        await artifact_files.by_md5(request, self._platform.registry.uploads, md5, name)

    # The addresses that the client prints lead to the dashboard.

    async def _all_runs(self, request: Request, entity: str = "") -> None:
        await _lead_on(request, "/runs")

    async def _project(self, request: Request, entity: str, project: str, more: str = "") -> None:
        experiment = await run_sync(self._platform.tracking.experiments.find, request.context, project)
        await _lead_on(request, f"/runs?experiment={experiment.id}")

    async def _run(self, request: Request, entity: str, project: str, run: str, more: str = "") -> None:
        await self._in(request, entity)
        found = await run_sync(run_of, self._call(request), request.context, project, run)
        await _lead_on(request, f"/runs/{found.id}")

    async def _sweep(self, request: Request, entity: str, project: str, sweep: str, more: str = "") -> None:
        await _lead_on(request, f"/sweeps/{quote(sweep, safe='')}")


def _decoded(name: str) -> str:
    try:
        return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
    except (binascii.Error, ValueError):
        raise Invalid("This is no address that the server made.") from None


async def _lead_on(request: Request, target: str) -> None:
    await request.respond(302, b"", "text/plain", [("location", target)])


class Telemetry:
    """What the client would tell its makers: 404, whoever asks, switches it off. It asks without a key, and complains of a 401."""

    name = "wandb"
    prefixes: tuple[str, ...] = ("/wandb/sdk",)

    def token(self, request: Request) -> str | None:
        return None

    def error(self, error: DrivetrainError, request_id: str) -> tuple[int, bytes, str]:
        return 404, b"{}", "application/json"

    def endpoints(self, mount: str) -> Iterable[Endpoint]:
        for method in ("GET", "POST", "PUT"):
            for path in ("/", "/{path:path}"):
                yield Endpoint(method, path, self._refuse)

    def unserved(self, request: Request) -> DrivetrainError:
        return NotFound("This server wants no telemetry.")

    async def _refuse(self, request: Request, path: str = "") -> None:
        raise self.unserved(request)


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
