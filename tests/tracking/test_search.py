"""The search grammar, against an evaluator that knows nothing of SQL."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.errors import Invalid
from drivetrain.identity.model import Context
from drivetrain.search.conditions import And, Condition, Node, Not, Or, Order
from drivetrain.search.grammar import parse_filter, parse_order
from drivetrain.search.languages import EXPERIMENTS, LOGGED_MODELS, MODEL_VERSIONS, REGISTERED_MODELS, RUNS
from drivetrain.tracking import tables
from drivetrain.tracking.model import Dataset, Input, Metric, Run, View
from drivetrain.tracking.service import Tracking
from tests.tracking.naive import holds

NUMBERS = [-1.5, 0.0, 0.25, 1.0, 1.0, 3.0, math.nan, math.inf, -math.inf]
TEXTS = ["", "a", "A", "ab", "Ab%", "a_b", "a*b", "a?", "[a]", "a\\b", "it's", 'say "x"', "B", "zz"]
METRICS = ["acc", "val/loss", "a b"]
PARAMS = ["lr", "opt.name"]
TAGS = ["team", "x y", "mlflow.note"]
STATUSES = ["RUNNING", "FINISHED", "FAILED"]


@pytest.fixture
def runs(tracking: Tracking, ctx: Context) -> list[Run]:
    dice = random.Random(7)
    for _ in range(3):
        tracking.experiments.create(ctx, f"e{dice.random()}")
    made: list[Run] = []
    for _ in range(40):
        run = tracking.runs.create(ctx, dice.choice(["0", "1", "2"]), name=dice.choice(TEXTS[1:]), start_ms=dice.randrange(1, 8))
        tracking.metrics.log(
            ctx,
            run.id,
            metrics=[Metric(key, dice.choice(NUMBERS), 1) for key in METRICS if dice.random() < 0.6],
            params={key: dice.choice(TEXTS) for key in PARAMS if dice.random() < 0.6},
            tags={key: dice.choice(TEXTS) for key in TAGS if dice.random() < 0.6},
        )
        if dice.random() < 0.5:
            tracking.runs.update(ctx, run.id, status=dice.choice(STATUSES), end_ms=dice.randrange(1, 8))
        if dice.random() < 0.3:
            tracking.inputs.log(ctx, run.id, [Input(Dataset(dice.choice(["d1", "d2"]), "x"), {"mlflow.data.context": "train"})])
        if dice.random() < 0.2:
            tracking.runs.delete(ctx, run.id)
        made.append(tracking.runs.get(ctx, run.id))
    return made


# --- the evaluator


def value_of(run: Run, entity: str, key: str) -> Any:
    if entity == "metric":
        return run.metrics[key].value if key in run.metrics else None
    if entity == "param":
        return run.params.get(key)
    if entity == "tag":
        return run.tags.get(key)
    names = {"run_id": "id", "run_name": "name", "user_id": "user", "start_time": "start_ms", "end_time": "end_ms"}
    return getattr(run, names.get(key, key))


def meets(run: Run, condition: Condition) -> bool:
    if condition.entity == "dataset":
        values = [i.context if condition.key == "context" else getattr(i.dataset, condition.key) for i in run.inputs]
        return any(holds(value, condition.op, condition.value) for value in values)
    return holds(value_of(run, condition.entity, condition.key), condition.op, condition.value)


def ordered(runs: Sequence[Run], orders: Sequence[Order]) -> list[Run]:
    found = sorted(runs, key=lambda run: run.id)
    found.sort(key=lambda run: run.start_ms, reverse=True)
    for order in reversed(orders):
        has = [run for run in found if (v := value_of(run, order.entity, order.key)) is not None and v == v]
        nans = [run for run in found if isinstance(v := value_of(run, order.entity, order.key), float) and v != v]
        rest = [run for run in found if value_of(run, order.entity, order.key) is None]
        has.sort(key=lambda run: value_of(run, order.entity, order.key), reverse=not order.ascending)
        found = has + nans + rest
    return found


# --- what to search for

quoted = st.sampled_from(TEXTS).map(lambda text: "'" + text.replace("'", "''") + "'") | st.sampled_from(TEXTS).map(
    lambda text: '"' + text.replace('"', '""') + '"'
)
patterns = st.text("aAbB%_*?[]\\", max_size=4).map(lambda text: f"'{text}'")
numbers = st.sampled_from(["0", "1", "-1.5", "0.25", "1e400", "+3", ".5", "123456789012345678901234567890"])
spaces = st.sampled_from([" ", "  ", "\n"])


def named(prefixes: list[str], keys: list[str]) -> st.SearchStrategy[str]:
    def write(prefix: str, key: str, quote: str) -> str:
        return f"{prefix}.{quote}{key}{quote}" if " " in key or quote else f"{prefix}.{key}"

    return st.builds(write, st.sampled_from(prefixes), st.sampled_from([*keys, "never"]), st.sampled_from(["`", '"'])) | st.builds(
        lambda prefix, key: f"{prefix}.{key}", st.sampled_from(prefixes), st.sampled_from([key for key in keys if " " not in key])
    )


metric_names = named(["metrics", "metric"], METRICS)
text_names = named(["params", "parameter"], PARAMS) | named(["tags", "tag"], TAGS)
attribute_texts = st.sampled_from(["run_name", "attributes.run_name", "status", "attr.user_id", "run.status"])
attribute_numbers = st.sampled_from(["start_time", "attributes.end_time", "created"])

clauses = st.one_of(
    st.builds(
        lambda k, op, v: f"{k} {op} {v}", metric_names | attribute_numbers, st.sampled_from(["=", "!=", ">", ">=", "<", "<="]), numbers
    ),
    st.builds(lambda k, op, v: f"{k}{op}{v}", text_names | attribute_texts, st.sampled_from(["=", "!=", " = "]), quoted),
    st.builds(lambda k, op, v: f"{k} {op} {v}", text_names | attribute_texts, st.sampled_from(["LIKE", "ILIKE", "like"]), patterns),
    st.builds(lambda k, op: f"{k} {op}", text_names, st.sampled_from(["IS NULL", "IS NOT NULL", "is not null"])),
    st.builds(
        lambda k, op, v: f"{k} {op} ({', '.join(v)})",
        attribute_texts,
        st.sampled_from(["IN", "NOT IN", "in"]),
        st.lists(quoted | st.sampled_from(["'FINISHED'", "'ann'"]), min_size=1, max_size=3),
    ),
    st.sampled_from(["datasets.name = 'd1'", "dataset.name LIKE 'd%'", "datasets.context = 'train'", "datasets.digest IN ('x', 'y')"]),
)
filters = st.lists(clauses, max_size=3).flatmap(lambda some: spaces.map(lambda space: f"{space}AND{space}".join(some)))
order_items = st.builds(
    lambda key, way: key + way,
    metric_names | text_names | attribute_texts | attribute_numbers,
    st.sampled_from(["", " ASC", " DESC", " desc"]),
)


def pages(tracking: Tracking, ctx: Context, limit: int, **asked: Any) -> Iterator[Run]:
    token: str | None = None
    while True:
        page = tracking.runs.search(ctx, ["0", "1", "2", "77"], limit=limit, token=token, **asked)
        assert len(page.items) <= limit
        yield from page.items
        token = page.token
        if token is None:
            return


@pytest.mark.slow
def test_searches_find_what_a_naive_evaluator_finds_in_its_order_on_every_page(tracking: Tracking, ctx: Context, runs: list[Run]) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(filters, st.lists(order_items, max_size=2), st.sampled_from(View), st.sampled_from([9, 100, 100]))
    def check(text: str, order_by: list[str], view: View, limit: int) -> None:
        conditions, orders = parse_filter(text, RUNS), parse_order(order_by, RUNS)
        seen = [run for run in runs if view is View.all or run.lifecycle == view.value]
        expected = ordered([run for run in seen if all(meets(run, one) for one in conditions)], orders)
        found = list(pages(tracking, ctx, limit, filter=text, order_by=order_by, view=view))
        assert [run.id for run in found] == [run.id for run in expected], (text, order_by)

    check()


trees = st.recursive(
    clauses.map(lambda text: parse_filter(text, RUNS)[0]),
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3)),
        st.builds(Or, st.lists(inner, max_size=3)),
        st.builds(Not, inner),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)


def true_of(run: Run, node: Node) -> bool:
    match node:
        case And(parts):
            return all(true_of(run, part) for part in parts)
        case Or(parts):
            return any(true_of(run, part) for part in parts)
        case Not(part):
            return not true_of(run, part)
        case Condition():
            return meets(run, node)


def test_conditions_are_true_or_false_and_nothing_else(tracking: Tracking, ctx: Context, runs: list[Run]) -> None:
    """Whatever is joined and turned round: what a run lacks is false in every condition but IS NULL, never unknown."""

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(trees, st.sampled_from([[], ["metrics.acc"]]))
    def check(tree: Node, order_by: list[str]) -> None:
        expected = ordered([run for run in runs if run.lifecycle == "active" and true_of(run, tree)], parse_order(order_by, RUNS))
        assert [run.id for run in pages(tracking, ctx, 100, filter=tree, order_by=order_by)] == [run.id for run in expected], tree
        assert tracking.groups.count(ctx, ["0", "1", "2"], filter=tree) == len(expected)

    check()


def test_one_experiment_ordered_by_a_metric(tracking: Tracking, ctx: Context, runs: list[Run]) -> None:
    mine = [run for run in runs if run.experiment_id == "1" and run.lifecycle == "active"]
    for way in ("ASC", "DESC"):
        order = [f"metrics.acc {way}"]
        token, found = None, list[str]()
        while True:
            page = tracking.runs.search(ctx, ["1"], order_by=order, limit=3, token=token)
            found += [run.id for run in page.items]
            if (token := page.token) is None:
                break
        assert found == [run.id for run in ordered(mine, parse_order(order, RUNS))]


@pytest.mark.parametrize(
    "text",
    [
        "metrics.acc > '0.5'",
        "metrics.acc LIKE 'a'",
        "metrics.acc IS NULL",
        "params.lr = 0.1",
        "params.lr > '0.1'",
        "params.lr = abc",
        "params.lr IN ('a')",
        "tags.a = 'x' OR tags.b = 'y'",
        "(tags.a = 'x')",
        "tags.a = 'x",
        "tags.a = ",
        "tags. = 'x'",
        "tags.a 'x'",
        "tags.a == 'x'",
        "status = FINISHED",
        "start_time = '5'",
        "start_time LIKE '5'",
        "unknown = 'x'",
        "nothing.a = 'x'",
        "tags.a = 'x' AND",
        "AND tags.a = 'x'",
        "tags.a = 'x' tags.b = 'y'",
        "status IN ('a',)",
        "status IN 'a'",
        "status IN (1)",
        "datasets.size = 'x'",
        "tags.a NOT 'x'",
        "tags.a IS 'x'",
        "tags.a RLIKE 'x'",
        ";",
        "tags.a = 'x\x00'",
    ],
)
def test_what_cannot_be_meant_is_refused_with_advice(text: str) -> None:
    with pytest.raises(Invalid, match="The filter cannot be read") as caught:
        parse_filter(text, RUNS)
    assert caught.value.param == "filter"


@pytest.mark.parametrize("item", ["", "metrics.a UP", "nothing", "metrics.a, metrics.b", "'a'", "= 1", "datasets.name"])
def test_orders_that_cannot_be_meant_are_refused(tracking: Tracking, ctx: Context, item: str) -> None:
    tracking.runs.create(ctx)
    with pytest.raises(Invalid):
        tracking.runs.search(ctx, ["0"], order_by=[item])


def test_searches_have_limits_that_every_database_meets(tracking: Tracking, ctx: Context) -> None:
    """What is just allowed is answered; one more is refused, not an error of the database."""
    run = tracking.runs.create(ctx, name="a" * 250)
    tracking.metrics.log(ctx, run.id, params={"p": "x"}, metrics=[Metric(f"m{n}", n, 1) for n in range(30)])

    def found(text: str = "", order_by: Sequence[str] = ()) -> int:
        return len(tracking.runs.search(ctx, ["0"], filter=text, order_by=order_by).items)

    def listed(count: int) -> str:
        return "run_id IN (" + ", ".join(f"'{n}'" for n in range(count - 1)) + f", '{run.id}')"

    assert found(" AND ".join(["params.p = 'x'"] * 200)) == 1 == found(" AND ".join(["metrics.m1 = 1"] * 200))
    assert found(listed(10_000)) == 1
    assert found("run_name LIKE '" + "%*" * 5000 + "'") == 0 == found("run_name ILIKE '" + "%_" * 5000 + "'")
    assert found(order_by=[f"metrics.m{n} DESC" for n in range(20)]) == 1 == found(order_by=[f"params.m{n} DESC" for n in range(20)])
    for text in (
        " AND ".join(["params.p = 'x'"] * 201),
        listed(10_001),
        f"{listed(9000)} AND {listed(9000)}",
        f"run_name LIKE '{'%' * 10_001}'",
        " " * (1 << 20) + "x = 1",
    ):
        with pytest.raises(Invalid):
            found(text)
    with pytest.raises(Invalid):
        found(order_by=[f"metrics.m{n}" for n in range(21)])


@pytest.mark.slow
def test_all_experiments_of_a_large_team_are_searched_at_once(tracking: Tracking, ctx: Context) -> None:
    tracking.runs.create(ctx)
    row = {"workspace_id": ctx.workspace_id, "lifecycle": "active", "artifact_location": "", "created_ms": 1, "updated_ms": 1}
    with tracking.runs.db.write() as c:
        c.execute(tables.experiments.insert(), [row | {"number": n, "name": f"e{n}"} for n in range(1, 40_001)])
    last = tracking.runs.create(ctx, "40000", start_ms=2**50)
    everywhere = [str(n) for n in range(40_001)]
    assert [run.id for run in tracking.runs.search(ctx, everywhere, limit=1).items] == [last.id]
    assert len(tracking.runs.search(ctx, everywhere, order_by=["metrics.a"], filter="run_name != ''").items) == 2


@settings(max_examples=300, deadline=None)
@given(st.text("metrics.tagsaprlik =!<>'\"`()%,ANDINOTLS0123456789\n", max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    for language in (RUNS, EXPERIMENTS, LOGGED_MODELS, REGISTERED_MODELS, MODEL_VERSIONS):
        with contextlib.suppress(Invalid):
            parse_filter(text, language)
        with contextlib.suppress(Invalid):
            parse_order([text], language)


def test_pages_hold_still_while_others_write(tracking: Tracking, ctx: Context, runs: list[Run]) -> None:
    there = [run.id for run in tracking.runs.search(ctx, ["0"], order_by=["metrics.acc DESC"]).items]
    for order_by in (["metrics.acc DESC"], ["params.lr"], []):
        seen, token = list[str](), None
        while True:
            page = tracking.runs.search(ctx, ["0"], order_by=order_by, limit=3, token=token)
            seen += [run.id for run in page.items]
            # Somebody begins a run, which is the first of any such order, and logs to what was seen already.
            new = tracking.runs.create(ctx)
            tracking.metrics.log(ctx, new.id, metrics=[Metric("acc", math.inf, 1)], params={"lr": ""})
            tracking.metrics.log(ctx, seen[0], metrics=[Metric("other", 1.0, 1)], tags={"seen": "yes"})
            if (token := page.token) is None:
                break
        assert sorted(one for one in seen if one in there) == sorted(there) and len(set(seen)) == len(seen)


@pytest.mark.parametrize("token", ["x", "W10", "WzEsMl0", "WyJhIiwiYiJd", "W251bGxd", "WzEsIHsiYSI6MX1d", "é"])
def test_foreign_page_tokens_are_refused(tracking: Tracking, ctx: Context, token: str) -> None:
    tracking.runs.create(ctx)
    for order in ([], ["metrics.a"], ["run_name"]):
        with pytest.raises(Invalid):
            tracking.runs.search(ctx, ["0"], order_by=order, token=token)


def test_experiments_are_searched_too(tracking: Tracking, ctx: Context) -> None:
    for name in ("alpha", "Beta", "gamma"):
        tracking.experiments.create(ctx, name, tags={"first": name[0]})
    tracking.experiments.delete(ctx, "3")

    def names(text: str | None = None, **more: Any) -> list[str]:
        return [e.name for e in tracking.experiments.search(ctx, filter=text, **more).items]

    assert names("name LIKE '%a%'", order_by=["name"]) == ["Beta", "Default", "alpha"]
    assert names("tags.first = 'B'") == ["Beta"]
    assert names("tags.first IS NULL") == ["Default"]
    assert names("name ILIKE 'B%'") == ["Beta"]
    assert names("experiment_id IN ('1', '2')", order_by=["experiment_id DESC"]) == ["Beta", "alpha"]
    assert names(view=View.deleted) == ["gamma"]
    first = tracking.experiments.search(ctx, order_by=["creation_time"], limit=2)
    rest = tracking.experiments.search(ctx, order_by=["creation_time"], limit=2, token=first.token)
    assert {e.name for e in [*first.items, *rest.items]} == {"Default", "alpha", "Beta"} and rest.token is None
