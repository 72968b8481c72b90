"""Artifacts: versions of files in a project's collections, known by their digest. Each is a version of its collection's repo, or a draft
of one. Aliases that the registry cannot have (`latest`, which moves; `best.one`) are seen here alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Role, Thing
from drivetrain.registry import committing, finders, forgetting, loading, members
from drivetrain.registry import tables as t
from drivetrain.registry.collections import SOURCE, Collections, set_bare_tags
from drivetrain.registry.members import LATEST, Member
from drivetrain.registry.model import Draft, Repo, Version
from drivetrain.registry.service import Registry
from drivetrain.registry.uploads import drop_drafts
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import chunked, upsert

_r, _v, _l, _d = t.repos.c, t.versions.c, t.aliases.c, t.drafts.c


class Artifacts:
    """The verbs, each one transaction."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.db = registry.db
        self.collections = Collections(registry)

    # --- on their way in

    def begin(
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
        step: int | None = None,
        same: bool = True,
    ) -> Draft | Version:
        """A draft to fill; or the version with this digest, which then gets the aliases. A client that asks again gets what it had."""
        ctx.require(Scope.write)
        held = self.collections.ensure(ctx, project, name, type_, portfolio=False)
        with self.db.write() as c:
            c.execute(sa.select(_r.id).where(_r.id == held.id).with_for_update())
            found = _same(c, ctx, held, digest if same else None, client_id)
            if found is None:
                found = Draft(
                    id=uuid7(),
                    repo_id=held.id,
                    digest=digest,
                    description=description or "",
                    metadata=metadata,
                    tags=dict.fromkeys(tags, ""),
                    aliases=tuple(aliases),
                    run_id=run_id,
                    step=step,
                    created_ms=now_ms(),
                    updated_ms=now_ms(),
                )
                committing.check_tags(found.tags)
                _add_draft(c, ctx, found, client_id)
            elif isinstance(found, Version):
                _name(c, held.id, found.id, found.number, [*aliases, LATEST])
                if client_id:
                    c.execute(t.versions.update().where(_v.id == found.id).values(client_id=client_id))
            if run_id:
                lineage.link(c, ctx, Thing("run", run_id), "made", Thing("version", found.id))
            return found

    def commit(self, ctx: Context, draft_id: str, files: Mapping[str, str], *, size: int, entries: int, manifest: str) -> Version:
        """The draft is whole: `files` are path → sha256, `entries` and `size` count references, too. May be said again."""
        ctx.require(Scope.write)
        stored = committing.entries(self.registry.blobs, files)
        with self.db.write() as c:
            query = sa.select(t.drafts).where(_d.id == draft_id, _d.workspace_id == ctx.workspace_id)
            row = c.execute(query.with_for_update()).one_or_none()
            if row is None:
                return _version(c, ctx, draft_id)
            draft = loading.draft(row)
            repo = c.execute(sa.select(t.repos).where(_r.id == draft.repo_id).with_for_update()).one()
            made = committing.add_commit(c, ctx, repo, stored, message=f"{repo.collection}: {draft.digest}")
            number = committing.add_version(
                c,
                ctx,
                repo,
                finders.commit(c, repo.id, made),
                tags=draft.tags,
                id=draft.id,
                run_id=draft.run_id,
                source=f"{SOURCE}{draft.id}",
                description=draft.description,
                client_id=row.client_id,
                digest=draft.digest,
                metadata=draft.metadata,
                manifest=manifest,
                step=draft.step,
                files=entries,
                bytes=size,
                created_ms=draft.created_ms,
            )
            _name(c, repo.id, draft.id, number, [*draft.aliases, LATEST])
            c.execute(t.drafts.delete().where(_d.id == draft_id))
            return _version(c, ctx, draft_id)

    # --- versions

    def get(self, ctx: Context, artifact_id: str) -> Draft | Version:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return _draft(c, ctx, _d.id == artifact_id) or _version(c, ctx, artifact_id)

    def by_client(self, ctx: Context, client_id: str) -> Draft | Version | None:
        ctx.require(Scope.read)
        with self.db.read() as c:
            query = loading.select_versions().where(_v.workspace_id == ctx.workspace_id, _v.client_id == client_id).limit(1)
            if rows := c.execute(query).all():
                return loading.versions(c, rows)[0]
            return _draft(c, ctx, _d.client_id == client_id)

    def update(
        self,
        ctx: Context,
        artifact_id: str,
        *,
        description: str | None = None,
        metadata: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Draft | Version:
        """Change what is given. `tags` are those without a value."""
        ctx.require(Scope.write)
        given = {"description": description, "metadata": metadata}
        values: dict[str, Any] = {key: value for key, value in given.items() if value is not None} | {"updated_ms": now_ms()}
        with self.db.write() as c:
            if _draft(c, ctx, _d.id == artifact_id) is not None:
                more = {} if tags is None else {"tags": list(tags)}
                c.execute(t.drafts.update().where(_d.id == artifact_id).values(**values, **more))
                return finders.draft(c, ctx, artifact_id)
            _version(c, ctx, artifact_id)
            c.execute(t.versions.update().where(_v.id == artifact_id).values(**values))
            if tags is not None:
                set_bare_tags(c, t.version_tags, artifact_id, tags)
            return _version(c, ctx, artifact_id)

    def delete(self, ctx: Context, artifact_id: str, *, aliases: bool) -> None:
        """Delete a version and all links to it. One that has aliases besides `latest` only with `aliases`."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            if _draft(c, ctx, _d.id == artifact_id) is not None:
                drop_drafts(c, _d.id == artifact_id)
                return
            _version(c, ctx, artifact_id)
            mine = sa.or_(_v.id == artifact_id, _v.origin_id == artifact_id)
            named = sa.select(_l.alias).join(t.versions, _v.id == _l.version_id).where(mine, _l.alias != LATEST)
            has = c.scalars(named.distinct().order_by(_l.alias)).all()
            if has and not aliases:
                raise Conflict(f"This version has the aliases {', '.join(has)}: say delete_aliases=True to delete it all the same.")
            for one in c.execute(sa.select(_v.id, _v.repo_id, _v.commit_id).where(mine)).all():
                forgetting.drop_version(c, one.id, one.commit_id)
                committing.touch(c, one.repo_id)

    # --- places

    def members(
        self,
        ctx: Context,
        *,
        collection_id: str | None = None,
        artifact_id: str | None = None,
        run: tuple[str, Role] | None = None,
    ) -> list[Member]:
        """Of a collection, the newest first; or all places of one version; or what a `run` (its id, "used" or "made") used or made."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            query = members.select(ctx)
            if collection_id is not None:
                query = query.where(_v.repo_id == collection_id)
            if artifact_id is not None:
                query = query.where(members.stands_for == artifact_id)
            if run is None:
                return members.read(c, query.order_by(_v.number.desc(), _v.created_ms))
            ids = lineage.objects(c, ctx, Thing("run", run[0]), run[1], "version")
            found = [one for some in chunked(ids) for one in members.read(c, query.where(_v.id.in_(some), _v.id == members.stands_for))]
            places = {one: place for place, one in enumerate(ids)}
            return sorted(found, key=lambda one: places[one.artifact.id])

    def member(self, ctx: Context, collection: Repo, ref: str) -> Member:
        """By an alias, or by `v<n>`, which counts from 0."""
        ctx.require(Scope.read)
        query = members.select(ctx).where(_v.repo_id == collection.id)
        number = int(ref[1:]) + 1 if ref[:1] == "v" and ref[1:].isdigit() and len(ref) < 10 else None
        with self.db.read() as c:
            if number is not None:
                query = query.where(_v.number == number)
            elif ref == LATEST:
                query = query.where(_v.id == members.latest(c, collection.id))
            else:
                query = query.where(_v.id.in_(sa.select(_l.version_id).where(_l.repo_id == collection.id, _l.alias == ref)))
            found = members.read(c, query)
        if not found:
            raise NotFound(f"The artifact {collection.collection!r} has no version or alias {ref!r}.")
        return found[0]

    def link(self, ctx: Context, artifact_id: str, project: tuple[str, str], name: str, aliases: Sequence[str]) -> Member:
        """Make it a member of a portfolio, by a version that points at its commit; a member already, it gets the aliases."""
        ctx.require(Scope.write)
        found = self.get(ctx, artifact_id)
        if isinstance(found, Draft):
            raise Conflict("The version is not committed yet: wait for that, then link it.")
        source = self.collections.get(ctx, found.repo_id)
        held = self.collections.ensure(ctx, project, name, source.type, portfolio=True)
        with self.db.write() as c:
            repo = c.execute(sa.select(t.repos).where(_r.id == held.id).with_for_update()).one()
            there = c.execute(sa.select(_v.id, _v.number).where(_v.repo_id == held.id, _v.origin_id == artifact_id)).first()
            link_id, number = there if there is not None else (uuid7(), None)
            if number is None:
                number = committing.add_version(
                    c,
                    ctx,
                    repo,
                    finders.commit(c, found.repo_id, found.commit_id),
                    id=link_id,
                    run_id=found.run_id,
                    source=f"{SOURCE}{artifact_id}",
                    description=found.description,
                    origin_id=artifact_id,
                    files=found.files,
                    bytes=found.bytes,
                )
            _name(c, held.id, link_id, number, [*aliases, LATEST])
            return members.read(c, members.select(ctx).where(_v.id == link_id))[0]

    def unlink(self, ctx: Context, artifact_id: str, collection_id: str) -> None:
        ctx.require(Scope.write)
        held = self.collections.get(ctx, collection_id)
        if not held.portfolio:
            raise Invalid("A version cannot be unlinked from its own collection: delete it.")
        for one in self.members(ctx, collection_id=collection_id, artifact_id=artifact_id):
            self.registry.delete_version(ctx, held.id, one.number, kind=held.kind)

    def alias(self, ctx: Context, artifact_id: str, collection: Repo, aliases: Sequence[str]) -> None:
        """The aliases move silently from the versions that had them."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = _place(c, ctx, artifact_id, collection)
            _name(c, collection.id, row.id, row.number, aliases)

    def unalias(self, ctx: Context, artifact_id: str, collection: Repo, aliases: Sequence[str]) -> None:
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = _place(c, ctx, artifact_id, collection)
            c.execute(t.aliases.delete().where(_l.version_id == row.id, _l.alias.in_(list(aliases))))

    # --- who used it

    def used(self, ctx: Context, artifact_id: str, run_id: str) -> Version:
        ctx.require(Scope.write)
        with self.db.write() as c:
            found = _version(c, ctx, artifact_id)
            lineage.link(c, ctx, Thing("run", run_id), "used", Thing("version", artifact_id))
            return found

    def users(self, ctx: Context, artifact_id: str) -> list[str]:
        """The runs that used it."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            return lineage.subjects(c, ctx, Thing("version", artifact_id), "used", "run")


# --- within a transaction


def _place(c: sa.Connection, ctx: Context, artifact_id: str, collection: Repo) -> sa.Row[Any]:
    row = c.execute(members.select(ctx).where(_v.repo_id == collection.id, members.stands_for == artifact_id)).first()
    if row is None:
        raise NotFound(f"The version is no member of {collection.collection!r}.")
    return row


def _version(c: sa.Connection, ctx: Context, artifact_id: str) -> Version:
    query = loading.select_versions().where(_v.id == artifact_id, _v.workspace_id == ctx.workspace_id, _v.manifest.is_not(None))
    rows = c.execute(query).all()
    if not rows:
        raise NotFound(f"There is no artifact {artifact_id[:64]!r}: it was deleted.")
    return loading.versions(c, rows)[0]


def _draft(c: sa.Connection, ctx: Context, where: sa.ColumnElement[bool]) -> Draft | None:
    row = c.execute(sa.select(t.drafts).where(where, _d.workspace_id == ctx.workspace_id).limit(1)).first()
    return None if row is None else loading.draft(row)


def _same(c: sa.Connection, ctx: Context, held: Repo, digest: str | None, client_id: str | None) -> Draft | Version | None:
    """What the client has begun already, else the newest version with the digest."""
    mine = loading.select_versions().where(_v.repo_id == held.id, _v.manifest.is_not(None)).order_by(_v.number.desc()).limit(1)
    if client_id:
        if rows := c.execute(mine.where(_v.client_id == client_id)).all():
            return loading.versions(c, rows)[0]
        if (begun := _draft(c, ctx, sa.and_(_d.repo_id == held.id, _d.client_id == client_id))) is not None:
            return begun
    rows = c.execute(mine.where(_v.digest == digest)).all() if digest is not None else []
    return loading.versions(c, rows)[0] if rows else None


def _add_draft(c: sa.Connection, ctx: Context, draft: Draft, client_id: str | None) -> None:
    row = {
        "id": draft.id,
        "workspace_id": ctx.workspace_id,
        "repo_id": draft.repo_id,
        "client_id": client_id,
        "digest": draft.digest,
        "description": draft.description,
        "metadata": draft.metadata,
        "tags": list(draft.tags),
        "aliases": list(draft.aliases),
        "run_id": draft.run_id,
        "step": draft.step,
        "created_ms": draft.created_ms,
        "updated_ms": draft.updated_ms,
    }
    c.execute(t.drafts.insert().values(**row))


def _name(c: sa.Connection, repo_id: str, version_id: str, number: int, aliases: Sequence[str]) -> None:
    for alias in dict.fromkeys(aliases):
        if not alias or len(alias) > 128 or "/" in alias or ":" in alias:
            raise Invalid(f"{alias[:80]!r} cannot be an alias: use up to 128 characters without '/' and ':'.", param="alias")
        if alias[:1] == "v" and alias[1:].isdigit():
            if int(alias[1:]) + 1 == number:
                continue
            raise Invalid(f"{alias!r} cannot be an alias: 'v' and a number always mean a version.", param="alias")
        named = {"repo_id": repo_id, "alias": alias, "version_id": version_id, "number": number}
        upsert(c, t.aliases, [named], key=["repo_id", "alias"], update=["version_id", "number"])
