"""Artifacts, their collections, types and files as GraphQL objects."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from drivetrain.dialects.wandb.call import MOUNT, Call, Json, artifacts_of, connection, when
from drivetrain.dialects.wandb.runs import project_object, run_object
from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.registry.collections import bare_tags
from drivetrain.registry.members import Member
from drivetrain.registry.model import Draft, Repo, Version
from drivetrain.store import patterns
from drivetrain.tracking.model import Experiment


def ident(*parts: str) -> str:
    return base64.b64encode(":".join(parts).encode()).decode()


def tag_objects(collection_or_version: str, tags: list[str]) -> list[Json]:
    return [{"__typename": "Tag", "id": ident("Tag", collection_or_version, name), "name": name} for name in tags]


def project_info(s: Call, ctx: Context, project_id: str) -> Json | None:
    try:
        return project_object(s, ctx, s.platform.tracking.experiments.get(ctx, project_id))
    except DrivetrainError:
        return None


def type_object(s: Call, ctx: Context, experiment: Experiment, name: str) -> Json:
    return {
        "__typename": "ArtifactType",
        "id": ident("ArtifactType", experiment.id, name),
        "name": name,
        "description": None,
        "createdAt": when(experiment.created_ms),
        "artifactCollections": lambda args: collections(s, ctx, experiment, args, name),
        "artifactCollection": lambda args: find_collection(s, ctx, experiment, args, name),
    }


def collections(s: Call, ctx: Context, experiment: Experiment, args: Json, type_: str | None = None) -> Json:
    found = artifacts_of(s).collections.of(ctx, experiment.id, type=type_)
    wanted = filters(args)
    found = [one for one in found if fits(wanted, {"name": one.collection, "tags": bare_tags(one.tags), "type": one.type})]
    if str(args.get("order") or "").startswith("-"):
        found.reverse()
    return connection([collection_object(s, ctx, one) for one in found], args=args)


def find_collection(s: Call, ctx: Context, experiment: Experiment, args: Json, type_: str | None = None) -> Json | None:
    try:
        found = artifacts_of(s).collections.find(ctx, experiment.id, str(args.get("name") or ""))
    except NotFound:
        return None
    return collection_object(s, ctx, found) if type_ is None or found.type == type_ else None


def collection_object(s: Call, ctx: Context, held: Repo) -> Json:
    kept: list[list[Member]] = []

    def members() -> list[Member]:
        if not kept:
            kept.append(artifacts_of(s).members(ctx, collection_id=held.id))
        return kept[0]

    def membership(args: Json) -> Json | None:
        try:
            return member_object(s, ctx, artifacts_of(s).member(ctx, held, str(args.get("aliasName") or "latest")))
        except NotFound:
            return None

    def artifacts(args: Json) -> Json:
        wanted = filters(args)
        found = [m for m in members() if fits(wanted, _facts(m))]
        if str(args.get("order") or "").startswith("+"):
            found.reverse()
        out = connection([artifact_object(s, ctx, one.artifact, held) for one in found], args=args)
        start = int(text) if (text := str(args.get("after") or "")).isdigit() else 0
        for edge, one in zip(out["edges"], found[start:], strict=False):
            edge["version"] = f"v{one.number - 1}"
        return out

    def aliases(args: Json) -> Json:
        return connection([alias_object(held.id, alias) for one in members() for alias in one.aliases], args=args)

    return {
        "__typename": "ArtifactPortfolio" if held.portfolio else "ArtifactSequence",
        "__interfaces": ("ArtifactCollection",),
        "id": held.id,
        "name": held.collection,
        "state": "READY",
        "description": held.description or None,
        "createdAt": when(held.created_ms),
        "updatedAt": when(held.updated_ms),
        "project": lambda _: project_info(s, ctx, str(held.project_id)),
        "defaultArtifactType": {"name": held.type},
        "digestAlgorithm": "MANIFEST_MD5",
        "tags": connection(tag_objects(held.id, bare_tags(held.tags)), args={}),
        "aliases": aliases,
        "artifactMembership": membership,
        "artifacts": artifacts,
        "latestArtifact": lambda _: next((artifact_object(s, ctx, m.artifact, held) for m in members() if "latest" in m.aliases), None),
    }


def alias_object(collection_id: str, alias: str) -> Json:
    return {"__typename": "ArtifactAlias", "id": ident("ArtifactAlias", collection_id, alias), "alias": alias}


def member_object(s: Call, ctx: Context, member: Member) -> Json:
    return {
        "__typename": "ArtifactCollectionMembership",
        "id": ident("Membership", member.collection.id, member.artifact.id),
        "versionIndex": member.number - 1,
        "createdAt": when(member.created_ms),
        "aliases": [alias_object(member.collection.id, one) for one in member.aliases],
        "artifactCollection": lambda _: collection_object(s, ctx, member.collection),
        "artifact": lambda _: artifact_object(s, ctx, member.artifact),
        "files": lambda args: files(s, ctx, member.artifact, args),
    }


def artifact_object(s: Call, ctx: Context, one: Draft | Version, held: Repo | None = None) -> Json:
    sequence: list[Repo] = [held] if held is not None and held.id == one.repo_id else []
    whole = one if isinstance(one, Version) else None

    def source() -> Repo:
        if not sequence:
            sequence.append(artifacts_of(s).collections.get(ctx, one.repo_id))
        return sequence[0]

    def aliases(_: Json) -> list[Json]:
        places = artifacts_of(s).members(ctx, artifact_id=one.id)
        return [
            {**alias_object(m.collection.id, alias), "artifactCollection": collection_object(s, ctx, m.collection)}
            for m in places
            for alias in m.aliases
        ]

    def memberships(args: Json) -> Json:
        return connection([member_object(s, ctx, m) for m in artifacts_of(s).members(ctx, artifact_id=one.id)], args=args)

    def manifest(_: Json) -> Json | None:
        if whole is None:
            return None
        address = s.sign(ctx, "GET", f"{MOUNT}/storage/artifact/{one.id}/manifest/wandb_manifest.json")
        return {"id": one.id, "file": {"id": one.id, "directUrl": address, "url": address}}

    return {
        "__typename": "Artifact",
        "id": one.id,
        "artifactSequence": lambda _: collection_object(s, ctx, source()),
        "versionIndex": None if whole is None else whole.number - 1,
        "artifactType": lambda _: {"name": source().type},
        "description": one.description or None,
        "metadata": one.metadata,
        "ttlDurationSeconds": -2,
        "ttlIsInherited": True,
        "tags": tag_objects(one.id, bare_tags(one.tags)),
        "historyStep": one.step,
        "state": "PENDING" if whole is None else "COMMITTED",
        "size": 0 if whole is None else whole.bytes,
        "digest": one.digest,
        "digestAlgorithm": "MANIFEST_MD5",
        "commitHash": one.id[-16:],
        "fileCount": 0 if whole is None else whole.files,
        "createdAt": when(one.created_ms),
        "updatedAt": when(one.updated_ms),
        "aliases": aliases,
        "artifactMemberships": memberships,
        "currentManifest": manifest,
        "files": lambda args: files(s, ctx, one, args),
        "filesByManifestEntries": lambda args: files(s, ctx, one, {}),
        "createdBy": lambda _: run_of_id(s, ctx, one.run_id),
        "usedBy": lambda args: connection(
            [run for i in artifacts_of(s).users(ctx, one.id) if (run := run_of_id(s, ctx, i)) is not None], args=args
        ),
    }


def run_of_id(s: Call, ctx: Context, run_id: str | None) -> Json | None:
    try:
        found = s.platform.tracking.runs.get(ctx, run_id or "")
        return run_object(s, ctx, s.platform.tracking.experiments.get(ctx, found.experiment_id), found)
    except NotFound:
        return None


def contents(s: Call, one: Draft | Version) -> Json:
    """The manifest's entries."""
    if isinstance(one, Draft) or one.manifest is None:
        return {}
    found: Json = json.loads(s.platform.registry.blobs.read_bytes(one.manifest)).get("contents") or {}
    return found


def md5_hex(digest: Any) -> str:
    """Manifests have md5s in base64. Raises `Invalid`."""
    try:
        raw = base64.b64decode(str(digest), validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise Invalid(f"{str(digest)[:60]!r} is not the base64 of an md5.")
    return raw.hex()


def files(s: Call, ctx: Context, one: Draft | Version, args: Json) -> Json:
    names = args.get("names")
    entries = [(name, e) for name, e in sorted(contents(s, one).items()) if not e.get("ref") and (not names or name in names)]

    def node(name: str, entry: Json) -> Json:
        def address(_: Json) -> str:
            return s.sign(ctx, "GET", f"{MOUNT}/storage/artifact/{one.id}/file/{md5_hex(entry['digest'])}")

        return {
            "__typename": "File",
            "id": ident(one.id, name),
            "name": name,
            "displayName": name,
            "url": address,
            "directUrl": address,
            "sizeBytes": entry.get("size") or 0,
            "storagePath": f"{one.id}/{name}",
            "mimetype": None,
            "updatedAt": when(one.updated_ms),
            "md5": entry["digest"],
            "digest": entry["digest"],
        }

    return connection([node(name, entry) for name, entry in entries], args=args)


def filters(args: Json) -> Json:
    text = args.get("filters")
    try:
        found = json.loads(text) if isinstance(text, str) and text else text or {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Invalid("The filters are a JSON object.", param="filters")
    return found


def _facts(member: Member) -> Json:
    one = member.artifact
    facts = {"state": "COMMITTED", "tags": bare_tags(one.tags), "alias": list(member.aliases), "digest": one.digest}
    return {**facts, "versionIndex": member.number - 1}


def fits(wanted: Any, facts: Mapping[str, Any]) -> bool:
    """Mongo's filters, as far as the client sends them for artifacts. Raises `Invalid` for others."""
    for key, value in wanted.items():
        if key in ("$and", "$or"):
            if not (all if key == "$and" else any)(fits(one, facts) for one in value):
                return False
            continue
        if key not in facts:
            raise Invalid(f"Artifacts cannot be filtered by {str(key)[:60]!r}, only by {', '.join(facts)}.", param="filters")
        has = facts[key] if isinstance(facts[key], list) else [facts[key]]
        for op, operand in (value if isinstance(value, dict) else {"$eq": value}).items():
            if op in ("$eq", "$in"):
                met = any(one in has for one in (operand if op == "$in" else [operand]))
            elif op in ("$ne", "$nin"):
                met = not any(one in has for one in (operand if op == "$nin" else [operand]))
            elif op == "$regex":
                met = any(patterns.found(str(operand), str(one)) for one in has)
            elif op == "$contains":
                met = any(str(operand) in str(one) for one in has)
            else:
                raise Invalid(f"Artifacts cannot be filtered with {str(op)[:60]!r}.", param="filters")
            if not met:
                return False
    return True
