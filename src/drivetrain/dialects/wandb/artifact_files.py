"""The bytes of artifacts.

| address | what |
|---|---|
| `PUT /storage/artifact/{id}/file/{md5}` | a file of a version on its way in |
| `PUT /storage/artifact/{upload}/part/{n}` | a part of a large one |
| `PUT /storage/artifact/{manifest}/manifest/{name}` | its manifest |
| `GET /storage/artifact/{id}/file/{md5}`, `…/{id}/manifest/{name}` | what was committed |
| `GET /artifactsV2/{region}/{entity}/{project}/{collection}/[{id}/]{birth id}/{md5}/{name}` | one file, with a key |
"""

from __future__ import annotations

from drivetrain.errors import NotFound
from drivetrain.registry.artifacts import Artifacts
from drivetrain.registry.model import Version
from drivetrain.registry.uploads import Uploads
from drivetrain.wire.request import Request, run_sync


async def put(request: Request, uploads: Uploads, what: str, key: str, name: str, limit: int) -> None:
    ctx = request.context
    # Asked before the bytes are taken.
    if what == "file":
        await run_sync(uploads.check, ctx, key)
        blob = await request.save(uploads.blobs, limit, md5=True)
        await run_sync(uploads.arrived, ctx, key, name, blob)
    elif what == "part" and name.isdigit():
        blob = await request.save(uploads.blobs, limit, md5=True)
        await run_sync(uploads.put_part, ctx, key, int(name), blob)
    elif what == "manifest":
        await run_sync(uploads.check_manifest, ctx, key)
        blob = await request.save(uploads.blobs, limit, md5=True)
        await run_sync(uploads.put_manifest, ctx, key, blob)
    else:
        raise NotFound("This is no address that the server made.")
    await request.respond(200, b"", "text/plain", [("etag", f'"{blob.md5}"')])


async def get(request: Request, artifacts: Artifacts, what: str, key: str, name: str) -> None:
    found = await run_sync(artifacts.get, request.context, key)
    if what == "manifest" and isinstance(found, Version) and found.manifest is not None:
        await request.respond_blob(artifacts.registry.blobs, found.manifest, content_type="application/json")
    elif what == "file":
        await by_md5(request, artifacts.registry.uploads, name, "")
    else:
        raise NotFound("This artifact has no manifest yet: it was not committed.")


async def by_md5(request: Request, uploads: Uploads, md5: str, name: str) -> None:
    found = await run_sync(uploads.known, request.context, [md5])
    if md5 not in found:
        raise NotFound(f"There is no file with the md5 {md5[:64]!r} in this workspace.")
    await request.respond_blob(uploads.blobs, found[md5], name=name)
