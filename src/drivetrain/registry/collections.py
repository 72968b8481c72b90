"""Collections: repos that have a name and a type in a project. A sequence has versions of its own; a portfolio links to others'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry import committing, finders, loading
from drivetrain.registry import tables as t
from drivetrain.registry.committing import check_tags
from drivetrain.registry.model import Repo
from drivetrain.registry.names import slug_of
from drivetrain.registry.service import Registry
from drivetrain.store import maps
from drivetrain.store.ids import now_ms, uuid7

SOURCE = "artifact:"
"""With the id of the version that was logged or linked: where a version came from."""
_SAFE = str.maketrans("/:@", "---")
_r = t.repos.c


def is_registry(project: str) -> bool:
    """Whether what is linked into this project becomes a registered model, as wandb's own registries have it."""
    return project == "model-registry" or project.startswith("wandb-registry")


class Collections:
    """The verbs. A project is its id and its name."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.db = registry.db

    def of(self, ctx: Context, project_id: str, *, type: str | None = None) -> list[Repo]:  # noqa: A002  the field's name
        """Those of a project, the first made first."""
        ctx.require(Scope.read)
        query = sa.select(t.repos).where(_r.workspace_id == ctx.workspace_id, _r.project_id == project_id)
        if type is not None:
            query = query.where(_r.type == type)
        with self.db.read() as c:
            return loading.repos(c, c.execute(query.order_by(_r.created_ms, _r.id)).all())

    def find(self, ctx: Context, project_id: str, name: str) -> Repo:
        ctx.require(Scope.read)
        with self.db.read() as c:
            row = _find(c, ctx, project_id, name)
            if row is None:
                raise _absent(name)
            return loading.repos(c, [row])[0]

    def get(self, ctx: Context, repo_id: str) -> Repo:
        ctx.require(Scope.read)
        with self.db.read() as c:
            return loading.repos(c, [_get(c, ctx, repo_id)])[0]

    def update(
        self,
        ctx: Context,
        repo_id: str,
        *,
        name: str | None = None,
        type: str | None = None,  # noqa: A002  the field's name
        description: str | None = None,
        tags: Sequence[str] | None = None,
    ) -> Repo:
        """Change its name or type in the project, its description, or its tags that have no value."""
        ctx.require(Scope.write)
        given = {"collection": name, "type": type, "description": description}
        with self.db.write() as c:
            found = _get(c, ctx, repo_id)
            if name is not None:
                _check_name(name)
                if (other := _find(c, ctx, found.project_id, name)) is not None and other.id != repo_id:
                    raise Conflict(f"The project has an artifact {name!r} already: choose another name.")
            values = {key: value for key, value in given.items() if value is not None}
            c.execute(t.repos.update().where(_r.id == repo_id).values(**values, updated_ms=now_ms()))
            if tags is not None:
                set_bare_tags(c, t.repo_tags, repo_id, tags)
            return loading.repos(c, [_get(c, ctx, repo_id)])[0]

    def delete(self, ctx: Context, repo_id: str) -> Repo:
        """Delete it with its versions. Of a registered model, what was linked goes, and versions that came another way stay. Raises
        `Conflict` while a deployment serves one."""
        found = self.get(ctx, repo_id)
        versions = self.registry.versions(ctx, repo_id, kind=found.kind) if found.portfolio else []
        if all(one.source.startswith(SOURCE) for one in versions):
            self.registry.delete_repo(ctx, repo_id, kind=found.kind)
            return found
        for one in versions:
            if one.source.startswith(SOURCE):
                self.registry.delete_version(ctx, repo_id, one.number, kind=found.kind)
        with self.db.write() as c:
            nowhere = {"project_id": None, "collection": None, "type": "", "portfolio": False}
            c.execute(t.repos.update().where(_r.id == repo_id, _r.workspace_id == ctx.workspace_id).values(**nowhere))
        return found

    def ensure(self, ctx: Context, project: tuple[str, str], name: str, type_: str, *, portfolio: bool) -> Repo:
        """The project's collection of that name, made now if need be. Raises `Invalid` if it is of another type or sort."""
        _check_name(name)
        try:
            found = self.find(ctx, project[0], name)
        except NotFound:
            found = self._make(ctx, project, name, type_[:128], portfolio)
        if found.type != type_[:128]:
            raise Invalid(f"The artifact {name!r} has type {found.type!r}: it cannot also have {type_!r}.", param="type")
        if found.portfolio != portfolio:
            holds = "holds links to versions" if found.portfolio else "has versions of its own"
            raise Invalid(f"The collection {name!r} {holds}: choose another name.", param="name")
        return found

    def _make(self, ctx: Context, project: tuple[str, str], name: str, type_: str, portfolio: bool) -> Repo:
        project_id, project_name = project
        registered = portfolio and is_registry(project_name)
        kind = "model" if registered or (type_ == "model" and not portfolio) else "artifact"
        place = {"project_id": project_id, "collection": name, "type": type_, "portfolio": portfolio}
        long = f"{project_name}--{name}"[:200].translate(_SAFE)
        # A registered model has the collection's own name, unless another collection is already there. Two projects can mean one name:
        # "a--b" of a, and "b" of "a--"; and somebody may have made a repo of that name by hand.
        own = name.translate(_SAFE) if registered else None
        for candidate in (*([own] if own else []), long, f"{slug_of(long)[:80]}-{uuid7()[-10:]}"):
            try:
                with self.db.write() as c:
                    if (there := _find(c, ctx, project_id, name)) is not None:
                        return loading.repos(c, [there])[0]
                    row = finders.find_repo(c, ctx, candidate, kind, lock=True) if candidate == own else None
                    if row is None:
                        row = committing.add_repo(c, ctx, candidate, kind, "", {})
                    elif row.project_id is not None:
                        continue
                    c.execute(t.repos.update().where(_r.id == row.id).values(**place))
                    return loading.repos(c, [_get(c, ctx, row.id)])[0]
            except (Conflict, sa.exc.IntegrityError):  # taken, or somebody made it at this very moment
                continue
        return self.find(ctx, project_id, name)


def bare_tags(tags: Mapping[str, str]) -> list[str]:
    """Those without a value, as collections and their versions have them in projects."""
    return sorted(key for key, value in tags.items() if not value)


def set_bare_tags(c: sa.Connection, table: sa.Table, owner: str, tags: Sequence[str]) -> None:
    """Let these be its tags without a value. Those with one stay."""
    check_tags(dict.fromkeys(tags, ""))
    there = maps.read(c, table, [owner]).get(owner, {})
    maps.drop(c, table, owner, *(key for key in bare_tags(there) if key not in tags))
    maps.put(c, table, owner, dict.fromkeys(tags, ""), keep=True)


def _check_name(name: str) -> None:
    if not name or len(name) > 128 or "/" in name or ":" in name:
        raise Invalid(f"{name[:80]!r} cannot be the name of an artifact: use up to 128 characters without '/' and ':'.", param="name")


def _find(c: sa.Connection, ctx: Context, project_id: str, name: str) -> sa.Row[Any] | None:
    mine = (_r.workspace_id == ctx.workspace_id, _r.project_id == project_id, _r.collection == name)
    return c.execute(sa.select(t.repos).where(*mine)).one_or_none()


def _get(c: sa.Connection, ctx: Context, repo_id: str) -> sa.Row[Any]:
    mine = (_r.workspace_id == ctx.workspace_id, _r.id == repo_id, _r.project_id.is_not(None))
    row = c.execute(sa.select(t.repos).where(*mine)).one_or_none()
    if row is None:
        raise _absent(repo_id)
    return row


def _absent(called: str) -> NotFound:
    return NotFound(f"There is no artifact {called[:80]!r} in this project.")
