"""Repos, commits and refs: what is in them, and what a ref means."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry import names, reading, search
from drivetrain.registry import tables as t
from drivetrain.registry.model import KINDS, Clause, Commit, FileEntry, Ref, Repo
from drivetrain.store.blobs import Blobs
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database, upsert
from drivetrain.tags import PROMPT

MAIN = "main"


class Repos:
    """Repos, commits, refs and versions on one database and one blob store. Thread-safe."""

    def __init__(self, db: Database, blobs: Blobs, *, serves: Callable[[set[str]], Sequence[str]] = lambda commits: ()) -> None:
        """`serves` names the deployments that need one of these commits."""
        self.db = db
        self.blobs = blobs
        self._serves = serves

    # --- repos

    def create_repo(
        self, ctx: Context, name: str, *, kind: str = "model", description: str = "", tags: Mapping[str, str] | None = None
    ) -> Repo:
        """Make a repo with the display name `name`. Raises `Conflict` if there is one of that name."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            return self._repo(c, ctx, self._create_repo(c, ctx, name, kind, description, tags or {}).id, kind)

    def ensure_repo(self, ctx: Context, name: str, *, kind: str = "model") -> Repo:
        """The repo of that name, made now if need be."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = self._find_repo(c, ctx, name, kind) or self._create_repo(c, ctx, name, kind, "", {})
            return reading.repos(c, [row])[0]

    def get_repo(self, ctx: Context, name: str, *, kind: str = "model") -> Repo:
        """Find a repo by slug, display name or id."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            return self._repo(c, ctx, name, kind)

    def repos(self, ctx: Context, *, kind: str | None = "model", limit: int = 1000) -> list[Repo]:
        """The workspace's repos, the latest changed first. Models that are prompts are listed as these."""
        newest = [("updated_ms", False)]
        clauses = [] if kind is None else [Clause("kind", "=", kind)]
        if kind == "model":
            clauses.append(Clause(f"tags.{PROMPT}", "IS NULL"))
        found = self.search_repos(ctx, clauses, order_by=newest, limit=limit)
        if kind == "prompt":
            tagged = [Clause("kind", "=", "model"), Clause(f"tags.{PROMPT}", "IS NOT NULL")]
            found += self.search_repos(ctx, tagged, order_by=newest, limit=limit)
            found = sorted(found, key=lambda repo: repo.updated_ms, reverse=True)[:limit]
        return found

    def search_repos(
        self,
        ctx: Context,
        clauses: Sequence[Clause] = (),
        *,
        order_by: Sequence[tuple[str, bool]] = (),
        limit: int = 100,
        offset: int = 0,
    ) -> list[Repo]:
        """Repos that meet all `clauses`; `order_by` are (key, ascending), then name. For kind = model say so in a clause."""
        ctx.require(Scope.read)
        query = search.repos(ctx.workspace_id, clauses, order_by, sqlite=self.db.kind == "sqlite").limit(limit).offset(offset)
        with self.db.read() as c:
            return reading.repos(c, c.execute(query).all())

    def update_repo(
        self, ctx: Context, name: str, *, kind: str = "model", new_name: str | None = None, description: str | None = None
    ) -> Repo:
        """Rename a repo (its slug follows, where that is free) or describe it."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = self._repo_row(c, ctx, name, kind, lock=True)
            values: dict[str, Any] = {"updated_ms": now_ms()}
            if new_name is not None and new_name != row.name:
                names.check_name(new_name)
                other = self._find_repo(c, ctx, new_name, kind)
                if other is not None and other.id != row.id:
                    raise Conflict(f"There is a {kind} named {new_name!r} already. Choose another name, or delete that one first.")
                values |= {"name": new_name, "slug": self._free_slug(c, ctx, new_name, kind, besides=row.id)}
            if description is not None:
                values["description"] = description
            c.execute(t.repos.update().where(t.repos.c.id == row.id).values(**values))
            return self._repo(c, ctx, row.id, kind)

    def delete_repo(self, ctx: Context, name: str, *, kind: str = "model") -> None:
        """Delete a repo with its commits and versions; the name is free again. Blobs go when nothing else names them.

        Raises `Conflict` while a deployment serves one of its commits: a replica of it could not be started again.
        """
        ctx.require(Scope.write)
        with self.db.read() as c:
            repo = self._repo_row(c, ctx, name, kind).id
            commits = set(c.scalars(sa.select(t.commits.c.id).where(t.commits.c.repo_id == repo)))
        if used := self._serves(commits):
            raise Conflict(f"{name!r} is served by the deployment {used[0]!r}. First: drivetrain undeploy {used[0]}", param="name")
        with self.db.write() as c:
            row = self._repo_row(c, ctx, name, kind, lock=True)
            c.execute(t.versions.delete().where(t.versions.c.repo_id == row.id))
            c.execute(t.repos.delete().where(t.repos.c.id == row.id))

    def set_repo_tag(self, ctx: Context, name: str, key: str, value: str, *, kind: str = "model") -> None:
        ctx.require(Scope.write)
        check_tags({key: value})
        with self.db.write() as c:
            row = self._repo_row(c, ctx, name, kind)
            upsert(c, t.repo_tags, [{"repo_id": row.id, "key": key, "value": value}], key=["repo_id", "key"], update=["value"])
            self._touch(c, row.id)

    def delete_repo_tag(self, ctx: Context, name: str, key: str, *, kind: str = "model") -> None:
        """Remove a tag; a tag that is not there is no error."""
        ctx.require(Scope.write)
        with self.db.write() as c:
            row = self._repo_row(c, ctx, name, kind)
            c.execute(t.repo_tags.delete().where(t.repo_tags.c.repo_id == row.id, t.repo_tags.c.key == key))
            self._touch(c, row.id)

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
        entries = self._entries(files)
        names.check_ref(branch)
        with self.db.write() as c:
            row = self._repo_row(c, ctx, repo, kind, lock=True)
            head = self._ref_commit(c, row.id, "branch", branch)
            if parent is not None and parent != head:
                raise Conflict(
                    f"{row.slug}@{branch} has moved to {(head or 'nothing')[:12]} since {parent[:12]}: read its files again, then commit."
                )
            before = self._files(c, head) if head else {}
            after = dict(entries) if replace else {**before, **entries}
            for path in delete:
                if after.pop(path, None) is None:
                    raise NotFound(f"{row.slug}@{branch} has no file {path!r} to delete.", param="path")
            _check_tree(after)
            if head is not None and after == before:
                return self._commit(c, row.id, head)
            commit_id = self._insert_commit(c, ctx, row.id, head, message, after)
            upsert(
                c,
                t.refs,
                [{"repo_id": row.id, "kind": "branch", "name": branch, "commit_id": commit_id}],
                key=["repo_id", "kind", "name"],
                update=["commit_id"],
            )
            self._touch(c, row.id)
            return self._commit(c, row.id, commit_id)

    def check_files(self, files: Mapping[str, str]) -> None:
        """Raise `Invalid` if these could not be committed: a bad path, a blob that is not stored."""
        _check_tree(self._entries(files))

    def files(self, commit_id: str) -> dict[str, FileEntry]:
        """The manifest of a commit: path → file. Commit ids come from verbs that have checked the workspace."""
        with self.db.read() as c:
            found = self._files(c, commit_id)
            if not found and c.scalar(sa.select(t.commits.c.id).where(t.commits.c.id == commit_id)) is None:
                raise NotFound(f"There is no commit {commit_id[:12]}: its model was deleted.")
            return found

    def commits(self, ctx: Context, repo: str, *, ref: str = MAIN, limit: int = 100, kind: str = "model") -> list[Commit]:
        """The history from `ref` backwards."""
        ctx.require(Scope.read)
        with self.db.read() as c:
            row = self._repo_row(c, ctx, repo, kind)
            at: str | None = self._resolve_ref(c, row, ref)[0]
            chain: list[Commit] = []
            while at is not None and len(chain) < limit:
                chain.append(self._commit(c, row.id, at))
                at = chain[-1].parent
            return chain

    def refs(self, ctx: Context, repo: str, *, kind: str = "model") -> list[Ref]:
        ctx.require(Scope.read)
        with self.db.read() as c:
            row = self._repo_row(c, ctx, repo, kind)
            query = sa.select(t.refs).where(t.refs.c.repo_id == row.id).order_by(t.refs.c.kind, t.refs.c.name)
            return [Ref(r.kind, r.name, r.commit_id) for r in c.execute(query)]

    def set_ref(self, ctx: Context, repo: str, ref_kind: str, name: str, target: str = MAIN, *, kind: str = "model") -> Ref:
        """Let a branch or tag name the commit that `target` (any ref) names."""
        ctx.require(Scope.write)
        if ref_kind not in ("branch", "tag"):
            raise Invalid(f"A ref is a 'branch' or a 'tag', not {ref_kind!r}.", param="kind")
        names.check_ref(name)
        with self.db.write() as c:
            row = self._repo_row(c, ctx, repo, kind)
            commit_id = self._resolve_ref(c, row, target)[0]
            value = {"repo_id": row.id, "kind": ref_kind, "name": name, "commit_id": commit_id}
            upsert(c, t.refs, [value], key=["repo_id", "kind", "name"], update=["commit_id"])
            return Ref(ref_kind, name, commit_id)

    def delete_ref(self, ctx: Context, repo: str, ref_kind: str, name: str, *, kind: str = "model") -> None:
        ctx.require(Scope.write)
        if (ref_kind, name) == ("branch", MAIN):
            raise Invalid("The branch 'main' cannot be deleted. Delete the repo instead.", param="name")
        with self.db.write() as c:
            row = self._repo_row(c, ctx, repo, kind)
            where = (t.refs.c.repo_id == row.id, t.refs.c.kind == ref_kind, t.refs.c.name == name)
            if c.execute(t.refs.delete().where(*where)).rowcount == 0:
                raise NotFound(f"{row.slug} has no {ref_kind} {name!r}.")

    # --- within a transaction

    def _create_repo(self, c: sa.Connection, ctx: Context, name: str, kind: str, description: str, tags: Mapping[str, str]) -> sa.Row[Any]:
        if kind not in KINDS:
            raise Invalid(f"{kind!r} is no kind of repo: use one of {', '.join(KINDS)}.", param="kind")
        names.check_name(name)
        check_tags(tags)
        if self._find_repo(c, ctx, name, kind) is not None:
            raise Conflict(f"There is a {kind} named {name!r} already. Choose another name, or delete that one first.", param="name")
        now = now_ms()
        values = {
            "id": uuid7(),
            "workspace_id": ctx.workspace_id,
            "kind": kind,
            "slug": self._free_slug(c, ctx, name, kind),
            "name": name,
            "description": description,
            "next_version": 1,
            "created_ms": now,
            "updated_ms": now,
        }
        try:
            c.execute(t.repos.insert().values(**values))
        except sa.exc.IntegrityError:  # somebody made it at this very moment (PostgreSQL)
            raise Conflict(f"There is a {kind} named {name!r} already.", param="name") from None
        for key, value in tags.items():
            c.execute(t.repo_tags.insert().values(repo_id=values["id"], key=key, value=value))
        return c.execute(sa.select(t.repos).where(t.repos.c.id == values["id"])).one()

    def _free_slug(self, c: sa.Connection, ctx: Context, name: str, kind: str, *, besides: str = "") -> str:
        slug = names.slug_of(name)
        where = (t.repos.c.workspace_id == ctx.workspace_id, t.repos.c.kind == kind, t.repos.c.slug == slug, t.repos.c.id != besides)
        if c.scalar(sa.select(t.repos.c.id).where(*where)) is None:
            return slug
        return f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"

    def _find_repo(self, c: sa.Connection, ctx: Context, name: str, kind: str, *, lock: bool = False) -> sa.Row[Any] | None:
        r = t.repos.c
        query = sa.select(t.repos).where(r.workspace_id == ctx.workspace_id, r.kind == kind)
        query = query.where(sa.or_(r.name == name, r.slug == name, r.id == name))
        # A display name is what people typed: it wins over another repo's slug of the same letters.
        query = query.order_by(sa.case((r.name == name, 0), (r.slug == name, 1), else_=2)).limit(1)
        return c.execute(query.with_for_update() if lock else query).one_or_none()

    def _repo_row(self, c: sa.Connection, ctx: Context, name: str, kind: str, *, lock: bool = False) -> sa.Row[Any]:
        row = self._find_repo(c, ctx, name, kind, lock=lock)
        if row is None:
            raise NotFound(
                f"There is no {kind} {name!r} in workspace {ctx.workspace!r}. See what there is with: drivetrain models", param="name"
            )
        return row

    def _repo(self, c: sa.Connection, ctx: Context, name: str, kind: str) -> Repo:
        return reading.repos(c, [self._repo_row(c, ctx, name, kind)])[0]

    def _touch(self, c: sa.Connection, repo_id: str) -> None:
        c.execute(t.repos.update().where(t.repos.c.id == repo_id).values(updated_ms=now_ms()))

    def _alias(self, c: sa.Connection, repo_id: str, alias: str) -> int | None:
        where = (t.aliases.c.repo_id == repo_id, t.aliases.c.alias == alias)
        number: int | None = c.scalar(sa.select(t.aliases.c.number).where(*where))
        return number

    def _resolve_ref(self, c: sa.Connection, repo: sa.Row[Any], ref: str) -> tuple[str, int | None]:
        """(commit id, version number or None). Alias, number, `latest`, tag, branch, commit: in that order."""
        v = t.versions.c
        if (number := self._alias(c, repo.id, ref)) is None:
            number = names.version_number(ref)
            if number is not None and c.scalar(sa.select(v.id).where(v.repo_id == repo.id, v.number == number)) is None:
                number = None
        if ref == "latest":
            number = c.scalar(sa.select(sa.func.max(v.number)).where(v.repo_id == repo.id, v.status == "READY"))
            head = self._ref_commit(c, repo.id, "branch", MAIN)
            if number is None and head is None:
                raise NotFound(f"{repo.slug} is empty: it has no version and no file yet.", param="model")
            if number is None and head is not None:
                return head, None
        if number is not None:
            return str(c.scalar(sa.select(v.commit_id).where(v.repo_id == repo.id, v.number == number))), number
        for kind in ("tag", "branch"):
            if (commit_id := self._ref_commit(c, repo.id, kind, ref)) is not None:
                return commit_id, None
        if re.fullmatch(r"[0-9a-f]{7,64}", ref):
            m = t.commits.c
            found = c.scalars(sa.select(m.id).where(m.repo_id == repo.id, m.id.like(f"{ref}%")).limit(2)).all()
            if len(found) == 1:
                return found[0], None
        raise NotFound(
            f"{repo.slug} has no alias, version, tag, branch or commit {ref!r}. See: drivetrain models show {repo.slug}", param="model"
        )

    def _ref_commit(self, c: sa.Connection, repo_id: str, kind: str, name: str) -> str | None:
        where = (t.refs.c.repo_id == repo_id, t.refs.c.kind == kind, t.refs.c.name == name)
        commit_id: str | None = c.scalar(sa.select(t.refs.c.commit_id).where(*where))
        return commit_id

    def _commit(self, c: sa.Connection, repo_id: str, commit_id: str) -> Commit:
        row = c.execute(sa.select(t.commits).where(t.commits.c.id == commit_id, t.commits.c.repo_id == repo_id)).one_or_none()
        if row is None:
            raise NotFound(f"This model has no commit {commit_id[:12]!r}.", param="commit")
        return reading.commit(row)

    def _files(self, c: sa.Connection, commit_id: str) -> dict[str, FileEntry]:
        f = t.commit_files.c
        rows = c.execute(sa.select(f.path, f.sha256, f.size).where(f.commit_id == commit_id).order_by(f.path))
        return {path: FileEntry(sha256, size) for path, sha256, size in rows}

    def _entries(self, files: Mapping[str, str]) -> dict[str, FileEntry]:
        digests = {path: digest.lower() for path, digest in files.items()}
        for path in digests:
            names.check_path(path)
        self.blobs.known(digests.values())  # counts as seen: a sweep that began a moment ago leaves them until the commit names them
        sizes: dict[str, int] = {}
        for path, digest in digests.items():
            if digest not in sizes:
                try:
                    sizes[digest] = self.blobs.stat(digest).size
                except NotFound:
                    raise Invalid(
                        f"The content of {path!r} ({digest[:12]}…) was not uploaded. Upload it, then commit.", param="files"
                    ) from None
        return {path: FileEntry(digest, sizes[digest]) for path, digest in digests.items()}

    def _insert_commit(
        self, c: sa.Connection, ctx: Context, repo_id: str, parent: str | None, message: str, files: Mapping[str, FileEntry]
    ) -> str:
        now = now_ms()
        manifest = [[path, entry.sha256] for path, entry in sorted(files.items())]
        body = {"repo": repo_id, "parent": parent, "message": message, "time": now, "files": manifest}
        commit_id = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        c.execute(
            t.commits.insert().values(
                id=commit_id,
                repo_id=repo_id,
                parent=parent,
                message=message,
                author=ctx.user_name,
                files=len(files),
                bytes=sum(entry.size for entry in files.values()),
                created_ms=now,
            )
        )
        if files:
            rows = [{"commit_id": commit_id, "path": path, "sha256": e.sha256, "size": e.size} for path, e in files.items()]
            c.execute(t.commit_files.insert(), rows)
        return commit_id


def check_tags(tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        if not key or len(key) > 250:
            raise Invalid(f"A tag's key has 1 to 250 characters; this one has {len(key)}.", param="key")
        if len(value) > 100_000:
            raise Invalid(f"The value of tag {key!r} is longer than 100000 characters.", param="value")


def _check_tree(files: Mapping[str, FileEntry]) -> None:
    """No path is a file and a folder at once."""
    for path in files:
        parts = path.split("/")
        for end in range(1, len(parts)):
            if (folder := "/".join(parts[:end])) in files:
                raise Invalid(f"{folder!r} cannot be a file and a folder (of {path!r}) at once.", param="files")
