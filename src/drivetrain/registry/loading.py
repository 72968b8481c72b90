"""Rows to nouns: reads many repos or versions with their tags and aliases in a fixed number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.registry import tables as t
from drivetrain.registry.model import Commit, Draft, Repo, Version
from drivetrain.registry.names import is_alias
from drivetrain.store import maps
from drivetrain.store.sql import chunked


def repos(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Repo]:
    """`rows` are whole rows of the table `repos`."""
    tags = maps.read(connection, t.repo_tags, (row.id for row in rows))
    aliases: dict[str, dict[str, int]] = defaultdict(dict)
    latest: dict[str, int] = {}
    for ids in chunked(row.id for row in rows):
        for alias in connection.execute(sa.select(t.aliases).where(t.aliases.c.repo_id.in_(ids)).order_by(t.aliases.c.alias)):
            if is_alias(alias.alias):
                aliases[alias.repo_id][alias.alias] = alias.number
        v = t.versions.c
        found = sa.select(v.repo_id, sa.func.max(v.number)).where(v.repo_id.in_(ids)).group_by(v.repo_id)
        latest.update((repo_id, number) for repo_id, number in connection.execute(found))
    return [
        Repo(
            id=row.id,
            workspace_id=row.workspace_id,
            kind=row.kind,
            slug=row.slug,
            name=row.name,
            description=row.description,
            project_id=row.project_id,
            collection=row.collection,
            type=row.type,
            portfolio=row.portfolio,
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            latest=latest.get(row.id),
            tags=tags.get(row.id, {}),
            aliases=aliases.get(row.id, {}),
        )
        for row in rows
    ]


def select_versions() -> sa.Select[Any]:
    """Versions with the slug and name of their repo, as `versions` wants them."""
    return sa.select(t.versions, t.repos.c.slug.label("repo_slug"), t.repos.c.name.label("repo_name")).join(
        t.repos, t.repos.c.id == t.versions.c.repo_id
    )


def versions(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Version]:
    """`rows` come from `select_versions()`."""
    tags = maps.read(connection, t.version_tags, (row.id for row in rows))
    aliases: dict[str, list[str]] = defaultdict(list)
    for ids in chunked(row.id for row in rows):
        for alias in connection.execute(sa.select(t.aliases).where(t.aliases.c.version_id.in_(ids)).order_by(t.aliases.c.alias)):
            if is_alias(alias.alias):
                aliases[alias.version_id].append(alias.alias)
    return [
        Version(
            id=row.id,
            workspace_id=row.workspace_id,
            repo_id=row.repo_id,
            repo=row.repo_slug,
            name=row.repo_name,
            number=row.number,
            commit_id=row.commit_id,
            run_id=row.run_id,
            model_id=row.model_id,
            source=row.source,
            description=row.description,
            status=row.status,
            status_message=row.status_message,
            stage=row.stage,
            user=row.user_name,
            origin_id=row.origin_id,
            digest=row.digest,
            metadata=row.metadata,
            manifest=row.manifest,
            step=row.step,
            files=row.files,
            bytes=row.bytes,
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            tags=tags.get(row.id, {}),
            aliases=tuple(aliases.get(row.id, ())),
        )
        for row in rows
    ]


def commit(row: sa.Row[Any]) -> Commit:
    return Commit(
        id=row.id,
        repo_id=row.repo_id,
        parent=row.parent,
        message=row.message,
        author=row.author,
        created_ms=row.created_ms,
        files=row.files,
        bytes=row.bytes,
    )


def draft(row: sa.Row[Any]) -> Draft:
    return Draft(
        id=row.id,
        repo_id=row.repo_id,
        digest=row.digest,
        description=row.description,
        metadata=row.metadata,
        tags=dict.fromkeys(row.tags, ""),
        aliases=tuple(row.aliases),
        run_id=row.run_id,
        step=row.step,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
    )
