"""Artifacts through the server: list, upload, download (with ranges), delete."""

from __future__ import annotations

from collections.abc import Iterable

from drivetrain.dialects.mlflow import answers, artifact_uris
from drivetrain.dialects.mlflow import messages as m
from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.store.blobs import Blob
from drivetrain.tracking.model import Artifact, Owner
from drivetrain.wire.request import Request, run_sync
from drivetrain.wire.routing import Endpoint

_WHO = ("authorization", "x-api-key", "x-mlflow-workspace", "x-drivetrain-workspace")
SMALL = 1 << 20


class NoMultipart(Invalid):
    """Clients look for the beginning of this message, and then send the file in one piece."""

    status = 501


class Files:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._blobs = platform.blobs
        self._max_upload = platform.settings.upload_max_bytes
        self._max_body = platform.settings.max_body_bytes

    def endpoints(self) -> Iterable[Endpoint]:
        for api in ("/api", "/ajax-api"):
            at = f"{api}/2.0/mlflow-artifacts"
            yield Endpoint("GET", f"{at}/artifacts", self._list)
            yield Endpoint("GET", f"{at}/artifacts/{{path:path}}", self._get)
            for path in ("/artifacts", "/artifacts/{path:path}"):
                yield Endpoint("PUT", at + path, self._put)
                yield Endpoint("DELETE", at + path, self._delete)
            yield Endpoint("GET", f"{at}/presigned/{{path:path}}", self._presigned)
            for what in ("POST", "PUT", "DELETE"):
                yield Endpoint(what, f"{at}/presigned/{{path:path}}", self._multipart)
            for what in ("GET", "POST", "PUT", "DELETE"):
                yield Endpoint(what, f"{at}/mpu/{{path:path}}", self._multipart)
        yield Endpoint("GET", "/get-artifact", self._of_run)
        yield Endpoint("GET", "/model-versions/get-artifact", self._of_version)

    async def _multipart(self, request: Request, path: str) -> None:
        raise NoMultipart("Multipart upload is not supported for the current artifact repository: files are sent in one piece.")

    async def _of_run(self, request: Request) -> None:
        """As MLflow's own pages ask for files."""
        asked = m.read_query(request.query, m.RunArtifact)
        await self._send(request, await run_sync(self._platform.tracking.artifacts.get, request.context, Owner.run, asked.run, asked.path))

    async def _of_version(self, request: Request) -> None:
        wanted = m.read_query(request.query, m.VersionArtifact)
        await self._send(request, await run_sync(self._versions_file, request.context, wanted.name, wanted.version, wanted.path))

    async def _get(self, request: Request, path: str) -> None:
        at = artifact_uris.place(request.context, path)
        await self._send(request, await run_sync(artifact_uris.file, self._platform, request.context, at))

    async def _list(self, request: Request) -> None:
        at = artifact_uris.place(request.context, (request.query.get("path") or [""])[-1])
        found = await run_sync(artifact_uris.look, self._platform, request.context, at)
        await request.respond_json({"files": answers.files(found, below=at.path)})

    async def _send(self, request: Request, file: Artifact) -> None:
        await request.respond_blob(self._blobs, file.sha256, name=file.path.rpartition("/")[2])

    async def _presigned(self, request: Request, path: str) -> None:
        """For clients that were told to load files in parts: where from, and with which headers, since they send none of their own."""
        at = artifact_uris.place(request.context, path)
        file = await run_sync(artifact_uris.file, self._platform, request.context, at)
        who = {name: value for name in _WHO if (value := request.header(name))}
        url = request.url.replace("/mlflow-artifacts/presigned/", "/mlflow-artifacts/artifacts/", 1)
        await request.respond_json({"url": url, "headers": who, "file_size": file.size})

    async def _put(self, request: Request, path: str = "") -> None:
        at = _writable(artifact_uris.place(request.context, path))
        if at.path == "":
            raise Invalid("The path names a folder: add the file's name.", param="path")
        assert at.kind is not None
        tracking = self._platform.tracking
        announced = request.header("content-length")
        if announced is not None and announced.isdigit() and int(announced) <= min(SMALL, self._max_upload):
            await run_sync(self._put_small, request.context, at, await request.body(SMALL))
            await request.respond_json({})
            return
        # Before the body is read: nobody sends gigabytes for nothing.
        await run_sync(tracking.artifacts.check_owner, request.context, at.kind, at.owner, writable=True)
        blob: Blob = await request.save(self._blobs, self._max_upload)
        await run_sync(tracking.artifacts.put, request.context, at.kind, at.owner, at.path, blob)
        await request.respond_json({})

    def _put_small(self, ctx: Context, at: artifact_uris.Place, body: bytes) -> None:
        """In one go: most files are small, and each change of threads costs as much as writing one."""
        assert at.kind is not None
        self._platform.tracking.artifacts.write(ctx, at.kind, at.owner, at.path, body)

    async def _delete(self, request: Request, path: str = "") -> None:
        await run_sync(self._remove, request.context, _writable(artifact_uris.place(request.context, path)))
        await request.respond_json({})

    def _remove(self, ctx: Context, at: artifact_uris.Place) -> None:
        assert at.kind is not None
        if at.path == "" and at.kind is Owner.workspace:
            raise Invalid("The path names all files of the workspace: say which to delete.", param="path")
        # Nothing there is no error: clients repeat a request whose answer they missed.
        self._platform.tracking.artifacts.delete(ctx, at.kind, at.owner, at.path or None)

    def _versions_file(self, ctx: Context, name: str, version: str, path: str) -> Artifact:
        if not (version.isascii() and version.isdigit() and len(version) < 10):
            raise Invalid(f"{version!r} is no version: versions are numbers from 1.", param="version")
        found = self._platform.registry.get_version(ctx, name, int(version))
        return artifact_uris.file(self._platform, ctx, artifact_uris.Place(None, found.id, path))


def _writable(at: artifact_uris.Place) -> artifact_uris.Place:
    if at.kind is None:
        raise Invalid("The files of a registered version cannot be changed: register another version.", param="path")
    return at
