"""Repos, commits and refs: what is in them, and what a ref means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry import committing, finders, forgetting, loading, names, search
from drivetrain.registry import tables as t
from drivetrain.registry.committing import check_tags
from drivetrain.registry.finders import MAIN
from drivetrain.registry.model import Commit, FileEntry, Ref, Repo
from drivetrain.registry.uploads import Uploads
from drivetrain.search.conditions import Condition
from drivetrain.store import maps
from drivetrain.store.blobs import Blobs
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, upsert
from drivetrain.tags import PROMPT


class Repos:
    """Repos, commits, refs and versions on one database and one blob store. Thread-safe."""

    def __init__(self, db: Database, blobs: Blobs, *, serves: Callable[[set[str]], Sequence[str]] = lambda commits: ()) -> None:
        """`serves` names the deployments that need one of these commits."""
        self.db = db
        self.blobs = blobs
        self.uploads = Uploads(db, blobs)
        self._serves = serves

    # --- repos

    def create_repo(
        self, ctx: Context, name: str, *, kind: str = "model", description: str = "", tags: Mapping[str, str] | None = None
    ) -> Repo:
        """Make a repo with the display name `name`. Raises `Conflict` if there is one of that name."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            return self._repo(c, ctx, committing.add_repo(c, ctx, name, kind, description, tags or {}).id, kind)

    def ensure_repo(self, ctx: Context, name: str, *, kind: str = "model") -> Repo:
        """The repo of that name, made now if need be."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = finders.find_repo(c, ctx, name, kind) or committing.add_repo(c, ctx, name, kind, "", {})
            return loading.repos(c, [row])[0]

    def get_repo(self, ctx: Context, name: str, *, kind: str = "model") -> Repo:
        """Find a repo by slug, display name or id."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            return self._repo(c, ctx, name, kind)

    def repos(self, ctx: Context, *, kind: str | None = "model", limit: int = 1000) -> list[Repo]:
        """The workspace's repos, the latest changed first. Models that are prompts are listed as these."""
        newest = [("updated_ms", False)]
        conditions = [] if kind is None else [Condition("attribute", "kind", "=", kind)]
        if kind == "model":
            conditions.append(Condition("tag", PROMPT, "IS NULL"))
        found = self.search_repos(ctx, conditions, order_by=newest, limit=limit)
        if kind == "prompt":
            tagged = [Condition("attribute", "kind", "=", "model"), Condition("tag", PROMPT, "IS NOT NULL")]
            found += self.search_repos(ctx, tagged, order_by=newest, limit=limit)
            found = sorted(found, key=lambda repo: repo.updated_ms, reverse=True)[:limit]
        return found

    def search_repos(
        self,
        ctx: Context,
        conditions: Sequence[Condition] = (),
        *,
        order_by: Sequence[tuple[str, bool]] = (),
        limit: int = 100,
        offset: int = 0,
    ) -> list[Repo]:
        """Repos that meet all `conditions`, one of which says the kind; `order_by` are (key, ascending), then name."""
        ctx.require(Scope.read)
        query = search.repos(ctx.workspace_id, conditions, order_by, sqlite=self.db.kind == "sqlite").limit(limit).offset(offset)
        with self.db.read() as c:
            return loading.repos(c, c.execute(query).all())

    def update_repo(
        self, ctx: Context, name: str, *, kind: str = "model", new_name: str | None = None, description: str | None = None
    ) -> Repo:
        """Rename a repo (its slug follows, where that is free) or describe it."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, name, kind, lock=True)
            values: dict[str, Any] = {"updated_ms": now_ms()}
            if new_name is not None and new_name != row.name:
                names.check_name(new_name)
                other = finders.find_repo(c, ctx, new_name, kind)
                if other is not None and other.id != row.id:
                    raise Conflict(f"There is a {kind} named {new_name!r} already. Choose another name, or delete that one first.")
                values |= {"name": new_name, "slug": committing.free_slug(c, ctx, new_name, kind, besides=row.id)}
            if description is not None:
                values["description"] = description
            c.execute(t.repos.update().where(t.repos.c.id == row.id).values(**values))
            return self._repo(c, ctx, row.id, kind)

    def delete_repo(self, ctx: Context, name: str, *, kind: str = "model") -> None:
        """Delete a repo with its commits and versions; the name is free again. Blobs go when nothing else names them. What links to its
        versions stays, and has their commits from now on.

        Raises `Conflict` while a deployment serves one of its commits: a replica of it could not be started again.
        """
        ctx.require(Scope.write)
        with self.db.read() as c:
            repo = finders.repo_row(c, ctx, name, kind).id
            commits = set(c.scalars(sa.select(t.commits.c.id).where(finders.has_commit(repo))))
        if used := self._serves(commits):
            raise Conflict(f"{name!r} is served by the deployment {used[0]!r}. First: drivetrain undeploy {used[0]}", param="name")
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, name, kind, lock=True)
            forgetting.drop_repo(c, row.id)

    def set_repo_tag(self, ctx: Context, name: str, key: str, value: str, *, kind: str = "model") -> None:
        ctx.require(Scope.write)
        check_tags({key: value})
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, name, kind)
            maps.put(c, t.repo_tags, row.id, {key: value})
            committing.touch(c, row.id)

    def delete_repo_tag(self, ctx: Context, name: str, key: str, *, kind: str = "model") -> None:
        """Remove a tag; a tag that is not there is no error."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, name, kind)
            maps.drop(c, t.repo_tags, row.id, key)
            committing.touch(c, row.id)

    # --- commits and refs

    def commit(
        self,
        ctx: Context,
        repo: str,
        files: Mapping[str, str],
        *,
        message: str,
        parent: str | None = None,
        replace: bool = True,
        branch: str = MAIN,
        kind: str = "model",
        delete: Sequence[str] = (),
    ) -> Commit:
        """Add a commit to `branch`: `files` are path → sha256 of blobs that are stored already.

        With `replace` the files are the whole manifest, else they are laid over the parent's, less `delete`. `parent` guards against
        others: `Conflict` if the branch's head is another. A commit that would change nothing is not made: the head is returned.
        """
        ctx.require(Scope.write)
        entries = committing.entries(self.blobs, files)
        names.check_ref(branch)
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, repo, kind, lock=True)
            made = committing.add_commit(
                c, ctx, row, entries, message=message, parent=parent, replace=replace, branch=branch, delete=delete
            )
            return finders.commit(c, row.id, made)

    def check_files(self, files: Mapping[str, str]) -> None:
        """Raise `Invalid` if these could not be committed: a bad path, a blob that is not stored."""
        committing.check_tree(committing.entries(self.blobs, files))

    def files(self, commit_id: str) -> dict[str, FileEntry]:
        """The manifest of a commit: path → file. Commit ids come from verbs that have checked the workspace."""
        with self.db.read() as c:
            found = finders.files(c, commit_id)
            if not found and c.scalar(sa.select(t.commits.c.id).where(t.commits.c.id == commit_id)) is None:
                raise NotFound(f"There is no commit {commit_id[:12]}: its model was deleted.")
            return found

    def commits(self, ctx: Context, repo: str, *, ref: str = MAIN, limit: int = 100, kind: str = "model") -> list[Commit]:
        """The history from `ref` backwards."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            row = finders.repo_row(c, ctx, repo, kind)
            at: str | None = finders.resolve(c, row, ref)[0]
            chain: list[Commit] = []
            while at is not None and len(chain) < limit:
                # Of a linked commit, the ones before it are its own repo's.
                chain.append(finders.commit(c, chain[-1].repo_id if chain else row.id, at))
                at = chain[-1].parent
            return chain

    def refs(self, ctx: Context, repo: str, *, kind: str = "model") -> list[Ref]:
        ctx.require(Scope.read)
        with self.db.read() as c:
            row = finders.repo_row(c, ctx, repo, kind)
            query = sa.select(t.refs).where(t.refs.c.repo_id == row.id).order_by(t.refs.c.kind, t.refs.c.name)
            return [Ref(r.kind, r.name, r.commit_id) for r in c.execute(query)]

    def set_ref(self, ctx: Context, repo: str, ref_kind: str, name: str, target: str = MAIN, *, kind: str = "model") -> Ref:
        """Let a branch or tag name the commit that `target` (any ref) names."""
        ctx.require(Scope.write)
        if ref_kind not in ("branch", "tag"):
            raise Invalid(f"A ref is a 'branch' or a 'tag', not {ref_kind!r}.", param="kind")
        names.check_ref(name)
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, repo, kind)
            commit_id = finders.resolve(c, row, target)[0]
            value = {"repo_id": row.id, "kind": ref_kind, "name": name, "commit_id": commit_id}
            upsert(c, t.refs, [value], key=["repo_id", "kind", "name"], update=["commit_id"])
            return Ref(ref_kind, name, commit_id)

    def delete_ref(self, ctx: Context, repo: str, ref_kind: str, name: str, *, kind: str = "model") -> None:
        ctx.require(Scope.write)
        if (ref_kind, name) == ("branch", MAIN):
            raise Invalid("The branch 'main' cannot be deleted. Delete the repo instead.", param="name")
        with self.db.write() as c:
            row = finders.repo_row(c, ctx, repo, kind)
            where = (t.refs.c.repo_id == row.id, t.refs.c.kind == ref_kind, t.refs.c.name == name)
            if c.execute(t.refs.delete().where(*where)).rowcount == 0:
                raise NotFound(f"{row.slug} has no {ref_kind} {name!r}.")

    # --- within a transaction

    def _repo(self, c: sa.Connection, ctx: Context, name: str, kind: str) -> Repo:
        return loading.repos(c, [finders.repo_row(c, ctx, name, kind)])[0]
