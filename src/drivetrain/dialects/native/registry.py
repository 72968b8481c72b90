"""The registry: repos, their commits and files, versions, aliases; and blobs on their way in.

An import is three steps: `POST blobs/known` says what is missing, `PUT blobs/{sha256}` brings it, `POST repos/{name}/commits` commits and
registers. Bytes are another workspace's until this one has brought them too: knowing a digest opens nothing.
"""

from __future__ import annotations

import mimetypes
import re
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from drivetrain.answers import registry as answers
from drivetrain.config import Settings
from drivetrain.errors import Invalid, NotFound, TooLarge
from drivetrain.identity.model import Context
from drivetrain.identity.model import Scope as May
from drivetrain.registry.model import Ref, Repo, Resolved, Version
from drivetrain.registry.service import Registry
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import RAW_BODY, Asking
from drivetrain.wire.request import Request as WireRequest
from drivetrain.wire.request import run_sync

Kind = Literal["model", "dataset", "space", "artifact", "prompt"]
OfKind = Annotated[Kind, Query(description="Kind of the repo")]


class Wanted(BaseModel):
    blobs: dict[str, int] = Field(description="sha256 → size in bytes", max_length=100_000)


class NewRepo(BaseModel):
    name: str
    kind: Kind = "model"
    description: str = ""
    tags: dict[str, str] = {}


class RepoChange(BaseModel):
    name: str | None = None
    description: str | None = None


class NewVersion(BaseModel):
    commit: str | None = Field(None, description="Commit to register; default: the head of main")
    run_id: str | None = None
    model_id: str | None = None
    source: str = ""
    description: str = ""
    tags: dict[str, str] = {}


class NewCommit(BaseModel):
    files: dict[str, str] = Field(description="path → sha256", max_length=100_000)
    delete: list[str] = []
    message: str = Field("", max_length=20_000)
    parent: str | None = None
    branch: str = "main"
    replace: bool = True
    create: bool = Field(False, description="Make the repo if it is not there")
    register_: NewVersion | None = Field(None, alias="register", description="Register the commit as a version")


class VersionChange(BaseModel):
    description: str | None = None
    stage: str | None = None


class Target(BaseModel):
    version: int


class RefTarget(BaseModel):
    target: str = "main"


class Text(BaseModel):
    value: str


def router(registry: Registry, settings: Settings) -> APIRouter:
    api = native_router("registry")
    _blobs(api, registry, settings)
    _repos(api, registry)
    _commits(api, registry)
    _versions(api, registry)
    return api


def _blobs(api: APIRouter, registry: Registry, settings: Settings) -> None:
    blobs = registry.blobs

    @api.post("/blobs/known")
    def known(ctx: Asking, wanted: Wanted) -> answers.Known:
        """Which of these need not be uploaded. Refuses beforehand what would not fit."""
        ctx.require(May.write)
        for digest, size in wanted.blobs.items():
            _check_digest(digest)
            if size > settings.upload_max_bytes:
                raise TooLarge(
                    f"A file of {size} bytes is larger than {settings.upload_max_bytes}, the most accepted here (upload_max_bytes)."
                )
        have = registry.uploads.own(ctx, [*wanted.blobs])
        # Opening an upload of that size checks the room on the disk, so that nobody sends gigabytes for nothing.
        blobs.begin(size=sum(size for digest, size in wanted.blobs.items() if digest not in have)).abort()
        return answers.Known(sorted(have))

    @api.put("/blobs/{sha256}", status_code=201, openapi_extra=RAW_BODY)
    async def upload(ctx: Asking, sha256: str, request: Request) -> answers.Stored:
        """The raw bytes as the body. Refused, with nothing changed, unless their sha256 is what the path says."""
        ctx.require(May.write)
        _check_digest(sha256)
        wire: WireRequest = request.scope["state"]["request"]
        blob = await wire.save(blobs, settings.upload_max_bytes, sha256=sha256)
        await run_sync(registry.uploads.brought, ctx, blob.sha256)
        return answers.Stored(blob.sha256, blob.size)


def _repos(api: APIRouter, registry: Registry) -> None:
    @api.get("/repos")
    def repos(ctx: Asking, kind: OfKind = "model", limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> answers.RepoList:
        return answers.RepoList(registry.repos(ctx, kind=kind, limit=limit))

    @api.post("/repos", status_code=201)
    def create(ctx: Asking, new: NewRepo) -> Repo:
        return registry.create_repo(ctx, new.name, kind=new.kind, description=new.description, tags=new.tags)

    @api.get("/repos/{name}")
    def get(ctx: Asking, name: str, kind: OfKind = "model") -> answers.RepoWithVersions:
        """The repo with its versions (the newest first) and refs."""
        repo = registry.get_repo(ctx, name, kind=kind)
        versioned = kind in ("model", "artifact")
        versions: list[Version] = registry.versions(ctx, repo.id, limit=1000, kind=kind) if versioned else []
        refs: list[Ref] = registry.refs(ctx, repo.id, kind=kind)
        return answers.RepoWithVersions(repo, versions, refs)

    @api.patch("/repos/{name}")
    def change(ctx: Asking, name: str, new: RepoChange, kind: OfKind = "model") -> Repo:
        return registry.update_repo(ctx, name, kind=kind, new_name=new.name, description=new.description)

    @api.delete("/repos/{name}")
    def delete(ctx: Asking, name: str, kind: OfKind = "model") -> None:
        registry.delete_repo(ctx, name, kind=kind)

    @api.put("/repos/{name}/tags/{key}")
    def tag(ctx: Asking, name: str, key: str, text: Text, kind: OfKind = "model") -> None:
        registry.set_repo_tag(ctx, name, key, text.value, kind=kind)

    @api.delete("/repos/{name}/tags/{key}")
    def untag(ctx: Asking, name: str, key: str, kind: OfKind = "model") -> None:
        registry.delete_repo_tag(ctx, name, key, kind=kind)

    @api.put("/repos/{name}/refs/{ref_kind}/{ref:path}")
    def set_ref(ctx: Asking, name: str, ref_kind: str, ref: str, to: RefTarget, kind: OfKind = "model") -> Ref:
        """Let a `branch` or `tag` name the commit that `target` names."""
        return registry.set_ref(ctx, name, ref_kind, ref, to.target, kind=kind)

    @api.delete("/repos/{name}/refs/{ref_kind}/{ref:path}")
    def delete_ref(ctx: Asking, name: str, ref_kind: str, ref: str, kind: OfKind = "model") -> None:
        registry.delete_ref(ctx, name, ref_kind, ref, kind=kind)

    @api.get("/resolve")
    def resolve(ctx: Asking, name: str, kind: OfKind = "model") -> Resolved:
        """What a name means, in any of the forms of any protocol."""
        return registry.resolve(ctx, name, kind=kind)


def _commits(api: APIRouter, registry: Registry) -> None:
    @api.get("/repos/{name}/commits")
    def commits(ctx: Asking, name: str, ref: str = "main", kind: OfKind = "model", limit: int = 100) -> answers.CommitList:
        return answers.CommitList(registry.commits(ctx, name, ref=ref, kind=kind, limit=max(1, min(limit, 1000))))

    @api.post("/repos/{name}/commits", status_code=201)
    def commit(ctx: Asking, name: str, new: NewCommit, kind: OfKind = "model") -> answers.Committed:
        """Commit files that were uploaded; with `register`, as a version. What changes nothing makes no new one: `created` says so."""
        ctx.require(May.write)
        if new.register_ is not None and kind != "model":
            raise Invalid("Only models have versions: leave out `register`.", param="register")
        if missing := {digest.lower() for digest in new.files.values()} - _owned(ctx, registry, new.files):
            path = next(path for path, digest in new.files.items() if digest.lower() in missing)
            raise Invalid(f"The content of {path!r} was not uploaded to this workspace. Upload it, then commit.", param="files")
        registry.check_files(new.files)  # before a repo is made for nothing
        repo = registry.ensure_repo(ctx, name, kind=kind) if new.create else registry.get_repo(ctx, name, kind=kind)
        made = registry.commit(
            ctx,
            repo.id,
            new.files,
            message=new.message,
            parent=new.parent,
            replace=new.replace,
            branch=new.branch,
            kind=kind,
            delete=new.delete,
        )
        version, created = None, False
        if new.register_ is not None:
            before = registry.versions(ctx, repo.id, limit=1)
            if before and before[0].commit_id == made.id:
                version = before[0]
            else:
                version, created = _register(registry, ctx, repo.id, made.id, new.register_), True
        return answers.Committed(registry.get_repo(ctx, repo.id, kind=kind), made, version, created)

    @api.get("/repos/{name}/files")
    def files(ctx: Asking, name: str, ref: str = "latest", kind: OfKind = "model") -> answers.Manifest:
        found = _at(registry, ctx, name, ref, kind)
        return answers.Manifest(found.commit_id, registry.files(found.commit_id))

    @api.get("/repos/{name}/files/{path:path}")
    async def download(ctx: Asking, request: Request, name: str, path: str, ref: str = "latest", kind: OfKind = "model") -> Response:
        """The bytes of one file; ranges are served."""
        found = await run_sync(_at, registry, ctx, name, ref, kind)
        entry = (await run_sync(registry.files, found.commit_id)).get(path)
        if entry is None:
            raise NotFound(f"{found.repo.slug} has no file {path!r} at {found.ref}.", param="path")
        return BlobResponse(request.scope["state"]["request"], registry, entry.sha256, path)


def _versions(api: APIRouter, registry: Registry) -> None:
    @api.get("/repos/{name}/versions")
    def versions(ctx: Asking, name: str, limit: int = 1000) -> answers.VersionList:
        return answers.VersionList(registry.versions(ctx, name, limit=max(1, min(limit, 10_000))))

    @api.post("/repos/{name}/versions", status_code=201)
    def register(ctx: Asking, name: str, new: NewVersion) -> Version:
        commit_id = registry.commits(ctx, name, ref=new.commit or "main", limit=1)[0].id
        return _register(registry, ctx, name, commit_id, new)

    @api.get("/repos/{name}/versions/{number}")
    def version(ctx: Asking, name: str, number: int) -> Version:
        return registry.get_version(ctx, name, number)

    @api.patch("/repos/{name}/versions/{number}")
    def change(ctx: Asking, name: str, number: int, new: VersionChange) -> Version:
        return registry.update_version(ctx, name, number, description=new.description, stage=new.stage)

    @api.delete("/repos/{name}/versions/{number}")
    def delete(ctx: Asking, name: str, number: int, kind: OfKind = "model") -> None:
        registry.delete_version(ctx, name, number, kind=kind)

    @api.put("/repos/{name}/versions/{number}/tags/{key}")
    def tag(ctx: Asking, name: str, number: int, key: str, text: Text) -> None:
        registry.set_version_tag(ctx, name, number, key, text.value)

    @api.delete("/repos/{name}/versions/{number}/tags/{key}")
    def untag(ctx: Asking, name: str, number: int, key: str) -> None:
        registry.delete_version_tag(ctx, name, number, key)

    @api.put("/repos/{name}/aliases/{alias}")
    def set_alias(ctx: Asking, name: str, alias: str, to: Target) -> None:
        registry.set_alias(ctx, name, alias, to.version)

    @api.delete("/repos/{name}/aliases/{alias}")
    def delete_alias(ctx: Asking, name: str, alias: str) -> None:
        registry.delete_alias(ctx, name, alias)


class BlobResponse(Response):
    """Sends a blob through the request that the door made, which knows about ranges."""

    def __init__(self, request: WireRequest, registry: Registry, sha256: str, path: str) -> None:
        super().__init__()
        self._request, self._registry, self._sha256, self._path = request, registry, sha256, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._path.rpartition("/")[2]
        # As a download, never as a page of ours: models come from anywhere.
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        await self._request.respond_blob(self._registry.blobs, self._sha256, name=name, content_type=kind)


def _at(registry: Registry, ctx: Context, name: str, ref: str, kind: str) -> Resolved:
    return registry.resolve(ctx, f"{registry.get_repo(ctx, name, kind=kind).slug}@{ref}", kind=kind)


def _owned(ctx: Context, registry: Registry, files: dict[str, str]) -> set[str]:
    for digest in files.values():
        _check_digest(digest.lower())
    return registry.uploads.own(ctx, sorted({digest.lower() for digest in files.values()}))


def _register(registry: Registry, ctx: Context, name: str, commit_id: str, new: NewVersion) -> Version:
    return registry.register(
        ctx,
        name,
        commit_id,
        run_id=new.run_id,
        model_id=new.model_id,
        source=new.source,
        description=new.description,
        tags=new.tags,
    )


def _check_digest(sha256: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise Invalid(f"{sha256[:80]!r} is not a sha256 in lower-case hex digits.", param="sha256")
