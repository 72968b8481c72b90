"""Filters and orders mean here what mlflow's own code takes them to mean: the same runs, experiments and models, searched by both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.dialects.mlflow import answers
from drivetrain.dialects.mlflow import messages as m
from drivetrain.dialects.mlflow import registry as dialect
from drivetrain.identity.model import Context
from drivetrain.platform import Platform
from drivetrain.tags import PROMPT
from drivetrain.tracking.model import Dataset, Input, Metric, View
from drivetrain.tracking.service import Tracking
from tests.tracking.naive import LIKE_OPS, LIST_OPS, NULL_OPS, NUMBER_OPS, Clause, Field, filters, written

EQUALS = ("=", "!=")
TEXTS = ["", "a", "A", "ab", "Ab%", "a_b", "a*b", "B", "zz"]  # its parser knows no quote within a string
TAGS = [
    Field("tag", "team", ["tags.team", "tag.team", "tags.`team`"], (*EQUALS, *LIKE_OPS), TEXTS, "aAbB%_*"),
    Field("tag", "x y", ["tags.`x y`", 'tags."x y"'], (*EQUALS, *LIKE_OPS), TEXTS, "aAbB%_*"),
]
TAGS_OF_RUNS = [Field("tag", one.key, one.names, (*one.ops, *NULL_OPS), TEXTS, "aAbB%_*") for one in TAGS]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def tags(dice: random.Random) -> dict[str, str]:
    return {key: dice.choice(TEXTS) for key in ("team", "x y") if dice.random() < 0.6}


def searched(check: Any, fields: Sequence[Field], sortable: Sequence[Field]) -> None:
    # It takes no key twice in an order.
    orders = st.lists(st.one_of([one.orders() for one in sortable]), max_size=2, unique_by=lambda order: order[:2])
    run = given(filters(fields), orders.map(lambda some: [order[3] for order in some]))(check)
    settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)(run)()


def test_runs(tracking: Tracking, ctx: Context) -> None:
    from mlflow.entities import Run
    from mlflow.protos.service_pb2 import Run as RunMessage
    from mlflow.utils.proto_json_utils import parse_dict
    from mlflow.utils.search_utils import SearchUtils

    dice = random.Random(8)
    runs = []
    for _ in range(40):
        run = tracking.runs.create(ctx, name=dice.choice(TEXTS[1:]), start_ms=dice.randrange(1, 8), tags=tags(dice))
        values = [-1.5, 0.0, 0.25, 1.0, 3.0, float("nan"), float("inf"), float("-inf")]
        tracking.metrics.log(
            ctx,
            run.id,
            metrics=[Metric(key, dice.choice(values), 1) for key in ("acc", "val/loss") if dice.random() < 0.7],
            params={key: dice.choice(TEXTS) for key in ("lr", "opt.name") if dice.random() < 0.7},
        )
        if dice.random() < 0.5:
            tracking.runs.update(ctx, run.id, status=dice.choice(["FINISHED", "FAILED"]), end_ms=dice.randrange(1, 8))
        if dice.random() < 0.4:
            used = Input(Dataset(dice.choice(["d1", "d2"]), dice.choice("xy")), {"mlflow.data.context": dice.choice(["train", "eval"])})
            tracking.inputs.log(ctx, run.id, [used])
        runs.append(run.id)
    theirs = []
    for one in runs:
        message = RunMessage()
        parse_dict(answers.run(tracking.runs.get(ctx, one)), message)
        theirs.append(Run.from_proto(message))
    number, text = (*EQUALS, *LIKE_OPS), "aAbB%_*"
    fields = [
        Field("metric", "acc", ["metrics.acc", "metric.`acc`"], NUMBER_OPS, [0.25, 1, -1.5, 0]),
        Field("metric", "val/loss", ["metrics.`val/loss`", 'metrics."val/loss"'], NUMBER_OPS, [0.25, 1, -1.5, 0]),
        Field("param", "lr", ["params.lr", "parameter.lr", "params.`lr`"], (*number, *NULL_OPS), TEXTS, text),
        Field("param", "opt.name", ["params.opt.name", "param.`opt.name`"], (*number, *NULL_OPS), TEXTS, text),
        *TAGS_OF_RUNS,
        Field("attribute", "run_name", ["run_name", "attributes.run_name", "attr.run_name"], number, TEXTS[1:], text),
        Field("attribute", "status", ["status", "attribute.status"], number, ["FINISHED", "RUNNING", "x"], text),
        Field("attribute", "start_time", ["start_time", "attributes.start_time", "created"], NUMBER_OPS, [1, 3, 4]),
        Field("attribute", "end_time", ["attributes.end_time"], NUMBER_OPS, [1, 3, 4]),
        Field("attribute", "run_id", ["run_id", "attributes.run_id"], (*EQUALS, *LIST_OPS), [*runs[:3], "x"]),
        Field("dataset", "name", ["datasets.name", "dataset.name"], number, ["d1", "d2"], "dD12%_"),
        Field("dataset", "digest", ["datasets.digest"], number, ["x", "y"], "xXyY%_"),
        Field("dataset", "context", ["dataset.context"], number, ["train", "eval"], "train%_"),
    ]
    sortable = [one for one in fields if one.entity != "dataset"]

    def check(clauses: list[Clause], orders: list[str]) -> None:
        expected = SearchUtils.sort(SearchUtils.filter(theirs, written(clauses)), orders)
        found = tracking.runs.search(ctx, ["0"], filter=written(clauses), order_by=orders).items
        assert [one.id for one in found] == [one.info.run_id for one in expected]

    searched(check, fields, sortable)


def test_experiments(tracking: Tracking, ctx: Context) -> None:
    from mlflow.entities import Experiment
    from mlflow.protos.service_pb2 import Experiment as ExperimentMessage
    from mlflow.utils.proto_json_utils import parse_dict
    from mlflow.utils.search_utils import SearchExperimentsUtils

    dice = random.Random(9)
    names = ["a", "A", "ab", "Ab%", "a_b", "a*b", "B", "zz", "b.c", "-x"]
    made = [tracking.experiments.create(ctx, name, tags=tags(dice)).id for name in names]
    theirs = []
    for one in ("0", *made):
        message = ExperimentMessage()
        parse_dict(answers.experiment(tracking.experiments.get(ctx, one)), message)
        theirs.append(Experiment.from_proto(message))
    times = [one.creation_time for one in theirs]
    fields = [
        Field("attribute", "name", ["name", "attribute.name"], (*EQUALS, *LIKE_OPS), names, "aAbB%_*"),
        Field("attribute", "creation_time", ["creation_time"], NUMBER_OPS, times[:3]),
        Field("attribute", "last_update_time", ["attribute.last_update_time"], NUMBER_OPS, times[3:5]),
        *TAGS_OF_RUNS,
    ]

    def check(clauses: list[Clause], orders: list[str]) -> None:
        found = tracking.experiments.search(ctx, filter=written(clauses), order_by=[*orders, "experiment_id DESC"], view=View.all).items
        # Its ids are texts in this code, numbers in its store.
        by_number = sorted(theirs, key=lambda one: -int(one.experiment_id))
        expected = SearchExperimentsUtils.filter(by_number, written(clauses))
        for order in reversed(orders):
            _, key, ascending = SearchExperimentsUtils.parse_order_by_for_search_experiments(order)
            expected.sort(key=lambda one, key=key: getattr(one, key), reverse=not ascending)
        assert [one.id for one in found] == [one.experiment_id for one in expected]

    searched(check, fields, fields[:3])


@pytest.fixture
def filled(platform: Platform, ctx: Context) -> Platform:
    """A registry of some models and a prompt."""
    tracking, registry = platform.tracking, platform.registry
    dice = random.Random(10)
    blob = registry.blobs.put([b"x"]).sha256
    runs = [tracking.runs.create(ctx).id for _ in range(2)]
    for name in ["a", "A", "ab", "Ab%", "a_b", "a*b", "B", "zz"]:
        slug = registry.create_repo(ctx, name, tags=tags(dice)).slug
        for _ in range(dice.randrange(4)):
            commit = registry.commit(ctx, slug, {"f": blob}, message=str(dice.random())).id
            source = dice.choice(["runs:/a/B", "models:/m-1", "x_y"])
            registry.register(ctx, slug, commit, run_id=dice.choice(runs), source=source, tags=tags(dice))
    prompt = registry.create_repo(ctx, "a prompt", tags={PROMPT: "true"}).slug
    commit = registry.commit(ctx, prompt, {"f": blob}, message="m").id
    registry.register(ctx, prompt, commit, tags={PROMPT: "true"})
    return platform


def test_registered_models_and_versions(filled: Platform, ctx: Context) -> None:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.protos.model_registry_pb2 import ModelVersion as VersionMessage
    from mlflow.protos.model_registry_pb2 import RegisteredModel as ModelMessage
    from mlflow.utils.proto_json_utils import parse_dict
    from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils

    models, versions = [], []
    for body in dialect.search_models(filled, ctx, m.SearchRegistered())["registered_models"]:
        message = ModelMessage()
        parse_dict(body, message)
        models.append(RegisteredModel.from_proto(message))
    for body in dialect.search_versions(filled, ctx, m.SearchRegistered())["model_versions"]:
        message = VersionMessage()
        parse_dict(body, message)
        version = ModelVersion.from_proto(message)
        version._version = int(version.version)  # as its store has it
        versions.append(version)
    assert len(models) == 8 and len(versions) > 8
    names, runs = [one.name for one in models], sorted({one.run_id for one in versions})
    name = Field("attribute", "name", ["name", "attribute.name"], (*EQUALS, *LIKE_OPS, "IN"), names, "aAbB%_*")
    prompt = Field("tag", PROMPT, [f"tags.`{PROMPT}`"], ("!=",), ["true"])
    times = [Field("attribute", key, [key], NUMBER_OPS, [0]) for key in ("creation_timestamp", "last_updated_timestamp")]
    number = Field("attribute", "version_number", ["version_number"], NUMBER_OPS, [1, 2, 3])
    fields = [
        name,
        number,
        Field("attribute", "run_id", ["run_id"], (*EQUALS, "IN"), [*runs, "x"]),
        Field("attribute", "source_path", ["source_path"], (*EQUALS, *LIKE_OPS), ["runs:/a/B", "models:/m-1", "x_y"], "runsxy%_"),
        *TAGS,
        prompt,
    ]

    def check_models(clauses: list[Clause], orders: list[str]) -> None:
        expected = SearchModelUtils.sort(SearchModelUtils.filter(models, written(clauses)), orders)
        found = dialect.search_models(filled, ctx, m.SearchRegistered(written(clauses), 100, orders))
        assert [one["name"] for one in found.get("registered_models", ())] == [one.name for one in expected]

    def check_versions(clauses: list[Clause], orders: list[str]) -> None:
        orders = orders or ["last_updated_timestamp DESC"]
        expected = SearchModelVersionUtils.sort(SearchModelVersionUtils.filter(versions, written(clauses)), orders)
        found = dialect.search_versions(filled, ctx, m.SearchRegistered(written(clauses), 100, orders))
        got = [(one["name"], int(one["version"])) for one in found.get("model_versions", ())]
        assert got == [(one.name, one.version) for one in expected]

    searched(check_models, [name, *TAGS, prompt], [name, *times])
    searched(check_versions, fields, [name, number, *times])
