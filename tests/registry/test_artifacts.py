"""Artifacts: versions by content, aliases, what belongs to whom, and what a sweep must keep."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.registry import tables as t
from drivetrain.registry.artifacts import Artifacts
from drivetrain.registry.collections import bare_tags
from drivetrain.registry.forgetting import forget
from drivetrain.registry.model import Draft, Version
from drivetrain.registry.service import Registry
from drivetrain.registry.uploads import DRAFT_MS
from drivetrain.store.blobs import Blob, blobs_table
from drivetrain.store.ids import now_ms

PROJECT = ("1", "my project")


def logged(store: Artifacts, ctx: Context, digest: str, blob: Blob, **more: str) -> str:
    made = store.begin(ctx, PROJECT, "set", "data", digest, run_id=None, client_id=more.get("client"))
    store.registry.uploads.arrived(ctx, made.id, str(blob.md5), blob)
    return store.commit(ctx, made.id, {"a": blob.sha256}, size=blob.size, entries=1, manifest=blob.sha256).id


def test_versions_are_registered_and_named(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    first, second = logged(store, ctx, "d1", blob), logged(store, ctx, "d2", blob)
    assert first == store.begin(ctx, PROJECT, "set", "data", "d1", run_id=None, aliases=["a.b"]).id
    held = store.collections.find(ctx, PROJECT[0], "set")
    assert [one.number for one in registry.versions(ctx, held.id, kind="artifact")] == [2, 1]
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
    store = Artifacts(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    artifact = logged(store, ctx, "d1", blob)
    assert registry.uploads.known(ctx, [str(blob.md5)]) == {blob.md5: blob.sha256} and registry.uploads.known(other, [str(blob.md5)]) == {}
    with pytest.raises(NotFound):
        store.get(other, artifact)
    assert store.collections.of(other, PROJECT[0]) == []


def test_a_sweep_keeps_what_is_on_its_way_in(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    file, part, manifest, stray = (registry.blobs.put([one], md5=True) for one in (b"file", b"part", b"manifest", b"stray"))
    made = store.begin(ctx, PROJECT, "set", "data", "d", run_id=None)
    registry.uploads.arrived(ctx, made.id, str(file.md5), file)
    registry.uploads.put_part(ctx, registry.uploads.begin_parts(ctx, made.id, "0" * 32, 1), 1, part)
    registry.uploads.put_manifest(ctx, registry.uploads.add_manifest(ctx, made.id, "FULL", None), manifest)
    live = registry.live_blobs()
    assert {file.sha256, part.sha256, manifest.sha256} <= live and stray.sha256 not in live
    store.delete(ctx, made.id, aliases=False)
    assert not registry.live_blobs()


def test_what_was_begun_and_never_committed_goes_after_a_week(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    file, gone = (registry.blobs.put([one], md5=True) for one in (b"file", b"gone"))
    whole, old, young = logged(store, ctx, "d1", file), *(store.begin(ctx, PROJECT, "set", "data", d, run_id=None).id for d in "23")
    registry.uploads.arrived(ctx, old, str(gone.md5), gone)
    with registry.db.write() as c:
        c.execute(t.drafts.update().where(t.drafts.c.id == old).values(updated_ms=now_ms() - DRAFT_MS - 1))
        c.execute(blobs_table.delete().where(blobs_table.c.sha256 == gone.sha256))
    forget(registry.db, set, older_than_s=0)
    assert [isinstance(store.get(ctx, one), Draft) for one in (whole, young)] == [False, True]
    with pytest.raises(NotFound):
        store.get(ctx, old)
    with registry.db.read() as c:
        assert c.scalars(sa.select(t.uploads.c.md5)).all() == [file.md5]


def test_a_repo_that_was_deleted_takes_its_artifacts(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    logged(store, ctx, "d1", blob)
    registry.delete_repo(ctx, store.collections.find(ctx, PROJECT[0], "set").id, kind="artifact")
    assert store.collections.of(ctx, PROJECT[0]) == []
    again = store.get(ctx, logged(store, ctx, "d1", blob))
    assert isinstance(again, Version) and again.number == 1


def test_registered_models_have_a_portfolio_each(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    first, second = logged(store, ctx, "d1", blob), logged(store, ctx, "d2", blob)
    pending = store.begin(ctx, PROJECT, "set", "data", "d3", run_id=None).id
    here, there = ("8", "model-registry"), ("9", "wandb-registry-model")
    with pytest.raises(Conflict):
        store.link(ctx, pending, here, "Best", [])
    linked = [store.link(ctx, one, place, "Best", aliases) for one, place, aliases in (
        (second, here, ["good", "a.b"]), (first, here, []), (second, there, []),
    )]  # fmt: skip
    assert [one.number for one in linked] == [1, 2, 1]
    best, other = linked[0].collection, linked[2].collection
    assert registry.version_by_alias(ctx, "Best", "good").number == 1 and best.id != other.id
    store.alias(ctx, first, best, ["good"])
    assert store.member(ctx, best, "good").artifact.id == first and registry.version_by_alias(ctx, "Best", "good").number == 2
    store.unalias(ctx, first, best, ["good"])
    assert registry.get_repo(ctx, "Best").aliases == {} and store.member(ctx, best, "a.b").artifact.id == second
    store.unlink(ctx, first, best.id)
    assert (
        [one.number for one in store.members(ctx, collection_id=best.id)] == [1] == [one.number for one in registry.versions(ctx, "Best")]
    )
    with pytest.raises(Invalid):
        store.collections.update(ctx, best.id, name="a/b")
    better = store.collections.update(ctx, other.id, name="Better", tags=["t"])
    assert (better.collection, better.tags) == ("Better", {"t": ""})
    store.delete(ctx, second, aliases=True)
    assert store.members(ctx, collection_id=best.id) == [] == registry.versions(ctx, other.id)
    store.collections.delete(ctx, best.id)
    assert [one.name for one in registry.repos(ctx)] == ["wandb-registry-model--Best"]


def test_a_link_points_at_the_commit_and_outlives_what_it_links_to(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    first = logged(store, ctx, "d1", blob)
    own = store.collections.find(ctx, PROJECT[0], "set")
    best = store.link(ctx, first, ("8", "model-registry"), "Best", ["good"]).collection
    shelf = store.link(ctx, first, ("7", "shelf"), "chosen", []).collection
    (source,), (linked,) = registry.versions(ctx, own.id, kind="artifact"), registry.versions(ctx, "Best")
    assert linked.commit_id == source.commit_id and (linked.origin_id, linked.number) == (first, 1)
    assert [one.id for one in registry.commits(ctx, "Best", ref=linked.commit_id)] == [source.commit_id]
    assert registry.register(ctx, "Best", linked.commit_id, source="by hand").number == 2
    with pytest.raises(Conflict, match="good"):
        store.delete(ctx, first, aliases=False)
    registry.delete_repo(ctx, own.id, kind="artifact")
    assert forget(registry.db, set, older_than_s=-1) == 0
    # What was registered stays, with its files; the project sees no artifact any more.
    found = registry.resolve(ctx, "Best@good")
    assert found.version is not None and found.version.origin_id is None
    assert {path: entry.sha256 for path, entry in registry.files(found.commit_id).items()} == {"a": blob.sha256}
    assert store.members(ctx, collection_id=best.id) == [] == store.members(ctx, collection_id=shelf.id)
    store.collections.delete(ctx, best.id)
    assert [one.source for one in registry.versions(ctx, "Best")] == ["by hand"]
    assert registry.get_repo(ctx, "Best").collection is None
    registry.delete_repo(ctx, "Best")
    registry.delete_repo(ctx, shelf.id, kind="artifact")
    assert not registry.live_blobs()


def test_a_model_that_was_registered_by_hand_becomes_a_portfolio(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    registry.create_repo(ctx, "Best", description="ours", tags={"team": "vision"})
    commit = registry.commit(ctx, "Best", {"m": blob.sha256}, message="m")
    registry.register(ctx, "Best", commit.id)
    made = store.link(ctx, logged(store, ctx, "d1", blob), ("8", "model-registry"), "Best", ["latest"])
    assert (made.number, made.aliases, made.collection.kind) == (2, ("latest",), "model")
    assert [one.number for one in store.members(ctx, collection_id=made.collection.id)] == [2]
    changed = store.collections.update(ctx, made.collection.id, tags=["a", "b"])
    assert changed.tags == {"team": "vision", "a": "", "b": ""} and bare_tags(changed.tags) == ["a", "b"]
    assert store.collections.update(ctx, made.collection.id, tags=["b"]).tags == {"team": "vision", "b": ""}
    assert registry.get_repo(ctx, "Best").aliases == {} and registry.get_repo(ctx, "Best").description == "ours"


def test_a_commit_that_is_said_again_makes_one_version(registry: Registry, ctx: Context) -> None:
    store = Artifacts(registry)
    blob = registry.blobs.put([b"x"], md5=True)
    draft = store.begin(ctx, PROJECT, "set", "data", "d", run_id="r1", client_id="c", tags=["t"], metadata="{}", step=7)
    assert store.begin(ctx, PROJECT, "set", "data", "d", run_id="r1", client_id="c") == draft
    assert store.members(ctx, run=("r1", "made")) == []
    registry.uploads.arrived(ctx, draft.id, str(blob.md5), blob)
    made = [store.commit(ctx, draft.id, {"a": blob.sha256}, size=9, entries=2, manifest=blob.sha256) for _ in range(2)]
    assert made[0] == made[1] and (made[0].digest, made[0].metadata, made[0].step) == ("d", "{}", 7)
    assert (made[0].files, made[0].bytes, made[0].tags, made[0].run_id) == (2, 9, {"t": ""}, "r1")
    assert [one.artifact for one in store.members(ctx, run=("r1", "made"))] == [made[0]]
    assert store.begin(ctx, PROJECT, "set", "data", "d", run_id="r2").id == draft.id
    store.used(ctx, draft.id, "r3")
    assert store.users(ctx, draft.id) == ["r3"] and [one.number for one in store.members(ctx, run=("r2", "made"))] == [1]
    with pytest.raises(NotFound):
        registry.uploads.check(ctx, draft.id)
