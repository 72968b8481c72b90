"""The filters of wandb's public API, against an evaluator that looks at plain dictionaries."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.tracking.mongo import matching
from drivetrain.tracking.service import Tracking

VALUES: list[Any] = [0, 1, 2.5, "a", "ab", "", True, False, None, [1, "a"]]
NUMBERS = [0.0, 1.0, 2.5, -3.0]


def made(tracking: Tracking, ctx: Context) -> list[dict[str, Any]]:
    """Twelve runs, and what a document database would hold of them."""
    dice = random.Random(5)
    documents = []
    for n in range(12):
        config = {key: dice.choice(VALUES) for key in ("lr", "opt") if dice.random() < 0.7}
        summary = {key: dice.choice(NUMBERS) for key in ("loss", "acc") if dice.random() < 0.7}
        labels = [word for word in ("red", "blue") if dice.random() < 0.5]
        state = dice.choice(["running", "finished", "failed"])
        run, _ = tracking.reports.begin(ctx, "0", f"r{n}", name=f"run {n % 4}")
        tracking.reports.update(
            ctx,
            run.id,
            config=json.dumps({key: {"value": value} for key, value in config.items()}),
            summary=json.dumps(summary),
            labels=labels,
            state=state,
            tags={"wandb.group": dice.choice(["g1", "g2"])} if dice.random() < 0.5 else {},
        )
        group = tracking.runs.get(ctx, run.id).tags.get("wandb.group")
        documents.append(
            {f"config.{k}": v for k, v in config.items()}
            | {f"summary_metrics.{k}": v for k, v in summary.items()}
            | {"name": f"r{n}", "display_name": f"run {n % 4}", "tags": labels, "state": state}
            | ({"group": group} if group else {})
        )
    return documents


def naive(document: dict[str, Any], wanted: dict[str, Any]) -> bool:
    for key, condition in wanted.items():
        if key == "$and":
            fits = all(naive(document, one) for one in condition)
        elif key == "$or":
            fits = any(naive(document, one) for one in condition) if condition else True
        elif key == "$not":
            fits = not naive(document, condition)
        else:
            value = document.get(key)
            operators = condition if isinstance(condition, dict) else {"$eq": condition}
            fits = all(holds(value, key in document, operator, argument) for operator, argument in operators.items())
        if not fits:
            return False
    return True


def equal(value: Any, other: Any) -> bool:
    if isinstance(value, list) and not isinstance(other, list):
        return any(equal(one, other) for one in value)
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def holds(value: Any, there: bool, operator: str, argument: Any) -> bool:
    each = value if isinstance(value, list) else [value]
    if operator == "$eq":
        return equal(value, argument)
    if operator == "$ne":
        return not equal(value, argument)
    if operator in ("$in", "$nin"):
        return any(equal(value, one) for one in argument) == (operator == "$in")
    if operator == "$exists":
        return there is argument
    if operator == "$regex":
        return any(isinstance(one, str) and re.search(argument, one) is not None for one in each)

    def comparable(one: Any) -> bool:
        numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (one, argument))
        return numbers or (isinstance(one, str) and isinstance(argument, str))

    tests = {"$gt": lambda a: a > argument, "$gte": lambda a: a >= argument, "$lt": lambda a: a < argument, "$lte": lambda a: a <= argument}
    return any(comparable(one) and tests[operator](one) for one in each)


keys = st.sampled_from(
    ["config.lr", "config.opt", "summary_metrics.loss", "summary_metrics.acc", "name", "display_name", "tags", "state", "group"]
)
values = st.sampled_from([*VALUES[:-1], "red", "g1", "running", "r1", "run 2", -3.0])
conditions = st.one_of(
    values,
    st.fixed_dictionaries({"$eq": values}),
    st.fixed_dictionaries({"$ne": values}),
    st.builds(lambda op, value: {op: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), values),
    st.builds(lambda op, some: {op: some}, st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=3)),
    st.builds(lambda yes: {"$exists": yes}, st.booleans()),
    st.builds(lambda text: {"$regex": text}, st.sampled_from(["a", "^r", "1$", "run [12]", "(red|blue)"])),
)
filters = st.recursive(
    st.dictionaries(keys, conditions, max_size=2),
    lambda inner: st.one_of(
        st.builds(lambda some: {"$and": some}, st.lists(inner, max_size=3)),
        st.builds(lambda some: {"$or": some}, st.lists(inner, max_size=3)),
        st.builds(lambda one: {"$not": one}, inner),
    ),
    max_leaves=5,
)


def test_filters_find_what_a_naive_evaluator_finds(tracking: Tracking, ctx: Context) -> None:
    documents = made(tracking, ctx)
    experiment = tracking.experiments.get(ctx, "0")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(wanted=filters, start=st.integers(0, 4), limit=st.integers(1, 12))
    def check(wanted: dict[str, Any], start: int, limit: int) -> None:
        expected = [one["name"] for one in documents if naive(one, wanted)]
        found, more = matching(tracking, ctx, experiment, wanted, "+created_at", start=start, limit=limit)
        assert [one.client_id for one in found] == expected[start : start + limit]
        assert more == (len(expected) > start + limit)

    check()


@pytest.mark.parametrize(
    "wanted",
    [{"$where": "1"}, {"config.lr": {"$near": 1}}, {"$or": {"a": 1}}, {"name": {"$in": "r1"}}, {"name": {"$regex": "("}}, {"unknown": 1}],
)
def test_filters_that_are_none(tracking: Tracking, ctx: Context, wanted: dict[str, Any]) -> None:
    made(tracking, ctx)
    with pytest.raises(Invalid):
        matching(tracking, ctx, tracking.experiments.get(ctx, "0"), wanted, "", start=0, limit=None)


def test_orders(tracking: Tracking, ctx: Context) -> None:
    documents = made(tracking, ctx)
    experiment = tracking.experiments.get(ctx, "0")
    for order, reverse in (("+summary_metrics.loss", False), ("-summary_metrics.loss", True)):
        found, _ = matching(tracking, ctx, experiment, {"summary_metrics.loss": {"$exists": True}}, order, start=0, limit=None)
        losses = [one.summary["loss"] for one in found]
        assert losses == sorted((d["summary_metrics.loss"] for d in documents if "summary_metrics.loss" in d), reverse=reverse)
    with pytest.raises(Invalid, match="ordered by"):
        matching(tracking, ctx, experiment, {}, "+nothing", start=0, limit=None)
