"""Artifacts: versions of files in a project's collections, by content. A collection's versions and aliases are those of a repo: of kind
model for artifacts of that type, else of kind artifact. Aliases that a registry cannot have, and those of portfolios, are kept here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry import forgetting
from drivetrain.registry import tables as base
from drivetrain.registry import tables_artifacts as t
from drivetrain.registry.forgetting import LATEST
from drivetrain.registry.names import check_alias, slug_of
from drivetrain.registry.reading import chunked
from drivetrain.registry.service import Registry
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import upsert

SOURCE = "artifact:"
"""With the artifact's id, the source of its version in the registry."""
_c, _a, _m, _l, _r = t.collections.c, t.artifacts.c, t.members.c, t.member_aliases.c, base.aliases.c


@dataclass(frozen=True, slots=True)
class Collection:
    id: str
    workspace_id: str
    project_id: str
    name: str
    type: str
    linked: bool
    repo_id: str | None
    next_link: int
    description: str
    tags: list[str]
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class ArtifactVersion:
    """`number` counts from 1, as in the registry; None before it is committed. `manifest` is the sha256 of what the client wrote."""

    id: str
    workspace_id: str
    collection_id: str
    number: int | None
    state: str
    digest: str
    description: str | None
    metadata: str | None
    tags: list[str]
    aliases: list[str]
    client_id: str | None
    run_id: str | None
    history_step: int | None
    manifest: str | None
    size: int
    files: int
    created_ms: int
    updated_ms: int


@dataclass(frozen=True, slots=True)
class Member:
    """A version as a member of a collection, its own or one that it is linked to."""

    collection: Collection
    artifact: ArtifactVersion
    number: int
    aliases: tuple[str, ...]
    created_ms: int


def is_registry(project: str) -> bool:
    """Whether what is linked into this project becomes a registered model, as wandb's own registries have it."""
    return project == "model-registry" or project.startswith("wandb-registry")


def _check_name(name: str) -> None:
    if not name or len(name) > 128 or "/" in name or ":" in name:
        raise Invalid(f"{name[:80]!r} cannot be the name of an artifact: use up to 128 characters without '/' and ':'.", param="name")


def _is_registrys(alias: str) -> bool:
    """Whether the registry can have the alias; others (`latest`, `best.one`) are kept beside."""
    try:
        check_alias(alias)
    except Invalid:
        return False
    return True


class Artifacts:
    """The verbs. Each is one transaction, but for `commit`, which may be said again."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.db = registry.db
        self.blobs = registry.blobs

    # --- collections

    def collections(self, ctx: Context, project_id: str, *, type: str | None = None) -> list[Collection]:  # noqa: A002  the field's name
        ctx.require(Scope.read)
        query = sa.select(t.collections).where(_c.workspace_id == ctx.workspace_id, _c.project_id == project_id)
        if type is not None:
            query = query.where(_c.type == type)
        with self.db.read() as c:
            return [Collection(**row._mapping) for row in c.execute(query.order_by(_c.created_ms, _c.id))]

    def find_collection(self, ctx: Context, project_id: str, name: str) -> Collection:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return self._collection(c, ctx, _c.project_id == project_id, _c.name == name, called=name)

    def get_collection(self, ctx: Context, collection_id: str) -> Collection:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return self._collection(c, ctx, _c.id == collection_id, called=collection_id)

    def update_collection(self, ctx: Context, collection_id: str, **values: Any) -> Collection:
        """Change its name, description, type or tags."""
        ctx.require(Scope.write)
        _check_name(str(values.get("name", "-")))
        with self.db.write() as c:
            found = self._collection(c, ctx, _c.id == collection_id, called=collection_id)
            if "name" in values and values["name"] != found.name:
                taken = sa.select(_c.id).where(
                    _c.workspace_id == ctx.workspace_id, _c.project_id == found.project_id, _c.name == values["name"]
                )
                if c.scalar(taken) is not None:
                    raise Conflict(f"The project has an artifact {values['name']!r} already: choose another name.")
            c.execute(t.collections.update().where(_c.id == collection_id).values(**values, updated_ms=now_ms()))
            return self._collection(c, ctx, _c.id == collection_id, called=collection_id)

    def delete_collection(self, ctx: Context, collection_id: str) -> Collection:
        """Delete it with its versions; the files go with the repo. Of a registered model, what was linked goes, and versions that came
        another way stay. Raises `Conflict` while a deployment serves one."""
        ctx.require(Scope.write)
        found = self.get_collection(ctx, collection_id)
        whole = not found.linked
        if found.linked and found.repo_id is not None:
            versions = self.registry.versions(ctx, found.repo_id)
            for one in versions:
                if one.source.startswith(SOURCE):
                    self.registry.delete_version(ctx, found.repo_id, one.number)
            whole = all(one.source.startswith(SOURCE) for one in versions)
        if whole:
            self.registry.delete_repo(ctx, str(found.repo_id), kind=self._kind(str(found.repo_id)))  # the collection goes with it
        with self.db.write() as c:
            c.execute(t.collections.delete().where(_c.id == collection_id))
        return found

    def _collection(self, c: sa.Connection, ctx: Context, *where: sa.ColumnElement[bool], called: str) -> Collection:
        row = c.execute(sa.select(t.collections).where(_c.workspace_id == ctx.workspace_id, *where)).one_or_none()
        if row is None:
            raise NotFound(f"There is no artifact {called!r} in this project.")
        return Collection(**row._mapping)

    def _ensure(self, ctx: Context, project: tuple[str, str], name: str, type_: str, *, linked: bool) -> Collection:
        project_id, project_name = project
        _check_name(name)
        try:
            found = self.find_collection(ctx, project_id, name)
        except NotFound:
            now, repo_id = now_ms(), None
            if linked and is_registry(project_name):
                repo_id = self._model(ctx, project_name, name)
            elif not linked:
                kind = "model" if type_ == "model" else "artifact"
                repo_id = self._repo(ctx, f"{project_name}--{name}"[:200].translate({47: "-", 58: "-", 64: "-"}), kind).id
            row: dict[str, Any] = {
                "id": uuid7(), "workspace_id": ctx.workspace_id, "project_id": project_id, "name": name, "type": type_[:128],
                "linked": linked, "repo_id": repo_id, "next_link": 1, "description": "", "tags": [], "created_ms": now, "updated_ms": now,
            }  # fmt: skip
            with self.db.write() as c:
                upsert(c, t.collections, [row], key=["workspace_id", "project_id", "name"])
            found = self.find_collection(ctx, project_id, name)
        if found.type != type_:
            raise Invalid(f"The artifact {name!r} has type {found.type!r}: it cannot also have {type_!r}.", param="type")
        if found.linked != linked:
            kind = "holds links to versions" if found.linked else "has versions of its own"
            raise Invalid(f"The collection {name!r} {kind}: choose another name.", param="name")
        return found

    def _repo(self, ctx: Context, name: str, kind: str) -> Any:
        try:
            return self.registry.create_repo(ctx, name, kind=kind)
        except Conflict:  # "a--b" of a, and "b" of "a--"; or a model that somebody has registered by hand
            return self.registry.create_repo(ctx, f"{slug_of(name)[:80]}-{uuid7()[-10:]}", kind=kind)

    def _model(self, ctx: Context, project_name: str, name: str) -> str:
        """The registered model for a portfolio: of its name, unless another collection's versions are already there."""
        repo_id = self.registry.ensure_repo(ctx, name).id
        with self.db.read() as c:
            taken = c.scalar(sa.select(_c.id).where(_c.repo_id == repo_id).limit(1)) is not None
        return self._repo(ctx, f"{project_name}--{name}"[:200], "model").id if taken else repo_id

    def _kind(self, repo_id: str) -> str:
        with self.db.read() as c:
            return str(c.scalar(sa.select(base.repos.c.kind).where(base.repos.c.id == repo_id)))

    # --- versions on their way in

    def create(
        self,
        ctx: Context,
        project: tuple[str, str],
        name: str,
        type_: str,
        digest: str,
        *,
        run_id: str | None,
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        description: str | None = None,
        metadata: str | None = None,
        client_id: str | None = None,
        history_step: int | None = None,
        same: bool = True,
    ) -> ArtifactVersion:
        """A version to fill; or the one with this digest, which then gets the aliases. A client that asks again gets what it had."""
        ctx.require(Scope.write)
        held = self._ensure(ctx, project, name, type_, linked=False)
        with self.db.write() as c:
            c.execute(sa.select(_c.id).where(_c.id == held.id).with_for_update())
            mine = sa.select(t.artifacts).where(_a.collection_id == held.id).order_by(_a.number.desc())
            row = None
            if client_id:
                row = c.execute(mine.where(_a.client_id == client_id).limit(1)).first()
            if row is None and same:
                row = c.execute(mine.where(_a.digest == digest, _a.state == "COMMITTED").limit(1)).first()
            if row is not None:
                if row.state == "COMMITTED":
                    self._name(c, held, row.id, row.number, [*aliases, LATEST])
                    if client_id and client_id != row.client_id:
                        c.execute(t.artifacts.update().where(_a.id == row.id).values(client_id=client_id))
                if run_id:
                    self._edge(c, row.id, run_id, "out")
                return self._artifact(c, ctx, row.id)
            now, artifact_id = now_ms(), uuid7()
            c.execute(
                t.artifacts.insert().values(
                    id=artifact_id,
                    workspace_id=ctx.workspace_id,
                    collection_id=held.id,
                    state="PENDING",
                    digest=digest,
                    description=description,
                    metadata=metadata,
                    tags=list(tags),
                    aliases=list(aliases),
                    client_id=client_id,
                    run_id=run_id,
                    history_step=history_step,
                    size=0,
                    files=0,
                    created_ms=now,
                    updated_ms=now,
                )
            )
            if run_id:
                self._edge(c, artifact_id, run_id, "out")
            return self._artifact(c, ctx, artifact_id)

    def commit(
        self, ctx: Context, artifact_id: str, files: Mapping[str, str], *, size: int, entries: int, manifest: str
    ) -> ArtifactVersion:
        """The version is whole: `files` are path → sha256, `entries` counts references too."""
        ctx.require(Scope.write)
        artifact = self.get(ctx, artifact_id)
        if artifact.state == "COMMITTED":
            return artifact
        held = self.get_collection(ctx, artifact.collection_id)
        repo, source = str(held.repo_id), f"{SOURCE}{artifact_id}"
        kind, v = self._kind(repo), base.versions.c
        with self.db.read() as c:
            number = c.scalar(sa.select(v.number).where(v.repo_id == repo, v.source == source))
        if number is None:
            made = self.registry.commit(ctx, repo, files, message=f"{held.name}: {artifact.digest}", kind=kind)
            number = self.registry.register(
                ctx, repo, made.id, run_id=artifact.run_id, source=source, description=artifact.description or "", kind=kind
            ).number
        now = now_ms()
        with self.db.write() as c:
            values = {"state": "COMMITTED", "number": number, "manifest": manifest, "size": size, "files": entries, "updated_ms": now}
            c.execute(t.artifacts.update().where(_a.id == artifact_id).values(**values))
            member = {"collection_id": held.id, "artifact_id": artifact_id, "number": number, "created_ms": now}
            upsert(c, t.members, [member], key=["collection_id", "artifact_id"])
            self._name(c, held, artifact_id, number, [*artifact.aliases, LATEST])
            c.execute(t.pending.delete().where(t.pending.c.artifact_id == artifact_id))
            c.execute(t.manifests.delete().where(t.manifests.c.artifact_id == artifact_id))
            c.execute(t.collections.update().where(_c.id == held.id).values(updated_ms=now))
            return self._artifact(c, ctx, artifact_id)

    # --- versions

    def get(self, ctx: Context, artifact_id: str) -> ArtifactVersion:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return self._artifact(c, ctx, artifact_id)

    def by_client(self, ctx: Context, client_id: str) -> ArtifactVersion | None:
        ctx.require(Scope.read)
        query = sa.select(t.artifacts).where(_a.workspace_id == ctx.workspace_id, _a.client_id == client_id).limit(1)
        with self.db.read() as c:
            row = c.execute(query).first()
        return ArtifactVersion(**row._mapping) if row is not None else None

    def members(
        self, ctx: Context, *, collection_id: str | None = None, artifact_id: str | None = None, run: tuple[str, str] | None = None
    ) -> list[Member]:
        """Of a collection, the newest first; or all places of one version; or what a `run` (id, "in" or "out") used or made."""
        ctx.require(Scope.read)
        query = sa.select(_m.collection_id, _m.artifact_id, _m.number, _m.created_ms)
        query = query.join(t.collections, _c.id == _m.collection_id).join(t.artifacts, _a.id == _m.artifact_id)
        query = query.where(_c.workspace_id == ctx.workspace_id)
        if collection_id is not None:
            query = query.where(_m.collection_id == collection_id)
        if artifact_id is not None:
            query = query.where(_m.artifact_id == artifact_id)
        if run is not None:
            e = t.edges.c
            query = query.join(t.edges, e.artifact_id == _m.artifact_id).where(e.run_id == run[0], e.way == run[1])
            query = query.where(_m.collection_id == _a.collection_id).order_by(e.created_ms, _a.id)
        else:
            query = query.order_by(_m.number.desc(), _m.created_ms)
        with self.db.read() as c:
            rows = c.execute(query).all()
            held: dict[str, Collection] = {}
            aliases: dict[tuple[str, str], list[str]] = {}
            for some in chunked({row.collection_id for row in rows}):
                found = c.execute(sa.select(t.collections).where(_c.id.in_(some)))
                held.update((row.id, Collection(**row._mapping)) for row in found)
                named = sa.select(_l.collection_id, _l.artifact_id, _l.alias).where(_l.collection_id.in_(some))
                registered = (
                    sa.select(_c.id, _m.artifact_id, _r.alias)
                    .join(t.collections, _c.repo_id == _r.repo_id)
                    .join(t.members, sa.and_(_m.collection_id == _c.id, _m.number == _r.number))
                    .where(_c.id.in_(some))
                )
                for i, artifact, alias in sorted(tuple(row) for query in (named, registered) for row in c.execute(query)):
                    aliases.setdefault((i, artifact), []).append(alias)
            versions: dict[str, ArtifactVersion] = {}
            for some in chunked({row.artifact_id for row in rows}):
                found = c.execute(sa.select(t.artifacts).where(_a.id.in_(some)))
                versions.update((row.id, ArtifactVersion(**row._mapping)) for row in found)
            return [
                Member(
                    held[row.collection_id],
                    versions[row.artifact_id],
                    row.number,
                    tuple(aliases.get((row.collection_id, row.artifact_id), ())),
                    row.created_ms,
                )
                for row in rows
            ]

    def member(self, ctx: Context, collection: Collection, ref: str) -> Member:
        """By an alias, or by `v<n>`, which counts from 0."""
        ctx.require(Scope.read)
        number = int(ref[1:]) + 1 if ref[:1] == "v" and ref[1:].isdigit() and len(ref) < 10 else None
        with self.db.read() as c:
            if number is None and collection.repo_id is not None and _is_registrys(ref):
                number = c.scalar(sa.select(_r.number).where(_r.repo_id == collection.repo_id, _r.alias == ref)) or 0
            query = sa.select(_l.artifact_id).where(_l.collection_id == collection.id, _l.alias == ref)
            if number is not None:
                query = sa.select(_m.artifact_id).where(_m.collection_id == collection.id, _m.number == number)
            artifact_id = c.scalar(query)
        if artifact_id is None:
            raise NotFound(f"The artifact {collection.name!r} has no version or alias {ref!r}.")
        return self.members(ctx, collection_id=collection.id, artifact_id=artifact_id)[0]

    def update(self, ctx: Context, artifact_id: str, **values: Any) -> ArtifactVersion:
        """Change its description, metadata or tags."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            self._artifact(c, ctx, artifact_id)
            c.execute(t.artifacts.update().where(_a.id == artifact_id).values(**values, updated_ms=now_ms()))
            return self._artifact(c, ctx, artifact_id)

    def delete(self, ctx: Context, artifact_id: str, *, aliases: bool) -> ArtifactVersion:
        """Delete a version everywhere. One that has aliases besides `latest` only with `aliases`."""
        ctx.require(Scope.write)
        found = self.get(ctx, artifact_id)
        held = self.get_collection(ctx, found.collection_id)
        with self.db.write() as c:
            named = sa.select(_l.alias).where(_l.artifact_id == artifact_id, _l.alias != LATEST)
            registered = sa.select(_r.alias).where(_r.repo_id == held.repo_id, _r.number == found.number)
            has = c.scalars(named.union(registered)).all()
            if has and not aliases:
                raise Conflict(f"This version has the aliases {', '.join(has)}: say delete_aliases=True to delete it all the same.")
            linked = sa.select(_c.repo_id, _m.number).join(t.members, _m.collection_id == _c.id).where(_c.linked, _c.repo_id.is_not(None))
            models = c.execute(linked.where(_m.artifact_id == artifact_id)).all()
            if found.number is None:
                forgetting.drop_artifact(c, artifact_id)
        # Its own last, which takes it from here, too: after a crash in between it can be deleted again.
        for repo_id, number in (*models, (held.repo_id, found.number)):
            if repo_id is not None and number is not None:
                self.registry.delete_version(ctx, repo_id, number, kind=self._kind(repo_id))
        return found

    def link(self, ctx: Context, artifact_id: str, project: tuple[str, str], name: str, aliases: Sequence[str]) -> Member:
        """Make it a member of a portfolio; a member already, it gets the aliases."""
        ctx.require(Scope.write)
        found = self.get(ctx, artifact_id)
        source = self.get_collection(ctx, found.collection_id)
        held = self._ensure(ctx, project, name, source.type, linked=True)
        registered = None if held.repo_id is None else self._registered(ctx, held.repo_id, found, source)
        with self.db.write() as c:
            row = c.execute(sa.select(t.collections).where(_c.id == held.id).with_for_update()).one()
            number = c.scalar(sa.select(_m.number).where(_m.collection_id == held.id, _m.artifact_id == artifact_id))
            if number is None:
                number = registered or row.next_link
                c.execute(t.members.insert().values(collection_id=held.id, artifact_id=artifact_id, number=number, created_ms=now_ms()))
                c.execute(t.collections.update().where(_c.id == held.id).values(next_link=number + 1, updated_ms=now_ms()))
            self._name(c, held, artifact_id, number, [*aliases, LATEST])
        return self.members(ctx, collection_id=held.id, artifact_id=artifact_id)[0]

    def _registered(self, ctx: Context, repo_id: str, found: ArtifactVersion, source: Collection) -> int:
        """The version of a registered model that has the artifact's files, made now if need be. May be said again."""
        if found.number is None:
            raise Conflict("The version is not committed yet: wait for that, then link it.")
        v, f = base.versions.c, base.commit_files.c
        origin = f"{SOURCE}{found.id}"
        with self.db.read() as c:
            number: int | None = c.scalar(sa.select(v.number).where(v.repo_id == repo_id, v.source == origin))
            if number is not None:
                return number
            mine = sa.select(v.commit_id).where(v.repo_id == source.repo_id, v.number == found.number)
            files = {row.path: row.sha256 for row in c.execute(sa.select(f.path, f.sha256).where(f.commit_id == mine.scalar_subquery()))}
        made = self.registry.commit(ctx, repo_id, files, message=f"{source.name}: {found.digest}")
        return self.registry.register(ctx, repo_id, made.id, run_id=found.run_id, source=origin, description=found.description or "").number

    def unlink(self, ctx: Context, artifact_id: str, collection_id: str) -> None:
        ctx.require(Scope.write)
        with self.db.read() as c:
            held = self._collection(c, ctx, _c.id == collection_id, called=collection_id)
            number = c.scalar(sa.select(_m.number).where(_m.collection_id == collection_id, _m.artifact_id == artifact_id))
        if not held.linked:
            raise Invalid("A version cannot be unlinked from its own collection: delete it.")
        if held.repo_id is not None and number is not None:
            self.registry.delete_version(ctx, held.repo_id, number)
            return
        with self.db.write() as c:
            c.execute(t.member_aliases.delete().where(_l.collection_id == held.id, _l.artifact_id == artifact_id))
            c.execute(t.members.delete().where(_m.collection_id == held.id, _m.artifact_id == artifact_id))

    def alias(self, ctx: Context, artifact_id: str, collection: Collection, aliases: Sequence[str]) -> None:
        """The aliases move silently from the versions that had them."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            number = c.scalar(sa.select(_m.number).where(_m.collection_id == collection.id, _m.artifact_id == artifact_id))
            if number is None:
                raise NotFound(f"The version is no member of {collection.name!r}.")
            self._name(c, collection, artifact_id, number, aliases)

    def unalias(self, ctx: Context, artifact_id: str, collection: Collection, aliases: Sequence[str]) -> None:
        ctx.require(Scope.write)
        where = (_l.collection_id == collection.id, _l.artifact_id == artifact_id, _l.alias.in_(list(aliases)))
        with self.db.write() as c:
            self._artifact(c, ctx, artifact_id)
            c.execute(t.member_aliases.delete().where(*where))
            number = c.scalar(sa.select(_m.number).where(_m.collection_id == collection.id, _m.artifact_id == artifact_id))
            if collection.repo_id is not None and number is not None:
                mine = (_r.repo_id == collection.repo_id, _r.number == number, _r.alias.in_(list(aliases)))
                c.execute(base.aliases.delete().where(*mine))

    def used(self, ctx: Context, artifact_id: str, run_id: str) -> ArtifactVersion:
        ctx.require(Scope.write)
        with self.db.write() as c:
            found = self._artifact(c, ctx, artifact_id)
            self._edge(c, artifact_id, run_id, "in")
            return found

    def users(self, ctx: Context, artifact_id: str) -> list[str]:
        """The runs that used it."""
        ctx.require(Scope.read)
        e = t.edges.c
        with self.db.read() as c:
            self._artifact(c, ctx, artifact_id)
            return list(c.scalars(sa.select(e.run_id).where(e.artifact_id == artifact_id, e.way == "in").order_by(e.created_ms)))

    def _artifact(self, c: sa.Connection, ctx: Context, artifact_id: str) -> ArtifactVersion:
        row = c.execute(sa.select(t.artifacts).where(_a.id == artifact_id, _a.workspace_id == ctx.workspace_id)).one_or_none()
        if row is None:
            raise NotFound(f"There is no artifact {artifact_id[:64]!r}: it was deleted.")
        return ArtifactVersion(**row._mapping)

    def _name(self, c: sa.Connection, held: Collection, artifact_id: str, number: int, aliases: Sequence[str]) -> None:
        for alias in dict.fromkeys(aliases):
            if not alias or len(alias) > 128 or "/" in alias or ":" in alias:
                raise Invalid(f"{alias[:80]!r} cannot be an alias: use up to 128 characters without '/' and ':'.", param="alias")
            if alias[:1] == "v" and alias[1:].isdigit():
                if int(alias[1:]) + 1 == number:
                    continue
                raise Invalid(f"{alias!r} cannot be an alias: 'v' and a number always mean a version.", param="alias")
            if held.repo_id is None or not _is_registrys(alias):
                row = {"collection_id": held.id, "alias": alias, "artifact_id": artifact_id}
                upsert(c, t.member_aliases, [row], key=["collection_id", "alias"], update=["artifact_id"])
                continue
            v = base.versions.c
            version_id = c.scalar(sa.select(v.id).where(v.repo_id == held.repo_id, v.number == number))
            named = {"repo_id": held.repo_id, "alias": alias, "version_id": version_id, "number": number}
            upsert(c, base.aliases, [named], key=["repo_id", "alias"], update=["version_id", "number"])

    def _edge(self, c: sa.Connection, artifact_id: str, run_id: str, way: str) -> None:
        row = {"artifact_id": artifact_id, "run_id": run_id, "way": way, "created_ms": now_ms()}
        upsert(c, t.edges, [row], key=["artifact_id", "run_id", "way"])
