"""The registry's verbs. Each is one transaction, sees the caller's workspace only, and is durable when it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry import committing, finders, forgetting, loading, names, search
from drivetrain.registry import tables as t
from drivetrain.registry.committing import check_tags
from drivetrain.registry.model import Resolved, Version
from drivetrain.registry.repos import Repos
from drivetrain.search.conditions import Condition
from drivetrain.store import maps
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import chunked, upsert


class Registry(Repos):
    """Everything registered, on one database and one blob store. Thread-safe."""

    # --- versions

    def register(
        self,
        ctx: Context,
        slug: str,
        commit_id: str,
        *,
        run_id: str | None = None,
        model_id: str | None = None,
        source: str = "",
        description: str = "",
        tags: Mapping[str, str] | None = None,
        status: str = "READY",
        derived_from: str | None = None,
        kind: str = "model",
    ) -> Version:
        """Register a commit of the repo as its next version. Numbers start at 1 and are never given again. `derived_from`: the id of the
        version that it was made of."""
        ctx.require(Scope.write)
        check_tags(tags or {})
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, slug, kind, lock=True)
            number = committing.add_version(
                c,
                ctx,
                row,
                finders.commit(c, row.id, commit_id),
                tags=tags,
                derived_from=derived_from,
                run_id=run_id,
                model_id=model_id,
                source=source,
                description=description,
                status=status,
            )
            return finders.version(c, row, number)

    def versions(self, ctx: Context, slug: str, *, limit: int = 10_000, kind: str = "model") -> list[Version]:
        """The versions of a repo, the newest first."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            row = finders.repo_row(c, ctx, slug, kind)
            v = t.versions.c
            query = loading.select_versions().where(v.repo_id == row.id).order_by(v.number.desc()).limit(limit)
            return loading.versions(c, c.execute(query).all())

    def get_version(self, ctx: Context, slug: str, number: int, *, kind: str = "model") -> Version:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return finders.version(c, finders.repo_row(c, ctx, slug, kind), number)

    def version_by_id(self, ctx: Context, version_id: str) -> Version:
        ctx.require(Scope.read)
        with self.db.read() as c:
            query = loading.select_versions().where(t.versions.c.id == version_id, t.versions.c.workspace_id == ctx.workspace_id)
            rows = c.execute(query).all()
            if not rows:
                raise NotFound("There is no such version: it was deleted.")
            return loading.versions(c, rows)[0]

    def get_versions(self, ctx: Context, ids: Sequence[str]) -> list[Version]:
        """Those of these ids that are there, in this order."""
        ctx.require(Scope.read)
        found: dict[str, Version] = {}
        v = t.versions.c
        with self.db.read() as c:
            for some in chunked(ids):
                query = loading.select_versions().where(v.workspace_id == ctx.workspace_id, v.id.in_(some))
                found.update((one.id, one) for one in loading.versions(c, c.execute(query).all()))
        return [found[one] for one in ids if one in found]

    def version_id(self, c: sa.Connection, ctx: Context, slug: str, number: int) -> str | None:
        """The id of a model's version, in the caller's transaction; None once it was deleted."""
        repo = finders.find_repo(c, ctx, slug, "model")
        mine = t.versions.c.repo_id == (repo.id if repo is not None else None), t.versions.c.number == number
        found: str | None = c.scalar(sa.select(t.versions.c.id).where(*mine))
        return found

    def search_versions(
        self,
        ctx: Context,
        conditions: Sequence[Condition] = (),
        *,
        order_by: Sequence[tuple[str, bool]] = (),
        limit: int = 10_000,
        offset: int = 0,
    ) -> list[Version]:
        """Versions that meet all `conditions`; default order: last updated first, then name, then number downwards."""
        ctx.require(Scope.read)
        query = search.versions(ctx.workspace_id, conditions, order_by, sqlite=self.db.kind == "sqlite").limit(limit).offset(offset)
        with self.db.read() as c:
            return loading.versions(c, c.execute(query).all())

    def update_version(
        self,
        ctx: Context,
        slug: str,
        number: int,
        *,
        description: str | None = None,
        status: str | None = None,
        status_message: str | None = None,
        stage: str | None = None,
    ) -> Version:
        ctx.require(Scope.write)
        given = {"description": description, "status": status, "status_message": status_message, "stage": stage}
        values = {key: value for key, value in given.items() if value is not None}
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, slug, "model")
            version = finders.version(c, row, number)
            c.execute(t.versions.update().where(t.versions.c.id == version.id).values(**values, updated_ms=now_ms()))
            committing.touch(c, row.id)
            return finders.version(c, row, number)

    def delete_version(self, ctx: Context, slug: str, number: int, *, kind: str = "model") -> None:
        """Delete a version and its aliases. Its number is not given again. Its files go after a day, unless something else has them.
        Links to it stay, as versions of their own."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, slug, kind)
            version = finders.version(c, row, number)
            forgetting.drop_version(c, version.id, version.commit_id)
            committing.touch(c, row.id)

    def set_version_tag(self, ctx: Context, slug: str, number: int, key: str, value: str) -> None:
        ctx.require(Scope.write)
        check_tags({key: value})
        with self.db.write() as c:
            version = finders.version(c, finders.repo_row(c, ctx, slug, "model"), number)
            maps.put(c, t.version_tags, version.id, {key: value})
            c.execute(t.versions.update().where(t.versions.c.id == version.id).values(updated_ms=now_ms()))

    def delete_version_tag(self, ctx: Context, slug: str, number: int, key: str) -> None:
        """Remove a tag; a tag that is not there is no error."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            version = finders.version(c, finders.repo_row(c, ctx, slug, "model"), number)
            maps.drop(c, t.version_tags, version.id, key)

    # --- aliases

    def set_alias(self, ctx: Context, slug: str, alias: str, number: int) -> None:
        """Let `alias` name a version; it moves silently from the version that it named."""
        ctx.require(Scope.write)
        names.check_alias(alias)
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, slug, "model", lock=True)
            version = finders.version(c, row, number)
            value = {"repo_id": row.id, "alias": alias, "version_id": version.id, "number": number}
            upsert(c, t.aliases, [value], key=["repo_id", "alias"], update=["version_id", "number"])
            committing.touch(c, row.id)

    def delete_alias(self, ctx: Context, slug: str, alias: str) -> None:
        """Remove an alias; one that is not there is no error."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, slug, "model")
            c.execute(t.aliases.delete().where(t.aliases.c.repo_id == row.id, t.aliases.c.alias == alias))
            committing.touch(c, row.id)

    def version_by_alias(self, ctx: Context, slug: str, alias: str) -> Version:
        ctx.require(Scope.read)
        with self.db.read() as c:
            row = finders.repo_row(c, ctx, slug, "model")
            number = finders.alias(c, row.id, alias)
            if number is None:
                raise finders.no_alias(c, row, alias)
            return finders.version(c, row, number)

    # --- names

    def resolve(self, ctx: Context, name: str, *, kind: str = "model") -> Resolved:
        """What `name`, in any of the forms of `registry.names`, means in the caller's workspace. Raises `NotFound`."""
        ctx.require(Scope.read)
        parsed = names.parse(name)
        with self.db.read() as c:
            if parsed.workspace is not None and parsed.workspace != ctx.workspace:
                raise NotFound(
                    f"There is no {kind} {name!r} in workspace {ctx.workspace!r}. To use another workspace, send the header "
                    f"X-Drivetrain-Workspace: {parsed.workspace} (command line: DRIVETRAIN_WORKSPACE={parsed.workspace}).",
                    param="model",
                )
            row = finders.repo_row(c, ctx, parsed.repo, kind)
            if parsed.want == "alias":
                number = finders.alias(c, row.id, parsed.ref or "")
                if number is None:
                    raise finders.no_alias(c, row, parsed.ref or "")
                commit_id = ""
            elif parsed.want == "version" and (wanted := names.version_number(parsed.ref or "")) is not None:
                commit_id, number = "", wanted
            else:
                commit_id, number = finders.resolve(c, row, parsed.ref or "latest")
            version = finders.version(c, row, number) if number is not None else None
            repo = loading.repos(c, [row])[0]
            return Resolved(repo, version, version.commit_id if version else commit_id, parsed.ref or "latest")

    # --- blobs

    def live_blobs(self) -> set[str]:
        """The blobs that some commit names, a version's manifest, or a draft: what a sweep must keep."""
        named = (t.commit_files.c.sha256, t.versions.c.manifest, t.held.c.sha256, t.parts.c.sha256, t.manifests.c.sha256)
        with self.db.read() as c:
            return {one for column in named for one in c.scalars(sa.select(column).distinct()) if one is not None}
