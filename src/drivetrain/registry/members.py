"""Versions as members of collections: their own, and the portfolios that link to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from drivetrain.identity.model import Context
from drivetrain.registry import loading
from drivetrain.registry import tables as t
from drivetrain.registry.model import Repo, Version
from drivetrain.store.sql import chunked

LATEST = "latest"
_r, _v, _l = t.repos.c, t.versions.c, t.aliases.c
_origin = t.versions.alias("origin")
_o = _origin.c
stands_for: sa.ColumnElement[str] = _o.id
"""In `select`: the id of what a member stands for."""


@dataclass(frozen=True, slots=True)
class Member:
    """A version as a member of a collection: its own, or a portfolio that links to it. `number` and `aliases` are those it has there."""

    collection: Repo
    artifact: Version
    number: int
    aliases: tuple[str, ...]
    created_ms: int


def select(ctx: Context) -> sa.Select[Any]:
    """Versions as members: `id` is the version's in the collection, `artifact_id` that of what it stands for."""
    query = sa.select(_v.id, _v.repo_id, _v.number, _v.created_ms, _o.id.label("artifact_id"))
    # What was committed another way, and links to what was deleted, have no manifest: they are the registry's alone.
    query = query.join(_origin, _o.id == sa.func.coalesce(_v.origin_id, _v.id))
    return query.where(_v.workspace_id == ctx.workspace_id, _o.manifest.is_not(None))


def latest(c: sa.Connection, repo_id: str) -> str | None:
    """The version that was logged or linked last, also if it was an old one again; where that was deleted, the newest."""
    v = t.versions.alias("v")
    stands = sa.select(_o.id).where(_o.id == sa.func.coalesce(v.c.origin_id, v.c.id), _o.manifest.is_not(None)).exists()
    named = sa.select(_l.version_id).where(_l.repo_id == repo_id, _l.alias == LATEST)
    query = sa.select(v.c.id).where(v.c.repo_id == repo_id, stands)
    found: str | None = c.scalar(query.order_by(sa.case((v.c.id.in_(named), 0), else_=1), v.c.number.desc()).limit(1))
    return found


def read(c: sa.Connection, query: sa.Select[Any]) -> list[Member]:
    rows = c.execute(query).all()
    repos: dict[str, Repo] = {}
    versions: dict[str, Version] = {}
    aliases: dict[str, list[str]] = {}
    for some in chunked({row.repo_id for row in rows}):
        found = loading.repos(c, c.execute(sa.select(t.repos).where(_r.id.in_(some))).all())
        repos.update((one.id, one) for one in found)
    for some in chunked({row.artifact_id for row in rows}):
        whole = loading.versions(c, c.execute(loading.select_versions().where(_v.id.in_(some))).all())
        versions.update((one.id, one) for one in whole)
    for repo_id in repos:
        if (newest := latest(c, repo_id)) is not None:
            aliases[newest] = [LATEST]
    for some in chunked(row.id for row in rows):
        named = sa.select(_l.version_id, _l.alias).where(_l.version_id.in_(some), _l.alias != LATEST)
        for version_id, alias in c.execute(named):
            aliases.setdefault(version_id, []).append(alias)
    return [
        Member(repos[row.repo_id], versions[row.artifact_id], row.number, tuple(sorted(aliases.get(row.id, ()))), row.created_ms)
        for row in rows
    ]
