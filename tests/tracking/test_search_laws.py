"""Searches of experiments, logged models, registered models and versions agree with a naive evaluator: on both databases, on every page."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.dialects.mlflow import messages as m
from drivetrain.dialects.mlflow import registry as dialect
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.registry.model import Repo, Version
from drivetrain.tags import PROMPT
from drivetrain.tracking.model import Experiment, LoggedModel, Metric, Page, View
from drivetrain.tracking.service import Tracking
from tests.tracking.naive import LIKE_OPS, LIST_OPS, NULL_OPS, NUMBER_OPS, Clause, Field, filters, holds, ordered, written

T = TypeVar("T")
Order = tuple[str, str, bool, str]

EQUALS = ("=", "!=")
TEXTS = ["", "a", "A", "ab", "Ab%", "a_b", "a*b", "[a]", "a\\b", "it's", "B", "zz"]
NAMES = ["a", "A", "ab", "Ab%", "a_b", "a*b", "[a]", "a\\b", "it's", "B", "zz", "Z z", "b.c", "-x", "ab2", "aB"]
HALF = [1.5, -3, 1e300, 1e400]
"""Numbers that no counter has."""

TAGS = [
    Field("tag", "team", ["tags.team", "tag.team", "tags.`team`"], (*EQUALS, *LIKE_OPS, *NULL_OPS), TEXTS),
    Field("tag", "x y", ["tags.`x y`", 'tags."x y"'], (*EQUALS, *LIKE_OPS, *NULL_OPS), TEXTS),
]


def tags(dice: random.Random) -> dict[str, str]:
    return {key: dice.choice(TEXTS) for key in ("team", "x y") if dice.random() < 0.6}


def value_of(item: Any, entity: str, key: str) -> Any:
    return item.tags.get(key) if entity == "tag" else getattr(item, key)


def searched(check: Callable[[list[Clause], list[Order], int], None], fields: Sequence[Field], sortable: Sequence[Field]) -> None:
    """Run the property: any filter, any order, pages small and large."""
    run = given(filters(fields), st.lists(st.one_of([one.orders() for one in sortable]), max_size=2), st.sampled_from([3, 50]))(check)
    settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)(run)()


def followed(ask: Callable[[str | None, int], Page[T]], limit: int) -> Iterator[T]:
    token: str | None = None
    while True:
        page = ask(token, limit)
        assert len(page.items) <= limit
        yield from page.items
        token = page.token
        if token is None:
            return


def test_experiments(tracking: Tracking, ctx: Context) -> None:
    dice = random.Random(3)
    made = [tracking.experiments.create(ctx, name, tags=tags(dice)).id for name in NAMES]
    for one in made[::4]:
        tracking.experiments.delete(ctx, one)
    all_of_them = [tracking.experiments.get(ctx, one) for one in ("0", *made)]
    times = [one.created_ms for one in all_of_them]
    fields = [
        Field("attribute", "name", ["name", "attribute.name", "attributes.`name`"], (*EQUALS, *LIKE_OPS), NAMES),
        Field("attribute", "id", ["experiment_id"], (*EQUALS, *LIST_OPS), ["0", "1", "3", "11", "77", "x"]),
        Field("attribute", "created_ms", ["creation_time", "attributes.creation_time"], NUMBER_OPS, [*times[:3], *HALF]),
        Field("attribute", "updated_ms", ["last_update_time"], NUMBER_OPS, [*times[3:6], *HALF]),
        *TAGS,
    ]

    def number(one: Experiment, entity: str, key: str) -> Any:
        return int(one.id) if key == "id" else value_of(one, entity, key)

    by_default = sorted(all_of_them, key=lambda one: (-one.updated_ms, -int(one.id)))
    by_number = sorted(all_of_them, key=lambda one: -int(one.id))

    def check(clauses: list[Clause], orders: list[Order], limit: int) -> None:
        for view in View:
            meant = [one for one in all_of_them if view is View.all or one.lifecycle == view.value]
            meant = [one for one in meant if all(holds(value_of(one, c.entity, c.key), c.op, c.value) for c in clauses)]
            expected = ordered(meant, orders, number, default=by_number if orders else by_default)

            def ask(token: str | None, most: int, view: View = view) -> Page[Experiment]:
                order_by = [order[3] for order in orders]
                return tracking.experiments.search(ctx, filter=written(clauses), order_by=order_by, view=view, limit=most, token=token)

            assert [one.id for one in followed(ask, limit)] == [one.id for one in expected], (written(clauses), orders)

    searched(check, fields, fields[:4])


def test_logged_models(tracking: Tracking, ctx: Context) -> None:
    dice = random.Random(4)
    run = tracking.runs.create(ctx).id
    made: list[LoggedModel] = []
    for _ in range(14):
        model = tracking.models.create(
            ctx,
            "0",
            name=dice.choice(["a", "A", "ab", "a_b", "zz"]),
            model_type=dice.choice(["", "tree", "Net"]),
            source_run_id=dice.choice([None, run]),
            params={key: dice.choice(TEXTS) for key in ("lr", "x y") if dice.random() < 0.6},
            tags=tags(dice),
        )
        if dice.random() < 0.7:
            point = Metric("acc", dice.choice([0.0, 0.25, 1.0, float("nan"), float("-inf")]), 1, 1, model.id)
            tracking.metrics.log(ctx, run, metrics=[point])
        if dice.random() < 0.5:
            tracking.models.finalize(ctx, model.id, dice.choice(["READY", "FAILED"]))
        if dice.random() < 0.2:
            tracking.models.delete(ctx, model.id)
        else:
            made.append(tracking.models.get(ctx, model.id))

    def value(one: LoggedModel, entity: str, key: str) -> Any:
        if entity == "metric":
            return next((point.value for point in one.metrics if point.key == key), None)
        return one.params.get(key) if entity == "param" else value_of(one, entity, key)

    fields = [
        Field("attribute", "name", ["name", "attributes.name"], (*EQUALS, *LIKE_OPS, *LIST_OPS), ["a", "A", "ab", "a_b", "zz"]),
        Field("attribute", "id", ["model_id"], (*EQUALS, *LIST_OPS), [made[0].id, made[1].id, "m-0"]),
        Field("attribute", "model_type", ["model_type"], (*EQUALS, *LIKE_OPS, *LIST_OPS), ["", "tree", "Net"]),
        Field("attribute", "status", ["status"], (*EQUALS, *LIST_OPS), ["READY", "PENDING", "FAILED"]),
        Field("attribute", "source_run_id", ["source_run_id", "attributes.source_run_id"], ("=", "IN"), [run, "x"]),
        Field("attribute", "created_ms", ["creation_timestamp", "creation_time"], NUMBER_OPS, [made[0].created_ms, *HALF]),
        Field("metric", "acc", ["metrics.acc", "metric.`acc`"], NUMBER_OPS, [0.25, -1, 1, 1e400]),
        Field("metric", "never", ["metrics.never"], NUMBER_OPS, [0]),
        Field("param", "lr", ["params.lr"], (*EQUALS, *LIKE_OPS, *LIST_OPS, *NULL_OPS), TEXTS),
        Field("param", "x y", ["params.`x y`"], (*EQUALS, *LIKE_OPS, *LIST_OPS, *NULL_OPS), TEXTS),
        *TAGS,
    ]
    by_default = sorted(made, key=lambda one: (-one.created_ms, one.id))

    def check(clauses: list[Clause], orders: list[Order], limit: int) -> None:
        meant = [one for one in made if all(holds(value(one, c.entity, c.key), c.op, c.value) for c in clauses)]
        expected = ordered(meant, orders, value, default=by_default)

        def ask(token: str | None, most: int) -> Page[LoggedModel]:
            order_by = [(order[3].split(" ")[0], order[2]) for order in orders]
            return tracking.models.search(ctx, ["0"], filter=written(clauses), order_by=order_by, limit=most, token=token)

        assert [one.id for one in followed(ask, limit)] == [one.id for one in expected], (written(clauses), orders)

    searched(check, fields, [fields[0], fields[2], fields[5], fields[8]])


@dataclass
class Shelf:
    """A registry with models in it, asked by the dialect's own handlers."""

    platform: Platform
    models: list[Repo]
    versions: list[Version]


@pytest.fixture
def shelf(platform: Platform, ctx: Context) -> Shelf:
    tracking, registry = platform.tracking, platform.registry
    dice = random.Random(5)
    runs = [tracking.runs.create(ctx).id for _ in range(3)]
    blob = registry.blobs.put([b"x"]).sha256
    slugs = [registry.create_repo(ctx, name, tags=tags(dice)).slug for name in NAMES]
    prompt = registry.create_repo(ctx, "a prompt", tags={PROMPT: "true"})
    registry.register(ctx, prompt.slug, registry.commit(ctx, prompt.slug, {"t": blob}, message="m").id, tags={PROMPT: "true"})
    made = []
    for _ in range(24):
        slug = dice.choice(slugs)
        commit = registry.commit(ctx, slug, {"f": blob}, message=str(dice.random()))
        version = registry.register(
            ctx,
            slug,
            commit.id,
            run_id=dice.choice([None, *runs]),
            source=dice.choice(["runs:/a/B", "models:/m-1", "a\\b", "[a]"]),
            tags=tags(dice),
        )
        made.append((slug, version.number))
    registry.delete_version(ctx, *made.pop())
    models = [registry.get_repo(ctx, slug) for slug in slugs]
    return Shelf(platform, models, [registry.get_version(ctx, *one) for one in made])


def test_registered_models(shelf: Shelf, ctx: Context) -> None:
    times = [one.updated_ms for one in shelf.models]
    fields = [
        Field("attribute", "name", ["name", "attribute.name"], (*EQUALS, *LIKE_OPS, *LIST_OPS), [one.name for one in shelf.models]),
        Field("attribute", "created_ms", ["creation_timestamp"], NUMBER_OPS, [shelf.models[2].created_ms, *HALF]),
        Field("attribute", "updated_ms", ["last_updated_timestamp"], NUMBER_OPS, [*times[:3], *HALF]),
        *TAGS,
    ]
    by_default = sorted(shelf.models, key=lambda one: one.name)

    def check(clauses: list[Clause], orders: list[Order], limit: int) -> None:
        meant = [one for one in shelf.models if all(holds(value_of(one, c.entity, c.key), c.op, c.value) for c in clauses)]
        expected = ordered(meant, orders, value_of, default=by_default)

        def ask(token: str | None, most: int) -> Page[str]:
            asked = m.SearchRegistered(written(clauses), most, [order[3] for order in orders], token or "")
            found = dialect.search_models(shelf.platform, ctx, asked)
            return Page([one["name"] for one in found.get("registered_models", ())], found.get("next_page_token"))

        assert list(followed(ask, limit)) == [one.name for one in expected], (written(clauses), orders)

    searched(check, fields, fields[:3])


def test_model_versions(shelf: Shelf, ctx: Context) -> None:
    runs = [one.run_id for one in shelf.versions if one.run_id]
    names = sorted({one.name for one in shelf.versions})
    fields = [
        Field("attribute", "name", ["name", "attribute.name"], (*EQUALS, *LIKE_OPS, *LIST_OPS), names),
        Field("attribute", "run_id", ["run_id"], (*EQUALS, *LIST_OPS), [runs[0], runs[1], "x"]),
        Field("attribute", "source", ["source_path"], (*EQUALS, *LIKE_OPS), ["runs:/a/B", "models:/m-1", "a\\b", "[a]"]),
        Field("attribute", "number", ["version_number"], NUMBER_OPS, [1, 2, 3, 1.5, 2.0, *HALF]),
        Field("attribute", "created_ms", ["creation_timestamp"], NUMBER_OPS, [shelf.versions[2].created_ms, *HALF]),
        Field("attribute", "updated_ms", ["last_updated_timestamp"], NUMBER_OPS, [shelf.versions[3].updated_ms, *HALF]),
        *TAGS,
    ]
    by_name = sorted(shelf.versions, key=lambda one: (one.name, -one.number))
    by_default = sorted(by_name, key=lambda one: -one.updated_ms)

    def met(one: Version, clause: Clause) -> bool:
        # A version without a run has the run '' to whom a run is asked not to be.
        value = value_of(one, clause.entity, clause.key)
        return holds(value or "" if clause.key == "run_id" else value, clause.op, clause.value)

    def check(clauses: list[Clause], orders: list[Order], limit: int) -> None:
        meant = [one for one in shelf.versions if all(met(one, clause) for clause in clauses)]
        expected = ordered(meant, orders, value_of, default=by_name if orders else by_default)

        def ask(token: str | None, most: int) -> Page[tuple[str, int]]:
            asked = m.SearchRegistered(written(clauses), most, [order[3] for order in orders], token or "")
            found = dialect.search_versions(shelf.platform, ctx, asked)
            return Page([(one["name"], int(one["version"])) for one in found.get("model_versions", ())], found.get("next_page_token"))

        assert list(followed(ask, limit)) == [(one.name, one.number) for one in expected], (written(clauses), orders)

    searched(check, fields, [fields[0], *fields[3:6]])


def test_prompts_show_only_to_who_asks_for_them(shelf: Shelf, ctx: Context) -> None:
    def names(text: str) -> list[str]:
        found = dialect.search_models(shelf.platform, ctx, m.SearchRegistered(text, 50))
        return [one["name"] for one in found.get("registered_models", ())]

    models = sorted(one.name for one in shelf.models)
    tag = f"tags.`{PROMPT}`"
    assert names("") == names(f"{tag} != 'true'") == names(f"{tag} = 'false'") == models
    assert names(f"{tag} = 'true'") == ["a prompt"] and names("name = 'a prompt'") == []
