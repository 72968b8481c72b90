"""The files of deleted versions go, and nothing that anybody has, on both databases."""

from __future__ import annotations

import pytest

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context
from drivetrain.registry.forgetting import forget
from drivetrain.registry.service import Registry
from tests.registry.conftest import put


def version(registry: Registry, ctx: Context, text: str) -> str:
    """A new version of `net` with this text and a file that all have; its commit."""
    registry.ensure_repo(ctx, "net")
    commit = registry.commit(ctx, "net", {"model.bin": put(registry, text), "shared.txt": put(registry, "shared")}, message=text)
    registry.register(ctx, "net", commit.id)
    return commit.id


def test_a_deleted_versions_files_go_and_its_history_closes(registry: Registry, ctx: Context) -> None:
    first, second, third = (version(registry, ctx, text) for text in ("one", "two", "three"))
    registry.delete_version(ctx, "net", 2)
    assert put(registry, "two") in registry.live_blobs()
    assert forget(registry.db, set, older_than_s=3600) == 0  # too early
    assert forget(registry.db, lambda: {second}, older_than_s=-1) == 0  # it is deployed
    assert forget(registry.db, set, older_than_s=-1) == 1
    assert forget(registry.db, set, older_than_s=-1) == 0
    assert registry.live_blobs() == {put(registry, text) for text in ("one", "three", "shared")}
    assert [commit.id for commit in registry.commits(ctx, "net")] == [third, first]
    with pytest.raises(NotFound):
        registry.files(second)
    registry.delete_version(ctx, "net", 3)
    assert forget(registry.db, set, older_than_s=-1) == 1
    assert [ref.commit_id for ref in registry.refs(ctx, "net")] == [first]  # main goes back
    registry.delete_version(ctx, "net", 1)
    assert forget(registry.db, set, older_than_s=-1) == 1
    assert (registry.live_blobs(), registry.refs(ctx, "net")) == (set(), [])
    version(registry, ctx, "four")
    assert registry.versions(ctx, "net")[0].number == 4


def test_what_something_else_has_stays(registry: Registry, ctx: Context) -> None:
    tagged, twice = version(registry, ctx, "tagged"), version(registry, ctx, "twice")
    registry.set_ref(ctx, "net", "tag", "paper", tagged)
    registry.register(ctx, "net", twice)
    loose = registry.commit(ctx, "net", {"notes.md": put(registry, "notes")}, message="no version")
    registry.delete_version(ctx, "net", 1)
    registry.delete_version(ctx, "net", 2)
    assert forget(registry.db, set, older_than_s=-1) == 0
    registry.delete_version(ctx, "net", 3)
    registry.delete_ref(ctx, "net", "tag", "paper")
    assert forget(registry.db, set, older_than_s=-1) == 2
    assert [commit.id for commit in registry.commits(ctx, "net")] == [loose.id]
    assert registry.live_blobs() == {put(registry, "notes")}
