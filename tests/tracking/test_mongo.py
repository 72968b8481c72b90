"""The filters of wandb's public API, in SQL, against an evaluator that looks at plain dictionaries."""

from __future__ import annotations

import json
import math
import random
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.dialects.wandb import filters as dialect
from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.search import mongo
from drivetrain.tracking.model import Metric, RunReport
from drivetrain.tracking.service import Tracking

VALUES: list[Any] = [0, 1, 2.5, "a", "ab", "", True, False, None, float("inf"), "1", 'é"\\', [1, "a"], [], {"deep": 1}, {"value": "b"}]
NUMBERS = [0.0, 1.0, 2.5, -3.0, float("nan"), float("-inf")]
PARAMS = ["0.5", "1", "a", "True", "None", "007", "1e3", "", "-2.5"]


def made(tracking: Tracking, ctx: Context) -> list[dict[str, Any]]:
    """Runs of wandb's client and of others, and what a document database would hold of them."""
    dice = random.Random(5)
    for n in range(16):
        config = {key: dice.choice(VALUES) for key in ("lr", "opt", "a.b", "clé") if dice.random() < 0.6}
        if dice.random() < 0.5:
            config["net"] = {"depth": dice.choice(VALUES), "in": {"x y": dice.choice(VALUES)}}
        summary: dict[str, Any] = {key: dice.choice(NUMBERS) for key in ("loss", "acc") if dice.random() < 0.7}
        if dice.random() < 0.3:
            summary["loss"] = {"min": dice.choice(NUMBERS), "note": "best"}
        labels = [word for word in ("red", "blue") if dice.random() < 0.5]
        state = dice.choice(["running", "finished", "failed", "crashed", "killed"])
        run, _ = tracking.reports.begin(ctx, "0", f"r{n}", name=f"run {n % 4}", sweep=dice.choice([None, "s1", "s2"]))
        tracking.reports.update(
            ctx,
            run.id,
            config=json.dumps({key: {"value": value} for key, value in config.items()}),
            summary=json.dumps(summary),
            labels=labels,
            state=state,
            tags={"wandb.group": dice.choice(["g1", "g2"])} if dice.random() < 0.5 else {},
        )
        if dice.random() < 0.5:  # another client, too
            tracking.metrics.log(ctx, run.id, metrics=[Metric(dice.choice(["loss", "acc", "other"]), dice.choice(NUMBERS), 1)])
        if dice.random() < 0.2:
            tracking.runs.update(ctx, run.id, status="FINISHED")
    for n in range(6):
        run = tracking.runs.create(ctx, "0", name=f"run {n % 4}")
        params = {key: dice.choice(PARAMS) for key in ("lr", "opt", "net.depth", "a.b") if dice.random() < 0.7}
        metrics = [Metric(key, dice.choice(NUMBERS), 1) for key in ("loss", "acc", "system/cpu") if dice.random() < 0.7]
        tracking.metrics.log(ctx, run.id, params=params, metrics=metrics)
    ids = [run.id for run in tracking.runs.search(ctx, ["0"], order_by=["start_time ASC"]).items]
    reports = tracking.reports.get_many(ctx, ids)
    return [document(reports[one]) for one in ids]


def document(one: RunReport) -> dict[str, Any]:
    group = one.run.tags.get("wandb.group")
    return (
        {"config": one.config, "summary_metrics": one.summary, "name": one.client_id, "display_name": one.run.name}
        | {"tags": list(one.labels), "state": one.state, "user": one.run.user}
        | {"created_at": datetime.fromtimestamp(one.run.start_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")}
        | ({"sweep": one.sweep} if one.sweep else {})
        | ({"group": group} if group else {})
    )


MISSING = object()


def value_of(document: Any, key: str) -> Any:
    """By a dotted key; a key that has the dots in it comes first."""
    if not isinstance(document, dict):
        return MISSING
    if key in document:
        return document[key]
    for n, letter in enumerate(key):
        if letter == "." and (found := value_of(document.get(key[:n]), key[n + 1 :])) is not MISSING:
            return found
    return value_of(document, key.removesuffix(".value")) if key.endswith(".value") else MISSING


def naive(document: dict[str, Any], wanted: dict[str, Any]) -> bool:
    for key, condition in wanted.items():
        if key == "$and":
            fits = all(naive(document, one) for one in condition)
        elif key == "$or":
            fits = any(naive(document, one) for one in condition) if condition else True
        elif key == "$nor":
            fits = not any(naive(document, one) for one in condition)
        elif key == "$not":
            fits = not naive(document, condition)
        else:
            value = value_of(document, key)
            operators = condition if isinstance(condition, dict) else {"$eq": condition}
            fits = all(holds(value, operator, argument) for operator, argument in operators.items())
        if not fits:
            return False
    return True


def equal(value: Any, other: Any) -> bool:
    if value is MISSING:
        return other is None
    if isinstance(value, list) and not isinstance(other, list):
        return any(equal(one, other) for one in value)
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def holds(value: Any, operator: str, argument: Any) -> bool:
    if operator == "$not":
        return not all(holds(value, inner, one) for inner, one in argument.items())
    each = value if isinstance(value, list) else [value]
    if operator == "$eq":
        return equal(value, argument)
    if operator == "$ne":
        return not equal(value, argument)
    if operator in ("$in", "$nin"):
        return any(equal(value, one) for one in argument) == (operator == "$in")
    if operator == "$exists":
        return (value is not MISSING) is argument
    if operator == "$regex":
        return any(isinstance(one, str) and re.search(argument, one) is not None for one in each)

    def comparable(one: Any) -> bool:
        numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (one, argument))
        return numbers or (isinstance(one, str) and isinstance(argument, str))

    tests = {"$gt": lambda a: a > argument, "$gte": lambda a: a >= argument, "$lt": lambda a: a < argument, "$lte": lambda a: a <= argument}
    return any(comparable(one) and tests[operator](one) for one in each)


keys = st.sampled_from(
    [
        *["config.lr", "config.opt", "config.opt.value", "config.a.b", "config.clé", "config.net.depth", "config.net.in.x y", "config.net"],
        *["config.net.depth.value", "config.opt.deep", "summary_metrics.loss", "summary_metrics.acc", "summary_metrics.loss.min"],
        *["summary_metrics.other", "name", "display_name", "tags", "state", "group", "sweep", "user", "created_at"],
    ]
)
values = st.sampled_from(
    [*VALUES[:-4], *["red", "g1", "running", "crashed", "r1", "run 2", "s1", "b", "2026-01-01", "9"], -3.0, 0.5, 1000, float("nan"), 2**70]
)
conditions = st.one_of(
    values,
    st.fixed_dictionaries({"$eq": values}),
    st.fixed_dictionaries({"$ne": values}),
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), values),
    st.builds(lambda op, some: {op: some}, st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=3)),
    st.builds(lambda yes: {"$exists": yes}, st.booleans()),
    st.builds(lambda text: {"$regex": text}, st.sampled_from(["a", "^r", "1$", "run [12]", "(red|blue)", "^$", "[^a]"])),
)
conditions = conditions | conditions.filter(lambda one: isinstance(one, dict)).map(lambda one: {"$not": one})
filters = st.recursive(
    st.dictionaries(keys, conditions, max_size=2),
    lambda inner: st.one_of(
        st.builds(lambda some: {"$and": some}, st.lists(inner, max_size=3)),
        st.builds(lambda some: {"$or": some}, st.lists(inner, max_size=3)),
        st.builds(lambda some: {"$nor": some}, st.lists(inner, max_size=3)),
        st.builds(lambda one: {"$not": one}, inner),
    ),
    max_leaves=5,
)


def found(tracking: Tracking, ctx: Context, wanted: Any, order: str = "+created_at", limit: int = 50) -> list[str]:
    """On all pages, by the client's ids."""
    reports: list[RunReport] = []
    token: str | None = None
    while True:
        meant, order_by = mongo.parse(wanted, dialect.key_of), dialect.order_by(order)
        page = tracking.runs.search(ctx, ["0"], filter=meant, order_by=order_by, limit=limit, token=token)
        details = tracking.reports.get_many(ctx, [run.id for run in page.items])
        reports += [details[run.id] for run in page.items]
        if (token := page.token) is None:
            return [one.client_id for one in reports]


def test_filters_find_what_a_naive_evaluator_finds(tracking: Tracking, ctx: Context) -> None:
    documents = made(tracking, ctx)

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(wanted=filters, limit=st.sampled_from([5, 50, 50]))
    def check(wanted: dict[str, Any], limit: int) -> None:
        expected = [one["name"] for one in documents if naive(one, wanted)]
        assert found(tracking, ctx, wanted, limit=limit) == expected, wanted
        assert tracking.groups.count(ctx, ["0"], filter=mongo.parse(wanted, dialect.key_of)) == len(expected)

    check()


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"$where": "1"}, "where"),
        ({"config.lr": {"$near": 1}}, "near"),
        ({"$or": {"a": 1}}, "a list of filters"),
        ({"name": {"$in": "r1"}}, "takes a list"),
        ({"name": {"$regex": "("}}, "missing"),
        ({"name": {"$regex": 5}}, "as a text"),
        ({"config.lr": {"$regex": "(a)\\1"}}, "refers back"),
        ({"config.lr": {"$regex": "a(?!b)"}}, "looks ahead"),
        ({"unknown": 1}, "filtered by 'unknown'"),
        ({"config.lr": {"a": 1}}, r"config.lr.<key>"),
        ({"config.lr": [1, 2]}, "use .in"),
        ({'config.a"b': 1}, "a quote in it"),
        ({"name": "a\x00"}, "NUL"),
        ({"name": {"$in": ["x"] * 10_001}}, "10000 values"),
        ({"$or": [{"name": "x"}] * 201}, "200 conditions"),
        ([], "JSON object"),
    ],
)
def test_filters_that_are_none(tracking: Tracking, ctx: Context, wanted: Any, why: str) -> None:
    tracking.reports.begin(ctx, "0", "r1")
    with pytest.raises(Invalid, match=why):
        found(tracking, ctx, wanted)


def test_filters_have_limits_that_every_database_meets(tracking: Tracking, ctx: Context) -> None:
    tracking.reports.begin(ctx, "0", "r1", config={"lr": 5})
    assert found(tracking, ctx, {"$or": [{"config.lr": n} for n in range(200)]}) == ["r1"]
    assert found(tracking, ctx, {"config.lr": {"$in": [*range(9_999), "x"]}}) == ["r1"]
    assert found(tracking, ctx, {"name": {"$nin": [f"x{n}" for n in range(10_000)]}}) == ["r1"]
    deep: dict[str, Any] = {"config.lr": 5}
    for _ in range(20):
        deep = {"$and": [deep]}
    assert found(tracking, ctx, deep) == ["r1"]
    with pytest.raises(Invalid, match="nested"):
        found(tracking, ctx, {"$not": deep})


def test_what_no_database_reads_is_kept_and_searched_beside(tracking: Tracking, ctx: Context) -> None:
    """NaN, infinities, NUL and half a surrogate pair in one run's report harm no search, and numbers come back as they were."""
    odd = (
        r'{"x": NaN, "y": [Infinity, -Infinity, {"z": NaN}], "n\u0000ul": "a\u0000b", "half": ["\ud800"], "word": "Infinity",'
        r' "emoji": "\ud83d\ude00"}'
    )
    run, _ = tracking.reports.begin(ctx, "0", "odd")
    tracking.reports.update(ctx, run.id, summary=odd)
    tracking.reports.begin(ctx, "0", "even", config={"x": 1})
    summary = tracking.reports.get(ctx, run.id).summary
    assert summary["x"] != summary["x"] and summary["y"][:2] == [math.inf, -math.inf] and math.isnan(summary["y"][2]["z"])
    assert (summary["nul"], summary["half"], summary["word"], summary["emoji"]) == ("ab", ["\ufffd"], "Infinity", "😀")
    for wanted, expected in (
        ({"config.x": 1}, ["even"]),
        ({"summary_metrics.x": {"$exists": True}}, ["odd"]),
        ({"summary_metrics.x": {"$gt": 0}}, []),
        ({"summary_metrics.y": math.inf}, ["odd"]),
        ({"summary_metrics.y": {"$lt": -1e308}}, ["odd"]),
        ({"summary_metrics.word": "Infinity"}, ["odd"]),
        ({"summary_metrics.emoji": {"$regex": "^.$"}}, ["odd"]),
    ):
        assert found(tracking, ctx, wanted) == expected, wanted


def test_orders(tracking: Tracking, ctx: Context) -> None:
    made(tracking, ctx)
    reports = tracking.reports.get_many(ctx, [run.id for run in tracking.runs.search(ctx, ["0"]).items])
    last = {one.client_id: one.run.metrics["acc"].value for one in reports.values() if "acc" in one.run.metrics}
    for order, reverse in (("+summary_metrics.acc", False), ("-summary_metrics.acc", True)):
        got = [last.get(name) for name in found(tracking, ctx, {}, order, limit=3)]
        numbers = sorted((value for value in last.values() if value == value), reverse=reverse)
        assert got[: len(numbers)] == numbers and len(got) == len(reports)
    with pytest.raises(Invalid, match="ordered by"):
        found(tracking, ctx, {}, "+nothing")
