"""The verbs of serving, on both databases."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from drivetrain.config import Settings
from drivetrain.errors import Conflict, DrivetrainError, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.registry.service import Registry
from drivetrain.serving import tables as t
from drivetrain.serving.model import Deployment, Variant
from drivetrain.serving.service import Serving
from drivetrain.store.blobs import Blobs
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database

ME = Context(user_id="u1", user_name="ann", workspace_id="w1", workspace="default")
OTHER = Context(user_id="u2", user_name="bob", workspace_id="w2", workspace="bobs")
CALLER = replace(ME, scopes=frozenset({Scope.invoke}))


def gguf(context: int = 64) -> bytes:
    """The smallest file with a header that says what a plan needs to know."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    def number(key: str, value: int) -> bytes:
        return text(key) + struct.pack("<II", 4, value)

    keys = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    keys += number("llama.context_length", context) + number("llama.block_count", 2)
    keys += number("llama.embedding_length", 32) + number("llama.attention.head_count", 4)
    return b"GGUF" + struct.pack("<IQQ", 3, 0, 5) + keys + bytes(64)


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    return Registry(database, Blobs(database, str(tmp_path / "blobs"), min_free=0, scratch=tmp_path / "scratch"))


@pytest.fixture
def nudges() -> list[str]:
    return []


@pytest.fixture
def serving(database: Database, registry: Registry, nudges: list[str]) -> Serving:
    return Serving(database, registry, Settings(), nudges.append)


def register(registry: Registry, slug: str, files: Mapping[str, bytes], ctx: Context = ME) -> int:
    registry.ensure_repo(ctx, slug)
    digests = {path: registry.blobs.put([data]).sha256 for path, data in files.items()}
    commit = registry.commit(ctx, slug, digests, message="import")
    return registry.register(ctx, slug, commit.id).number


@pytest.fixture
def text_model(registry: Registry) -> str:
    register(registry, "chatter", {"model.gguf": gguf()})
    return "chatter"


@pytest.fixture
def classifier(registry: Registry) -> str:
    register(registry, "digits", {"MLmodel": b"flavors: {python_function: {}}\n", "model.pkl": b"1"})
    register(registry, "digits", {"MLmodel": b"flavors: {python_function: {}}\n", "model.pkl": b"2"})
    registry.set_alias(ME, "digits", "champion", 1)
    return "digits"


def live(deployment: Deployment) -> Variant:
    (variant,) = (variant for variant in deployment.variants if variant.retired_ms is None)
    return variant


def running(database: Database, variant: Variant, state: str = "ready", message: str = "") -> None:
    """As if a server had a replica of it."""
    row = {"id": uuid7(), "variant_id": variant.id, "server_id": "s1", "state": state, "message": message, "started_ms": now_ms()}
    with database.write() as c:
        c.execute(sa.insert(t.replicas).values(**row, address="", memory_bytes=0, restarts=0))


def test_deploy(serving: Serving, classifier: str, nudges: list[str]) -> None:
    deployment = serving.deploy(ME, "live", f"models:/{classifier}@champion", min_replicas=2, capture="hashed")
    variant = live(deployment)
    assert (deployment.name, deployment.workspace, deployment.implicit, deployment.capture) == ("live", "default", False, "hashed")
    assert (variant.repo, variant.version, variant.engine, variant.tasks) == ("default/digits", 1, "pyfunc", ("infer",))
    assert (variant.weight, variant.min_replicas, variant.max_replicas) == (10_000, 2, 2)
    assert variant.why
    assert variant.memory_bytes > 0
    assert nudges == ["deployments"]
    assert (deployment.state, deployment.problem) == ("starting", "")
    assert serving.get(ME, "live") == deployment
    assert serving.list(ME) == [deployment]
    assert serving.variant(ME, variant.id) == variant


def test_a_model_that_is_served_is_not_deleted(database: Database, tmp_path: Path) -> None:
    blobs = Blobs(database, str(tmp_path / "blobs"), min_free=0, scratch=tmp_path / "scratch")
    registry = Registry(database, blobs, serves=lambda commits: service.named_by(commits))  # noqa: PLW0108 - made below
    service = Serving(database, registry, Settings(), lambda _: None)
    register(registry, "digits", {"MLmodel": b"flavors: {python_function: {}}\n", "model.pkl": b"1"})
    service.deploy(ME, "live", "digits@1")
    with pytest.raises(Conflict, match="drivetrain undeploy live"):
        registry.delete_repo(ME, "digits")
    assert registry.get_version(ME, "digits", 1)
    service.delete(ME, "live")
    registry.delete_repo(ME, "digits")
    with pytest.raises(NotFound):
        registry.get_version(ME, "digits", 1)


def test_a_new_version_takes_the_place_of_the_old_one(serving: Serving, classifier: str, database: Database) -> None:
    old = live(serving.deploy(ME, "live", f"{classifier}@1"))
    running(database, old)
    deployment = serving.deploy(ME, "live", f"{classifier}@2")
    new = live(deployment)
    assert (new.version, new.weight) == (2, 10_000)
    # The old one is still there, since it has a replica: it serves until the new one is ready.
    assert {variant.id for variant in deployment.variants} == {old.id, new.id}
    assert [variant.version for variant in serving.history(ME, "live")] == [2, 1]
    assert deployment.state == "starting"
    running(database, new)
    assert serving.get(ME, "live").state == "ready"


def test_a_code_free_model_is_deployed_by_its_name(serving: Serving, text_model: str, registry: Registry, nudges: list[str]) -> None:
    deployment = serving.implicit(CALLER, text_model)
    assert (deployment.name, deployment.implicit, deployment.state) == ("chatter@1", True, "idle")
    assert (live(deployment).engine, live(deployment).min_replicas) == ("llamacpp", 0)
    assert serving.implicit(CALLER, f"{text_model}@1").id == deployment.id
    assert nudges == ["deployments"]
    register(registry, "chatter", {"model.gguf": gguf(128)})
    assert serving.implicit(CALLER, text_model).name == "chatter@2"


def test_a_model_that_runs_code_is_not(serving: Serving, classifier: str, database: Database) -> None:
    with pytest.raises(Forbidden, match="drivetrain deploy"):
        serving.implicit(ME, classifier)
    assert serving.list(ME) == []


def test_scale_and_restart(serving: Serving, classifier: str, database: Database, nudges: list[str]) -> None:
    first = live(serving.deploy(ME, "live", classifier))
    assert live(serving.scale(ME, "live", min_replicas=3)).min_replicas == 3
    idle = serving.scale(ME, "live", min_replicas=0, max_replicas=2)
    assert (live(idle).min_replicas, live(idle).max_replicas, idle.state) == (0, 2, "idle")
    running(database, first)
    again = serving.restart(ME, "live")
    assert live(again).id != first.id
    assert live(again).commit == first.commit
    assert {variant.id for variant in again.variants} == {first.id, live(again).id}
    assert nudges == ["deployments"] * 4


def test_delete_frees_the_name(serving: Serving, classifier: str) -> None:
    first = serving.deploy(ME, "live", classifier)
    serving.delete(ME, "live")
    assert serving.list(ME) == []
    with pytest.raises(NotFound):
        serving.get(ME, "live")
    assert serving.variant(ME, live(first).id).retired_ms is not None  # events still name it
    assert serving.deploy(ME, "live", classifier).id != first.id


def test_what_is_wrong_is_said(serving: Serving, classifier: str, database: Database) -> None:
    variant = live(serving.deploy(ME, "live", classifier))
    running(database, variant, "failed", "It needs about 80 GiB.")
    shown = serving.get(ME, "live")
    assert (shown.state, shown.problem) == ("failed", "It needs about 80 GiB.")


def test_other_workspaces_do_not_see_it(serving: Serving, classifier: str) -> None:
    deployment = serving.deploy(ME, "live", classifier)
    assert serving.list(OTHER) == []
    for verb in (serving.get, serving.restart, serving.delete):
        with pytest.raises(NotFound):
            verb(OTHER, "live")
    with pytest.raises(NotFound):
        serving.scale(OTHER, "live", min_replicas=1)
    with pytest.raises(NotFound):
        serving.deploy(OTHER, "mine", classifier)
    with pytest.raises(NotFound):
        serving.implicit(OTHER, classifier)
    with pytest.raises(NotFound):
        serving.variant(OTHER, live(deployment).id)
    assert serving.get(ME, "live") == deployment


def test_scopes(serving: Serving, classifier: str) -> None:
    serving.deploy(ME, "live", classifier)
    reader = replace(ME, scopes=frozenset({Scope.read}))
    assert serving.get(reader, "live").name == "live"
    for verb in (serving.restart, serving.delete):
        with pytest.raises(Forbidden):
            verb(reader, "live")
    with pytest.raises(Forbidden):
        serving.deploy(reader, "live", classifier)
    with pytest.raises(Forbidden):
        serving.implicit(reader, classifier)
    with pytest.raises(Forbidden):
        serving.list(CALLER)


@pytest.mark.parametrize(
    ("name", "source", "options", "error"),
    [
        ("live", "digits", {"engine": "warp"}, Invalid),
        ("live", "digits", {"engine": "llamacpp"}, Invalid),
        ("live", "digits", {"capture": "some"}, Invalid),
        ("live", "digits", {"capture_rate": 1.5}, Invalid),
        ("live", "digits", {"min_replicas": -1}, Invalid),
        ("live", "digits", {"min_replicas": 2, "max_replicas": 1}, Invalid),
        ("live", "digits", {"max_replicas": 10_000}, Invalid),
        ("live", "digits", {"options": {"turbo": True}}, Invalid),
        ("", "digits", {}, Invalid),
        ("a b", "digits", {}, Invalid),
        ("live", "digits@9", {}, NotFound),
        ("live", "nothing", {}, NotFound),
        ("live", "notes", {}, Invalid),
        ("live", "broken", {}, Invalid),
    ],
)
def test_what_cannot_be_deployed_changes_nothing(
    serving: Serving,
    registry: Registry,
    classifier: str,
    nudges: list[str],
    name: str,
    source: str,
    options: dict[str, object],
    error: type[DrivetrainError],
) -> None:
    register(registry, "notes", {"README.md": b"no model"})
    register(registry, "broken", {"model.gguf": gguf()[:40]})
    with pytest.raises(error):
        serving.deploy(ME, name, source, **options)  # type: ignore[arg-type]
    assert serving.list(ME) == []
    assert nudges == []


def test_one_more_variant_gets_no_traffic(serving: Serving, classifier: str, database: Database) -> None:
    def add(source: str, **more: Any) -> Variant:
        deployment = serving.get(ME, "live")
        values = serving.prepare_variant(ME, deployment, source, **more)
        with database.write() as c:
            return serving.insert_variant(c, ME, deployment.id, values)

    first = live(serving.deploy(ME, "live", f"{classifier}@1", min_replicas=2, max_replicas=3, prices={"request": 0.25}))
    added = add(f"{classifier}@2")
    assert (added.name, added.weight, added.version, added.deployment_id) == ("v2", 0, 2, first.deployment_id)
    assert (added.min_replicas, added.max_replicas, added.prices) == (2, 3, {"request": 0.25})
    again = add(f"{classifier}@2", min_replicas=1, prices={})
    assert (again.name, again.min_replicas, again.max_replicas, again.prices) == ("v2-2", 1, 1, {})
    assert [variant.weight for variant in serving.get(ME, "live").variants] == [10_000, 0, 0]
    with pytest.raises(NotFound):
        serving.get(OTHER, "live")


def test_prices_stay_until_others_are_said(serving: Serving, classifier: str) -> None:
    serving.deploy(ME, "live", f"{classifier}@1", prices={"million_out": 1.5})
    assert live(serving.deploy(ME, "live", f"{classifier}@2")).prices == {"million_out": 1.5}
    assert live(serving.deploy(ME, "live", f"{classifier}@2", prices={"request": 1})).prices == {"request": 1.0}
    for wrong in ({"tokens": 1.0}, {"request": -1.0}, {"request": float("nan")}):
        with pytest.raises(Invalid, match="price"):
            serving.deploy(ME, "live", f"{classifier}@1", prices=wrong)


@pytest.mark.parametrize("name", ["", "-x", "a/b", "a:b", "a@b", "a b", "a..b", "x" * 97, "v1", "Deployments", "admin", "graphql", "ü"])
def test_names_that_could_not_be_addressed_are_refused(serving: Serving, text_model: str, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        serving.deploy(ME, name, text_model)
    assert caught.value.param == "name"
    assert serving.list(ME) == []


@pytest.mark.parametrize("old", ["team/chat:1", "a@b", "x" * 128, "v1"])
def test_a_deployment_that_has_another_name_keeps_it(serving: Serving, database: Database, text_model: str, old: str) -> None:
    serving.deploy(ME, "chat", text_model)
    with database.write() as c:
        c.execute(sa.update(t.deployments).values(name=old))
    again = serving.deploy(ME, old, text_model)
    assert (again.name, len([one for one in again.variants if one.retired_ms is None])) == (old, 1)
    assert serving.scale(ME, old, min_replicas=2).name == old
    serving.delete(ME, old)
    with pytest.raises(Invalid):
        serving.deploy(ME, old, text_model)
