"""Repos, commits, refs, versions, aliases: on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry.service import Registry
from drivetrain.search.conditions import Condition
from tests.registry.conftest import put


def model(registry: Registry, ctx: Context, name: str = "digits", **files: str) -> str:
    repo = registry.ensure_repo(ctx, name)
    digests = {path: put(registry, text) for path, text in (files or {"model.bin": name}).items()}
    return registry.commit(ctx, repo.slug, digests, message="first").id


def test_a_repo_is_found_by_slug_and_by_display_name(registry: Registry, ctx: Context) -> None:
    made = registry.create_repo(ctx, "My Model (v2)", description="what it is", tags={"team": "vision"})
    assert made.slug == "my-model-v2"
    for name in ("My Model (v2)", "my-model-v2", made.id):
        found = registry.get_repo(ctx, name)
        assert found == made
    assert made.tags == {"team": "vision"}
    assert registry.get_repo(ctx, made.slug).description == "what it is"


def test_names_that_make_the_same_slug_live_side_by_side(registry: Registry, ctx: Context) -> None:
    one, two = registry.create_repo(ctx, "My Model"), registry.create_repo(ctx, "my model")
    assert one.slug != two.slug
    assert registry.get_repo(ctx, "My Model").id == one.id
    assert registry.get_repo(ctx, "my model").id == two.id


def test_a_name_is_taken_once_for_each_kind_and_workspace(registry: Registry, ctx: Context, other: Context) -> None:
    registry.create_repo(ctx, "digits")
    with pytest.raises(Conflict):
        registry.create_repo(ctx, "digits")
    registry.create_repo(ctx, "digits", kind="dataset")
    registry.create_repo(other, "digits")


def test_another_workspace_does_not_exist(registry: Registry, ctx: Context, other: Context) -> None:
    commit = model(registry, ctx)
    version = registry.register(ctx, "digits", commit)
    for attempt in (
        lambda: registry.get_repo(other, "digits"),
        lambda: registry.resolve(other, "digits"),
        lambda: registry.resolve(other, "vision/digits"),
        lambda: registry.version_by_id(other, version.id),
        lambda: registry.delete_repo(other, "digits"),
        lambda: registry.set_alias(other, "digits", "x", 1),
    ):
        with pytest.raises(NotFound):
            attempt()
    registry.create_repo(other, "digits")
    with pytest.raises(NotFound):
        registry.register(other, "digits", commit)  # a commit of a repo of somebody else
    assert registry.search_versions(other) == []


def test_scopes_are_asked_for(registry: Registry, ctx: Context) -> None:
    reader = Context("u1", "ada", "w1", "vision", scopes=frozenset({Scope.read}))
    commit = model(registry, ctx)
    with pytest.raises(Forbidden, match="write"):
        registry.register(reader, "digits", commit)
    assert registry.get_repo(reader, "digits").slug == "digits"


def test_a_commit_is_a_manifest_and_has_a_parent(registry: Registry, ctx: Context) -> None:
    first = model(registry, ctx, **{"a.txt": "a", "dir/b.txt": "b"})
    second = registry.commit(ctx, "digits", {"a.txt": put(registry, "A")}, message="change a", replace=False)
    assert second.parent == first
    assert (second.files, second.bytes) == (2, 2)
    files = registry.files(second.id)
    assert set(files) == {"a.txt", "dir/b.txt"}
    assert files["a.txt"].sha256 == put(registry, "A")
    third = registry.commit(ctx, "digits", {"c.txt": put(registry, "c")}, message="only c")
    assert set(registry.files(third.id)) == {"c.txt"}
    fourth = registry.commit(ctx, "digits", {}, message="no c", replace=False, delete=["c.txt"])
    assert registry.files(fourth.id) == {}
    assert [c.id for c in registry.commits(ctx, "digits")] == [fourth.id, third.id, second.id, first]


def test_a_commit_that_changes_nothing_is_not_made(registry: Registry, ctx: Context) -> None:
    first = model(registry, ctx)
    assert registry.commit(ctx, "digits", {"model.bin": put(registry, "digits")}, message="again").id == first


def test_a_commit_on_an_old_parent_is_refused(registry: Registry, ctx: Context) -> None:
    first = model(registry, ctx)
    registry.commit(ctx, "digits", {"x": put(registry, "x")}, message="x", parent=first)
    with pytest.raises(Conflict, match="moved"):
        registry.commit(ctx, "digits", {"y": put(registry, "y")}, message="y", parent=first)


@pytest.mark.parametrize(
    "files", [{"../x": "a"}, {"a": "a", "a/b": "a"}, {"/x": "a"}, {"": "a"}], ids=["up", "file and folder", "absolute", "empty"]
)
def test_bad_paths_change_nothing(registry: Registry, ctx: Context, files: dict[str, str]) -> None:
    first = model(registry, ctx)
    with pytest.raises(Invalid):
        registry.commit(ctx, "digits", {path: put(registry, text) for path, text in files.items()}, message="bad")
    assert registry.commits(ctx, "digits")[0].id == first


def test_content_that_was_not_uploaded_is_refused(registry: Registry, ctx: Context) -> None:
    registry.create_repo(ctx, "digits")
    with pytest.raises(Invalid, match="not uploaded"):
        registry.commit(ctx, "digits", {"x": "0" * 64}, message="x")
    assert registry.refs(ctx, "digits") == []


def test_numbers_start_at_one_and_are_never_given_again(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    assert [registry.register(ctx, "digits", commit).number for _ in range(3)] == [1, 2, 3]
    registry.delete_version(ctx, "digits", 3)
    assert registry.register(ctx, "digits", commit).number == 4
    assert [v.number for v in registry.versions(ctx, "digits")] == [4, 2, 1]
    assert registry.get_repo(ctx, "digits").latest == 4


def test_numbers_are_not_given_twice_at_once(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: registry.register(ctx, "digits", commit).number, range(24)))
    assert sorted(numbers) == list(range(1, 25))


def test_a_version_keeps_what_it_was_registered_with(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    made = registry.register(ctx, "digits", commit, run_id="r" * 32, model_id="m-1", source="models:/m-1", description="d", tags={"k": "v"})
    read = registry.get_version(ctx, "digits", 1)
    assert read == made
    assert (read.run_id, read.model_id, read.source, read.tags, read.user) == ("r" * 32, "m-1", "models:/m-1", {"k": "v"}, "ada")
    changed = registry.update_version(ctx, "digits", 1, description="better", stage="Production")
    assert (changed.description, changed.stage, changed.status) == ("better", "Production", "READY")
    registry.set_version_tag(ctx, "digits", 1, "k", "w")
    registry.set_version_tag(ctx, "digits", 1, "l", "x")
    registry.delete_version_tag(ctx, "digits", 1, "l")
    assert registry.version_by_id(ctx, made.id).tags == {"k": "w"}


def test_an_alias_moves_silently_and_goes_with_its_version(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    for _ in range(2):
        registry.register(ctx, "digits", commit)
    registry.set_alias(ctx, "digits", "champion", 1)
    assert registry.version_by_alias(ctx, "digits", "champion").number == 1
    registry.set_alias(ctx, "digits", "champion", 2)
    assert registry.get_repo(ctx, "digits").aliases == {"champion": 2}
    assert registry.get_version(ctx, "digits", 1).aliases == ()
    registry.delete_version(ctx, "digits", 2)
    assert registry.get_repo(ctx, "digits").aliases == {}
    with pytest.raises(NotFound, match="has none yet"):
        registry.version_by_alias(ctx, "digits", "champion")
    with pytest.raises(NotFound, match="no version 9"):
        registry.set_alias(ctx, "digits", "champion", 9)
    registry.delete_alias(ctx, "digits", "champion")


def test_every_form_of_a_name_means_the_same_version(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    registry.register(ctx, "digits", commit)
    second = registry.commit(ctx, "digits", {"x": put(registry, "x")}, message="x")
    registry.register(ctx, "digits", second.id)
    registry.set_alias(ctx, "digits", "champion", 1)
    registry.set_ref(ctx, "digits", "tag", "release-1", commit)
    one = ["digits@1", "digits:v1", "models:/digits/1", "models:/digits@champion", "vision/digits@champion", "ft:base:vision:digits:1"]
    for name in one:
        found = registry.resolve(ctx, name)
        assert found.version is not None, name
        assert (found.version.number, found.commit_id) == (1, commit), name
    for name in ["digits", "digits:latest", "models:/digits/latest", "vision/digits"]:
        found = registry.resolve(ctx, name)
        assert found.version is not None, name
        assert found.version.number == 2, name
    for name in ["digits@release-1", f"digits@{commit}", f"vision/digits:{commit[:10]}"]:
        found = registry.resolve(ctx, name)
        assert (found.version, found.commit_id) == (None, commit), name
    assert registry.resolve(ctx, "digits@main").commit_id == second.id


def test_a_pushed_but_unregistered_model_is_its_head(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    assert registry.resolve(ctx, "digits").commit_id == commit
    registry.create_repo(ctx, "empty")
    with pytest.raises(NotFound, match="empty"):
        registry.resolve(ctx, "empty")


def test_an_alias_in_mlflows_form_is_an_alias_only(registry: Registry, ctx: Context) -> None:
    registry.register(ctx, "digits", model(registry, ctx))
    with pytest.raises(NotFound, match="no alias"):
        registry.resolve(ctx, "models:/digits@main")
    registry.set_alias(ctx, "digits", "7", 1)  # mlflow allows it
    found = registry.resolve(ctx, "models:/digits@7")
    assert found.version is not None
    assert found.version.number == 1


def test_deleting_really_deletes_and_frees_the_name(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    registry.register(ctx, "digits", commit)
    assert registry.live_blobs() == {put(registry, "digits")}
    registry.delete_repo(ctx, "digits")
    assert registry.live_blobs() == set()
    with pytest.raises(NotFound):
        registry.files(commit)
    assert model(registry, ctx) != commit
    assert registry.register(ctx, "digits", registry.commits(ctx, "digits")[0].id).number == 1


def test_refs(registry: Registry, ctx: Context) -> None:
    commit = model(registry, ctx)
    registry.set_ref(ctx, "digits", "branch", "dev")
    dev = registry.commit(ctx, "digits", {"x": put(registry, "x")}, message="x", branch="dev")
    assert {(r.kind, r.name): r.commit_id for r in registry.refs(ctx, "digits")} == {("branch", "main"): commit, ("branch", "dev"): dev.id}
    registry.delete_ref(ctx, "digits", "branch", "dev")
    with pytest.raises(NotFound):
        registry.delete_ref(ctx, "digits", "branch", "dev")
    with pytest.raises(Invalid):
        registry.delete_ref(ctx, "digits", "branch", "main")


def test_searches(registry: Registry, ctx: Context) -> None:
    for name in ("Cat", "cat_2", "dog"):
        commit = model(registry, ctx, name)
        registry.register(ctx, name, commit, run_id=f"run-{name}", tags={"pet": name})
    registry.set_repo_tag(ctx, "dog", "good", "yes")

    def repos(*conditions: Condition) -> list[str]:
        return [repo.name for repo in registry.search_repos(ctx, conditions)]

    assert repos(Condition("attribute", "name", "LIKE", "cat%")) == ["cat_2"]
    assert repos(Condition("attribute", "name", "ILIKE", "cat%")) == ["Cat", "cat_2"]
    assert repos(Condition("attribute", "name", "LIKE", "cat_2"), Condition("attribute", "kind", "=", "model")) == ["cat_2"]
    assert repos(Condition("attribute", "name", "LIKE", "c[a]t*")) == []
    assert repos(Condition("tag", "good", "=", "yes")) == ["dog"]
    assert repos(Condition("tag", "good", "IS NULL")) == ["Cat", "cat_2"]
    assert repos(Condition("tag", "good", "IS NOT NULL")) == ["dog"]
    assert [r.name for r in registry.search_repos(ctx, order_by=[("name", False)], limit=2, offset=1)] == ["cat_2", "Cat"]
    versions = registry.search_versions(ctx, [Condition("attribute", "run_id", "IN", ("run-dog", "run-Cat"))], order_by=[("name", True)])
    assert [v.name for v in versions] == ["Cat", "dog"]
    assert [
        v.name for v in registry.search_versions(ctx, [Condition("tag", "pet", "!=", "dog"), Condition("attribute", "number", ">=", 1)])
    ] == ["cat_2", "Cat"]
    with pytest.raises(Invalid, match="no key"):
        repos(Condition("attribute", "password", "=", "x"))
    with pytest.raises(Invalid):
        repos(Condition("attribute", "name", "DROP", "x"))


def test_knowing_a_digest_opens_nothing(registry: Registry, ctx: Context, other: Context) -> None:
    digest = put(registry, "secret weights")
    registry.uploads.brought(ctx, digest)
    assert registry.uploads.own(ctx, [digest]) == {digest}
    assert registry.uploads.own(other, [digest]) == set()
    model(registry, other, "mine", x="shared")
    assert registry.uploads.own(other, [put(registry, "shared")]) == {put(registry, "shared")}
    assert registry.uploads.own(ctx, ["f" * 64]) == set()


def test_renaming(registry: Registry, ctx: Context) -> None:
    registry.register(ctx, "digits", model(registry, ctx))
    registry.create_repo(ctx, "taken")
    with pytest.raises(Conflict):
        registry.update_repo(ctx, "digits", new_name="taken")
    renamed = registry.update_repo(ctx, "digits", new_name="numbers")
    assert (renamed.slug, renamed.name, renamed.latest) == ("numbers", "numbers", 1)
    with pytest.raises(NotFound):
        registry.get_repo(ctx, "digits")
