"""Rows that several verbs look for, within a transaction: repos by name, what a ref means, commits, versions."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.registry import loading, names
from drivetrain.registry import tables as t
from drivetrain.registry.model import Commit, Draft, FileEntry, Version

MAIN = "main"
_r, _k, _v = t.repos.c, t.commits.c, t.versions.c


def find_repo(c: sa.Connection, ctx: Context, name: str, kind: str, *, lock: bool = False) -> sa.Row[Any] | None:
    """By display name, slug or id."""
    query = sa.select(t.repos).where(_r.workspace_id == ctx.workspace_id, _r.kind == kind)
    query = query.where(sa.or_(_r.name == name, _r.slug == name, _r.id == name))
    # A display name is what people typed: it wins over another repo's slug of the same letters.
    query = query.order_by(sa.case((_r.name == name, 0), (_r.slug == name, 1), else_=2)).limit(1)
    return c.execute(query.with_for_update() if lock else query).one_or_none()


def repo_row(c: sa.Connection, ctx: Context, name: str, kind: str, *, lock: bool = False) -> sa.Row[Any]:
    row = find_repo(c, ctx, name, kind, lock=lock)
    if row is None:
        raise NotFound(
            f"There is no {kind} {name!r} in workspace {ctx.workspace!r}. See what there is with: drivetrain models", param="name"
        )
    return row


def has_commit(repo_id: str) -> sa.ColumnElement[bool]:
    """Of a commit: it was made in the repo, or a version of the repo links to it."""
    return sa.or_(_k.repo_id == repo_id, _k.id.in_(sa.select(_v.commit_id).where(_v.repo_id == repo_id)))


def commit(c: sa.Connection, repo_id: str, commit_id: str) -> Commit:
    row = c.execute(sa.select(t.commits).where(_k.id == commit_id, has_commit(repo_id))).one_or_none()
    if row is None:
        raise NotFound(f"This model has no commit {commit_id[:12]!r}.", param="commit")
    return loading.commit(row)


def files(c: sa.Connection, commit_id: str) -> dict[str, FileEntry]:
    f = t.commit_files.c
    rows = c.execute(sa.select(f.path, f.sha256, f.size).where(f.commit_id == commit_id).order_by(f.path))
    return {path: FileEntry(sha256, size) for path, sha256, size in rows}


def version(c: sa.Connection, repo: sa.Row[Any], number: int) -> Version:
    rows = c.execute(loading.select_versions().where(_v.repo_id == repo.id, _v.number == number)).all()
    if not rows:
        latest = c.scalar(sa.select(sa.func.max(_v.number)).where(_v.repo_id == repo.id))
        advice = f"Its latest is {latest}." if latest else "It has none yet."
        raise NotFound(f"{repo.slug} has no version {number}. {advice}", param="version")
    return loading.versions(c, rows)[0]


def alias(c: sa.Connection, repo_id: str, name: str) -> int | None:
    """The number of the version that has the alias. Aliases that only other protocols can have are unknown here."""
    if not names.is_alias(name):
        return None
    number: int | None = c.scalar(sa.select(t.aliases.c.number).where(t.aliases.c.repo_id == repo_id, t.aliases.c.alias == name))
    return number


def no_alias(c: sa.Connection, repo: sa.Row[Any], name: str) -> NotFound:
    known = c.scalars(sa.select(t.aliases.c.alias).where(t.aliases.c.repo_id == repo.id).order_by(t.aliases.c.alias)).all()
    has = ", ".join(one for one in known if names.is_alias(one))
    return NotFound(f"{repo.slug} has no alias {name!r}. It has {has or 'none yet'}.", param="alias")


def ref(c: sa.Connection, repo_id: str, kind: str, name: str) -> str | None:
    """The commit that a branch or tag names."""
    where = (t.refs.c.repo_id == repo_id, t.refs.c.kind == kind, t.refs.c.name == name)
    commit_id: str | None = c.scalar(sa.select(t.refs.c.commit_id).where(*where))
    return commit_id


def resolve(c: sa.Connection, repo: sa.Row[Any], text: str) -> tuple[str, int | None]:
    """(commit id, version number or None). Alias, number, `latest`, tag, branch, commit: in that order."""
    if (number := alias(c, repo.id, text)) is None:
        number = names.version_number(text)
        if number is not None and c.scalar(sa.select(_v.id).where(_v.repo_id == repo.id, _v.number == number)) is None:
            number = None
    if text == "latest":
        number = c.scalar(sa.select(sa.func.max(_v.number)).where(_v.repo_id == repo.id, _v.status == "READY"))
        head = ref(c, repo.id, "branch", MAIN)
        if number is None and head is None:
            raise NotFound(f"{repo.slug} is empty: it has no version and no file yet.", param="model")
        if number is None and head is not None:
            return head, None
    if number is not None:
        return str(c.scalar(sa.select(_v.commit_id).where(_v.repo_id == repo.id, _v.number == number))), number
    for kind in ("tag", "branch"):
        if (commit_id := ref(c, repo.id, kind, text)) is not None:
            return commit_id, None
    if re.fullmatch(r"[0-9a-f]{7,64}", text):
        found = c.scalars(sa.select(_k.id).where(has_commit(repo.id), _k.id.like(f"{text}%")).limit(2)).all()
        if len(found) == 1:
            return found[0], None
    raise NotFound(
        f"{repo.slug} has no alias, version, tag, branch or commit {text!r}. See: drivetrain models show {repo.slug}", param="model"
    )


def draft(c: sa.Connection, ctx: Context, draft_id: str) -> Draft:
    query = sa.select(t.drafts).where(t.drafts.c.id == draft_id, t.drafts.c.workspace_id == ctx.workspace_id)
    row = c.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no version {draft_id[:64]!r} on its way in: it was committed or deleted.")
    return loading.draft(row)
