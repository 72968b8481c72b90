"""What wandb's clients do with artifacts: log, use, name, link, delete and find them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from drivetrain.dialects.wandb import artifact_objects as objects
from drivetrain.dialects.wandb.call import MOUNT, Call, Json, Resolvers, artifacts_of, connection, project, run_of
from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.lineage.model import Role
from drivetrain.registry.collections import bare_tags
from drivetrain.registry.model import Repo, Version
from drivetrain.tracking.model import Experiment, Run

MAX_FILES = 100_000


def roots(s: Call, ctx: Context) -> Resolvers:
    def artifact(args: Json) -> Json | None:
        try:
            return objects.artifact_object(s, ctx, artifacts_of(s).get(ctx, str(args.get("id") or "")))
        except NotFound:
            return None

    def collection(args: Json) -> Json | None:
        try:
            return objects.collection_object(s, ctx, artifacts_of(s).collections.get(ctx, str(args.get("id") or "")))
        except NotFound:
            return None

    def mapping(args: Json) -> Json | None:
        found = artifacts_of(s).by_client(ctx, str(args.get("clientID") or ""))
        return {"serverID": found.id} if found is not None else None

    return {"artifact": artifact, "artifactCollection": collection, "clientIDMapping": mapping}


def project_fields(s: Call, ctx: Context, experiment: Experiment) -> Resolvers:
    store = artifacts_of(s)

    def membership(args: Json) -> Json | None:
        name, _, ref = str(args.get("name") or "").partition(":")
        try:
            return objects.member_object(s, ctx, store.member(ctx, store.collections.find(ctx, experiment.id, name), ref or "latest"))
        except NotFound:
            return None

    def artifact(args: Json) -> Json | None:
        found = membership(args)
        made: Json | None = found["artifact"]({}) if found is not None else None
        return made

    def types(args: Json) -> Json:
        names = sorted({one.type for one in store.collections.of(ctx, experiment.id)})
        return connection([objects.type_object(s, ctx, experiment, name) for name in names], args=args)

    def of_type(args: Json) -> Json | None:
        name = str(args.get("name") or "")
        return objects.type_object(s, ctx, experiment, name) if store.collections.of(ctx, experiment.id, type=name) else None

    return {
        "artifact": artifact,
        "artifactCollectionMembership": membership,
        "artifactCollection": lambda args: objects.find_collection(s, ctx, experiment, args),
        "artifactCollections": lambda args: objects.collections(s, ctx, experiment, args),
        "artifactTypes": types,
        "artifactType": of_type,
    }


def run_fields(s: Call, ctx: Context, _: Experiment, run: Run) -> Resolvers:
    def of(role: Role) -> Callable[[Json], Json]:
        def found(args: Json) -> Json:
            members = artifacts_of(s).members(ctx, run=(run.id, role))
            return connection([objects.artifact_object(s, ctx, one.artifact) for one in members], args=args)

        return found

    return {"inputArtifacts": of("used"), "outputArtifacts": of("made")}


def mutations(s: Call, ctx: Context) -> Resolvers:
    verbs: dict[str, Callable[[Call, Context, Json], Json]] = {
        "createArtifact": _create,
        "createArtifactManifest": _manifest,
        "updateArtifactManifest": _update_manifest,
        "createArtifactFiles": _files,
        "completeMultipartUploadArtifact": _complete,
        "commitArtifact": _commit,
        "useArtifact": _use,
        "updateArtifact": _update,
        "deleteArtifact": _delete,
        "addAliases": _add_aliases,
        "deleteAliases": _delete_aliases,
        "linkArtifact": _link,
        "unlinkArtifact": _unlink,
        "updateArtifactSequence": _update_collection,
        "updateArtifactPortfolio": _update_collection,
        "moveArtifactSequence": _update_collection,
        "deleteArtifactSequence": _delete_collection,
        "deleteArtifactPortfolio": _delete_collection,
        "createArtifactCollectionTagAssignments": _tag_collection,
        "deleteArtifactCollectionTagAssignments": _untag_collection,
    }

    def bound(verb: Callable[[Call, Context, Json], Json]) -> Callable[[Json], Json]:
        return lambda args: verb(s, ctx, given if isinstance(given := args.get("input"), dict) else args)

    return {name: bound(verb) for name, verb in verbs.items()}


def _key(s: Call, ctx: Context, name: Any, *, make: bool = False) -> tuple[str, str]:
    found = project(s, ctx, str(name) if name else None, make=make)
    return found.id, found.name


def _tags(given: Any) -> list[str]:
    return [str(one.get("tagName")) if isinstance(one, dict) else str(one) for one in given or []][:100]


def _create(s: Call, ctx: Context, given: Json) -> Json:
    name = str(given.get("artifactCollectionName") or "")
    run_name = given.get("runName")
    run = run_of(s, ctx, given.get("projectName"), str(run_name)) if run_name else None
    step = given.get("historyStep")
    found = artifacts_of(s).begin(
        ctx,
        _key(s, ctx, given.get("projectName"), make=True),
        name,
        str(given.get("artifactTypeName") or ""),
        str(given.get("digest") or ""),
        run_id=run.id if run is not None else None,
        aliases=[str(one["alias"]) for one in given.get("aliases") or [] if one.get("artifactCollectionName") in (None, name)],
        tags=_tags(given.get("tags")),
        description=given.get("description"),
        metadata=given.get("metadata"),
        client_id=given.get("clientID"),
        step=int(step) if step is not None else None,
        same=given.get("enableDigestDeduplication") is not False,
    )
    return {"artifact": objects.artifact_object(s, ctx, found)}


def _manifest_object(s: Call, ctx: Context, manifest_id: str) -> Json:
    address = s.sign(ctx, "PUT", f"{MOUNT}/storage/artifact/{manifest_id}/manifest/wandb_manifest.json")
    return {"artifactManifest": {"id": manifest_id, "file": {"id": manifest_id, "uploadUrl": address, "uploadHeaders": []}}}


def _manifest(s: Call, ctx: Context, given: Json) -> Json:
    base = given.get("baseArtifactID")
    kind = str(given.get("type") or given.get("manifestType") or "FULL")
    made = s.platform.registry.uploads.add_manifest(ctx, str(given.get("artifactID")), kind, str(base) if base else None)
    return _manifest_object(s, ctx, made)


def _update_manifest(s: Call, ctx: Context, given: Json) -> Json:
    manifest_id = str(given.get("artifactManifestID"))
    s.platform.registry.uploads.check_manifest(ctx, manifest_id)
    return _manifest_object(s, ctx, manifest_id)


def _files(s: Call, ctx: Context, given: Json) -> Json:
    wanted = given.get("artifactFiles") or []
    if len(wanted) > MAX_FILES:
        raise Invalid(f"Ask for the addresses of {MAX_FILES} files at most at once.")
    uploads = s.platform.registry.uploads
    asked = [(str(one["artifactID"]), str(one.get("name")), objects.md5_hex(one.get("md5")), one.get("uploadPartsInput")) for one in wanted]
    known = uploads.known(ctx, [md5 for _, _, md5, _ in asked])
    for artifact_id in {one[0] for one in asked}:
        uploads.hold(ctx, artifact_id, [known[md5] for one, _, md5, _ in asked if one == artifact_id and md5 in known])
    nodes: list[Any] = []
    for artifact_id, name, md5, parts in asked:
        node: Json = {"name": name, "displayName": name, "storagePath": f"{artifact_id}/{md5}", "uploadHeaders": []}
        node |= {"uploadUrl": None, "uploadMultipartUrls": None, "artifact": {"id": artifact_id}}
        if md5 not in known and parts:
            upload = uploads.begin_parts(ctx, artifact_id, md5, len(parts))
            urls = [
                {"partNumber": n, "uploadUrl": s.sign(ctx, "PUT", f"{MOUNT}/storage/artifact/{upload}/part/{n}")}
                for n in (int(one["partNumber"]) for one in parts)
            ]
            node["uploadMultipartUrls"] = {"uploadID": upload, "uploadUrlParts": urls}
            node["uploadUrl"] = urls[0]["uploadUrl"]
        elif md5 not in known:
            node["uploadUrl"] = s.sign(ctx, "PUT", f"{MOUNT}/storage/artifact/{artifact_id}/file/{md5}")
        nodes.append(node)
    return {"files": connection(nodes, args={})}


def _complete(s: Call, ctx: Context, given: Json) -> Json:
    md5 = s.platform.registry.uploads.complete(ctx, str(given.get("uploadID")))
    return {"digest": base64.b64encode(bytes.fromhex(md5)).decode()}


def _commit(s: Call, ctx: Context, given: Json) -> Json:
    """The manifests that arrived become one: an incremental one lies over its base's."""
    store, uploads, artifact_id = artifacts_of(s), s.platform.registry.uploads, str(given.get("artifactID"))
    found = store.get(ctx, artifact_id)
    if isinstance(found, Version):
        return {"artifact": objects.artifact_object(s, ctx, found)}
    written = uploads.manifests(ctx, artifact_id)
    if not written:
        raise Conflict("The artifact's manifest has not arrived: send it, then commit.")
    contents: Json = {}
    whole: Json = {}
    for kind, base_id, sha256 in written:
        try:
            whole = json.loads(uploads.blobs.read_bytes(sha256))
            mine = dict(whole.get("contents") or {})
        except (ValueError, AttributeError):
            raise Invalid("The artifact's manifest is not a JSON object.") from None
        if kind == "INCREMENTAL" and base_id:
            contents |= objects.contents(s, store.get(ctx, base_id))
        contents = mine if kind == "FULL" else contents | mine
    for entry in contents.values():
        entry.pop("local_path", None)  # where the file lay at home is nobody's business
        entry.pop("skip_cache", None)
    md5s = {path: objects.md5_hex(entry.get("digest")) for path, entry in contents.items() if not entry.get("ref")}
    known = uploads.known(ctx, list(md5s.values()))
    if absent := next((path for path, md5 in md5s.items() if md5 not in known), None):
        raise Conflict(f"The content of {absent!r} has not arrived: send it, then commit.")
    text = json.dumps({**whole, "contents": contents}).encode()
    manifest = uploads.blobs.put([text], size=len(text)).sha256
    uploads.hold(ctx, artifact_id, [manifest, *known.values()])
    done = store.commit(
        ctx,
        artifact_id,
        {path: known[md5] for path, md5 in md5s.items()},
        size=sum(int(entry.get("size") or 0) for entry in contents.values()),
        entries=len(contents),
        manifest=manifest,
    )
    return {"artifact": objects.artifact_object(s, ctx, done)}


def _use(s: Call, ctx: Context, given: Json) -> Json:
    run = run_of(s, ctx, given.get("projectName"), str(given.get("runName") or ""))
    return {"artifact": objects.artifact_object(s, ctx, artifacts_of(s).used(ctx, str(given.get("artifactID")), run.id))}


def _update(s: Call, ctx: Context, given: Json) -> Json:
    store, artifact_id = artifacts_of(s), str(given.get("artifactID"))
    gone = set(_tags(given.get("tagsToDelete")))
    kept = [*bare_tags(store.get(ctx, artifact_id).tags), *_tags(given.get("tagsToAdd"))]
    found = store.update(
        ctx,
        artifact_id,
        description=given.get("description"),
        metadata=given.get("metadata"),
        tags=[one for one in dict.fromkeys(kept) if one not in gone],
    )
    aliases = given.get("aliases")
    if aliases is not None:
        held = store.collections.get(ctx, found.repo_id)
        wanted = [str(one["alias"]) for one in aliases]
        has = store.members(ctx, collection_id=held.id, artifact_id=artifact_id)[0].aliases
        store.unalias(ctx, artifact_id, held, [one for one in has if one not in wanted])
        store.alias(ctx, artifact_id, held, wanted)
    return {"artifact": objects.artifact_object(s, ctx, found)}


def _delete(s: Call, ctx: Context, given: Json) -> Json:
    artifact_id = str(given.get("artifactID"))
    artifacts_of(s).delete(ctx, artifact_id, aliases=bool(given.get("deleteAliases")))
    return {"artifact": {"__typename": "Artifact", "id": artifact_id}, "success": True}


def _places(s: Call, ctx: Context, given: Json) -> list[tuple[Repo, str]]:
    store = artifacts_of(s)
    return [
        (store.collections.find(ctx, _key(s, ctx, one.get("projectName"))[0], str(one["artifactCollectionName"])), str(one["alias"]))
        for one in given.get("aliases") or []
    ]


def _add_aliases(s: Call, ctx: Context, given: Json) -> Json:
    for held, alias in _places(s, ctx, given):
        artifacts_of(s).alias(ctx, str(given.get("artifactID")), held, [alias])
    return {"success": True}


def _delete_aliases(s: Call, ctx: Context, given: Json) -> Json:
    for held, alias in _places(s, ctx, given):
        artifacts_of(s).unalias(ctx, str(given.get("artifactID")), held, [alias])
    return {"success": True}


def _link(s: Call, ctx: Context, given: Json) -> Json:
    store, artifact_id = artifacts_of(s), given.get("artifactID")
    if not artifact_id:
        found = store.by_client(ctx, str(given.get("clientID") or ""))
        if found is None:
            raise NotFound("There is no such artifact: log it before you link it.")
        artifact_id = found.id
    name = str(given.get("artifactPortfolioName") or "")
    aliases = [str(one["alias"]) for one in given.get("aliases") or []]
    made = store.link(ctx, str(artifact_id), _key(s, ctx, given.get("projectName"), make=True), name, aliases)
    return {"versionIndex": made.number - 1, "artifactMembership": objects.member_object(s, ctx, made)}


def _unlink(s: Call, ctx: Context, given: Json) -> Json:
    artifacts_of(s).unlink(ctx, str(given.get("artifactID")), str(given.get("artifactPortfolioID")))
    return {"success": True}


def _collection_id(given: Json) -> str:
    return str(given.get("artifactSequenceID") or given.get("artifactPortfolioID"))


def _update_collection(s: Call, ctx: Context, given: Json) -> Json:
    values: Json = {key: str(given[key]) for key in ("name", "description") if given.get(key) is not None}
    if given.get("destinationArtifactTypeName"):
        values["type"] = str(given["destinationArtifactTypeName"])
    found = artifacts_of(s).collections.update(ctx, _collection_id(given), **values)
    return {"artifactCollection": objects.collection_object(s, ctx, found)}


def _delete_collection(s: Call, ctx: Context, given: Json) -> Json:
    gone = artifacts_of(s).collections.delete(ctx, _collection_id(given))
    return {"artifactCollection": {"__typename": "ArtifactPortfolio" if gone.portfolio else "ArtifactSequence", "state": "DELETED"}}


def _retag(s: Call, ctx: Context, given: Json, *, add: bool) -> Repo:
    store, tags = artifacts_of(s), _tags(given.get("tags"))
    held = store.collections.find(ctx, _key(s, ctx, given.get("projectName"))[0], str(given.get("artifactCollectionName")))
    kept = [*bare_tags(held.tags), *tags] if add else [one for one in bare_tags(held.tags) if one not in tags]
    return store.collections.update(ctx, held.id, tags=list(dict.fromkeys(kept)))


def _tag_collection(s: Call, ctx: Context, given: Json) -> Json:
    found = _retag(s, ctx, given, add=True)
    return {"tags": objects.tag_objects(found.id, bare_tags(found.tags))}


def _untag_collection(s: Call, ctx: Context, given: Json) -> Json:
    _retag(s, ctx, given, add=False)
    return {"success": True}
