"""Artifacts: versions by content, aliases, what belongs to whom, and what a sweep must keep."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.registry import tables_artifacts as a
from drivetrain.registry.forgetting import PENDING_MS, forget
from drivetrain.registry.incoming import Incoming
from drivetrain.registry.service import Registry
from drivetrain.store.blobs import Blob, blobs_table
from drivetrain.store.ids import now_ms

PROJECT = ("1", "my project")


def logged(store: Incoming, ctx: Context, digest: str, blob: Blob, **more: str) -> str:
    made = store.create(ctx, PROJECT, "set", "data", digest, run_id=None, client_id=more.get("client"))
    store.arrived(ctx, made.id, str(blob.md5), blob)
    return store.commit(ctx, made.id, {"a": blob.sha256}, size=blob.size, entries=1, manifest=blob.sha256).id


def test_versions_are_registered_and_named(registry: Registry, ctx: Context) -> None:
    store = Incoming(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    first, second = logged(store, ctx, "d1", blob), logged(store, ctx, "d2", blob)
    assert first == store.create(ctx, PROJECT, "set", "data", "d1", run_id=None, aliases=["a.b"]).id
    held = store.find_collection(ctx, PROJECT[0], "set")
    assert [one.number for one in registry.versions(ctx, str(held.repo_id), kind="artifact")] == [2, 1]
    assert store.member(ctx, held, "a.b").artifact.id == store.member(ctx, held, "latest").artifact.id == first
    assert store.member(ctx, held, "v1").artifact.id == second
    with pytest.raises(Invalid):
        store.alias(ctx, first, held, ["v1"])
    with pytest.raises(Conflict):
        store.delete(ctx, first, aliases=False)
    store.delete(ctx, first, aliases=True)
    assert store.member(ctx, held, "latest").artifact.id == second
    with pytest.raises(NotFound):
        store.member(ctx, held, "v0")
    assert logged(store, ctx, "d3", blob) == store.member(ctx, held, "v2").artifact.id


def test_another_workspace_knows_nothing_of_it(registry: Registry, ctx: Context, other: Context) -> None:
    store = Incoming(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    artifact = logged(store, ctx, "d1", blob)
    assert store.known(ctx, [str(blob.md5)]) == {blob.md5: blob.sha256} and store.known(other, [str(blob.md5)]) == {}
    with pytest.raises(NotFound):
        store.get(other, artifact)
    assert store.collections(other, PROJECT[0]) == []


def test_a_sweep_keeps_what_is_on_its_way_in(registry: Registry, ctx: Context) -> None:
    store = Incoming(registry)
    file, part, manifest, stray = (registry.blobs.put([one], md5=True) for one in (b"file", b"part", b"manifest", b"stray"))
    made = store.create(ctx, PROJECT, "set", "data", "d", run_id=None)
    store.arrived(ctx, made.id, str(file.md5), file)
    store.put_part(ctx, store.begin_parts(ctx, made.id, "0" * 32, 1), 1, part)
    store.put_manifest(ctx, store.add_manifest(ctx, made.id, "FULL", None), manifest)
    live = registry.live_blobs()
    assert {file.sha256, part.sha256, manifest.sha256} <= live and stray.sha256 not in live
    store.delete(ctx, made.id, aliases=False)
    assert not registry.live_blobs()


def test_what_was_begun_and_never_committed_goes_after_a_week(registry: Registry, ctx: Context) -> None:
    store = Incoming(registry)
    file, gone = (registry.blobs.put([one], md5=True) for one in (b"file", b"gone"))
    whole, old, young = logged(store, ctx, "d1", file), *(store.create(ctx, PROJECT, "set", "data", d, run_id=None).id for d in "23")
    store.arrived(ctx, old, str(gone.md5), gone)
    with registry.db.write() as c:
        c.execute(a.artifacts.update().where(a.artifacts.c.id.in_([whole, old])).values(updated_ms=now_ms() - PENDING_MS - 1))
        c.execute(blobs_table.delete().where(blobs_table.c.sha256 == gone.sha256))
    forget(registry.db, set, older_than_s=0)
    assert {store.get(ctx, one).state for one in (whole, young)} == {"COMMITTED", "PENDING"}
    with pytest.raises(NotFound):
        store.get(ctx, old)
    with registry.db.read() as c:
        assert c.scalars(sa.select(a.md5s.c.md5)).all() == [file.md5]


def test_a_repo_that_was_deleted_takes_its_artifacts(registry: Registry, ctx: Context) -> None:
    store = Incoming(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    logged(store, ctx, "d1", blob)
    registry.delete_repo(ctx, str(store.find_collection(ctx, PROJECT[0], "set").repo_id), kind="artifact")
    assert store.collections(ctx, PROJECT[0]) == []
    assert store.get(ctx, logged(store, ctx, "d1", blob)).number == 1


def test_registered_models_have_a_portfolio_each(registry: Registry, ctx: Context) -> None:
    store = Incoming(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    first, second = logged(store, ctx, "d1", blob), logged(store, ctx, "d2", blob)
    pending = store.create(ctx, PROJECT, "set", "data", "d3", run_id=None).id
    here, there = ("8", "model-registry"), ("9", "wandb-registry-model")
    with pytest.raises(Conflict):
        store.link(ctx, pending, here, "Best", [])
    linked = [store.link(ctx, one, place, "Best", aliases) for one, place, aliases in (
        (second, here, ["good", "a.b"]), (first, here, []), (second, there, []),
    )]  # fmt: skip
    assert [one.number for one in linked] == [1, 2, 1]
    best, other = linked[0].collection, linked[2].collection
    assert registry.version_by_alias(ctx, "Best", "good").number == 1 and best.repo_id != other.repo_id
    store.alias(ctx, first, best, ["good"])
    assert store.member(ctx, best, "good").artifact.id == first and registry.version_by_alias(ctx, "Best", "good").number == 2
    store.unalias(ctx, first, best, ["good"])
    assert registry.get_repo(ctx, "Best").aliases == {} and store.member(ctx, best, "a.b").artifact.id == second
    store.unlink(ctx, first, best.id)
    assert (
        [one.number for one in store.members(ctx, collection_id=best.id)] == [1] == [one.number for one in registry.versions(ctx, "Best")]
    )
    with pytest.raises(Invalid):
        store.update_collection(ctx, best.id, name="a/b")
    assert store.update_collection(ctx, other.id, name="Better", tags=["t"]).name == "Better"
    store.delete(ctx, second, aliases=True)
    assert store.members(ctx, collection_id=best.id) == [] == registry.versions(ctx, str(other.repo_id))
    store.delete_collection(ctx, best.id)
    assert [one.name for one in registry.repos(ctx)] == ["wandb-registry-model--Best"]
