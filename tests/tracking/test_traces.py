"""Traces in the store, on both databases: merging in any order, replays, tokens, search, workspaces, deletion."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.store.ids import uuid7
from drivetrain.tracking.deletion.dependants import dependants, undeclared
from drivetrain.tracking.service import Tracking
from drivetrain.tracking.traces import spans as s
from drivetrain.tracking.traces import tables as x
from drivetrain.tracking.traces.assessments import Assessment
from drivetrain.tracking.traces.service import TraceInfo
from drivetrain.tracking.traces.spans import Event, Link, Span

MS = 10**6


def span(trace: str, number: int, parent: int | None = None, **about: Any) -> Span:
    given: dict[str, Any] = {"name": f"n{number}", "start_ns": (1000 + number) * MS, "end_ns": 2000 * MS, "status": "OK"} | about
    return Span(trace_id=trace, span_id=f"{number:016x}", parent_id=None if parent is None else f"{parent:016x}", **given)


def usage(total: int) -> dict[str, Any]:
    return {"mlflow.chat.tokenUsage": {"input_tokens": total - 1, "output_tokens": 1, "total_tokens": total}}


def test_spans_alone_make_a_trace(tracking: Tracking, ctx: Context) -> None:
    one = uuid7()
    root = span(one, 1, attributes={"mlflow.spanInputs": {"messages": [{"role": "user", "content": "hi"}]}, "session.id": "s"})
    tracking.traces.log_spans(ctx, "0", [span(one, 2, 1)])
    before = tracking.traces.info(ctx, f"tr-{one}")
    assert (before.state, before.start_ms, before.duration_ms) == ("IN_PROGRESS", 1002, 998)
    tracking.traces.log_spans(ctx, "0", [root])
    after = tracking.traces.info(ctx, f"tr-{one}")
    assert (after.state, after.start_ms, after.duration_ms, after.name, after.request_preview) == ("OK", 1001, 999, "n1", "hi")
    assert after.metadata["mlflow.trace.session"] == "s"
    assert after.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert after.tags["mlflow.artifactLocation"] == f"mlflow-artifacts:/0/traces/tr-{one}/artifacts"
    assert [each.name for each in tracking.traces.get(ctx, f"tr-{one}").spans] == ["n1", "n2"]


def test_one_that_ended_is_not_opened_again(tracking: Tracking, ctx: Context) -> None:
    one = uuid7()
    tracking.traces.log_spans(ctx, "0", [span(one, 1, end_ns=None)])
    assert tracking.traces.info(ctx, f"tr-{one}").state == "IN_PROGRESS"
    tracking.traces.log_spans(ctx, "0", [span(one, 1, status="ERROR")])
    tracking.traces.log_spans(ctx, "0", [span(one, 1, end_ns=None)])
    found = tracking.traces.get(ctx, f"tr-{one}")
    assert (found.info.state, found.spans[0].end_ns) == ("ERROR", 2000 * MS)


def test_what_a_span_holds_comes_back_as_it_was(tracking: Tracking, ctx: Context) -> None:
    one = uuid7()
    odd: dict[str, Any] = {
        "a\x00": "b\x00c",
        "bytes": b"\x00\xff",
        "list": [1, 1.0, None, True, [b"x"], {}],
        "nan": math.inf,
        "map": {"b": {"m": {"x": -1}}},
    }
    plain = {"text": "ü\n'\"", "int": -(1 << 63), "float": 0.1, "none": None}
    sent = span(
        one,
        1,
        message="why",
        attributes=odd | plain,
        events=(Event("e\x00", 5, {"k": [b"1", math.inf]}),),
        links=(Link(uuid7(), "1" * 16, {"z": {}}),),
    )
    tracking.traces.log_spans(ctx, "0", [sent])
    found = tracking.traces.get(ctx, f"tr-{one}").spans[0]
    assert found == sent
    assert [type(each) for each in found.attributes["list"]] == [type(each) for each in odd["list"]]


@pytest.mark.parametrize(
    "bad",
    [
        {"trace_id": "0" * 32},
        {"trace_id": "ab"},
        {"span_id": "0" * 16},
        {"parent_id": "xyz"},
        {"start_ns": 1 << 63},
        {"end_ns": 1 << 64},
        {"events": (Event("e", 1 << 63),)},
    ],
)
def test_spans_that_cannot_be_kept_are_refused_whole(tracking: Tracking, ctx: Context, bad: dict[str, Any]) -> None:
    one = uuid7()
    given: dict[str, Any] = {"trace_id": one, "span_id": "1" * 16} | bad
    with pytest.raises(Invalid):
        tracking.traces.log_spans(ctx, "0", [span(one, 2), Span(**given)])
    with pytest.raises(NotFound):
        tracking.traces.info(ctx, f"tr-{one}")


def test_what_the_client_tells_stays_whatever_comes_later(tracking: Tracking, ctx: Context) -> None:
    one = uuid7()
    told = TraceInfo(
        id=f"tr-{one}",
        experiment_id="0",
        start_ms=5,
        duration_ms=7,
        state="OK",
        request_preview="asked",
        tags={"mlflow.traceName": "told", "own": "tag", "mlflow.artifactLocation": "elsewhere"},
        metadata={"mlflow.trace.tokenUsage": json.dumps({"total_tokens": 9}), "mlflow.trace.sizeStats": json.dumps({"num_spans": 2})},
    )
    assert tracking.traces.put(ctx, told).tags["mlflow.artifactLocation"].startswith("mlflow-artifacts:/0/")
    tracking.traces.log_spans(ctx, "0", [span(one, 1, status="ERROR", attributes=usage(100), resource={"service.name": "shop"})])
    assert not tracking.traces.get(ctx, f"tr-{one}").complete
    tracking.traces.log_spans(ctx, "0", [span(one, 2, 1)])
    found = tracking.traces.get(ctx, f"tr-{one}")
    assert found.complete
    info = found.info
    assert (info.start_ms, info.duration_ms, info.state, info.name, info.tokens) == (5, 7, "OK", "told", 9)
    assert (info.tags["own"], info.tags["service.name"], info.request_preview) == ("tag", "shop", "asked")


def test_tokens_and_costs_count_each_branch_once(tracking: Tracking, ctx: Context) -> None:
    one = uuid7()
    cost = {"mlflow.llm.cost": json.dumps({"input_cost": 0.5, "output_cost": 0.25, "total_cost": 0.75})}
    otel = {"gen_ai.usage.input_tokens": 4, "gen_ai.usage.output_tokens": 1}
    tracking.traces.log_spans(ctx, "0", [span(one, 3, 2, attributes=usage(10)), span(one, 4, 2, attributes=usage(20) | cost)])
    assert tracking.traces.info(ctx, f"tr-{one}").tokens == 30
    tracking.traces.log_spans(ctx, "0", [span(one, 2, 1, attributes=usage(31)), span(one, 5, 1, attributes=otel | cost), span(one, 1)])
    info = tracking.traces.info(ctx, f"tr-{one}")
    assert json.loads(info.metadata["mlflow.trace.tokenUsage"]) == {"input_tokens": 34, "output_tokens": 2, "total_tokens": 36}
    assert json.loads(info.metadata["mlflow.trace.cost"]) == {"input_cost": 1.0, "output_cost": 0.5, "total_cost": 1.5}


def test_counting_ends_for_spans_that_are_each_other_s_parents() -> None:
    assert s.summed_usage([("a", "b", {"total_tokens": 1}), ("b", "a", {})]) is None
    assert s.summed_usage([("a", "a", {"total_tokens": 1}), ("c", None, {"total_tokens": 2})]) == {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 2,
    }


@example(seed=4, size=4, repeats=1)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), size=st.integers(1, 6), repeats=st.integers(1, 3))
def test_order_and_repetition_change_nothing(tracking: Tracking, ctx: Context, seed: int, size: int, repeats: int) -> None:
    """The spans of a trace, cut into pieces, in any order, some of them more than once: the same trace."""
    luck = random.Random(seed)

    def tree(trace: str) -> list[Span]:
        return [
            span(trace, n, luck_parents[n - 1], attributes=usage(n + 1) if n % 2 else {}, end_ns=(3000 + n) * MS)
            for n in range(1, size + 1)
        ]

    luck_parents: Sequence[int | None] = [None, *(luck.randint(1, n) for n in range(1, size))]
    plain, mixed = uuid7(), uuid7()
    tracking.traces.log_spans(ctx, "0", tree(plain))
    pieces = [[each] for each in tree(mixed)] * repeats
    luck.shuffle(pieces)
    for piece in pieces:
        tracking.traces.log_spans(ctx, "0", piece)
    one, other = tracking.traces.get(ctx, f"tr-{plain}"), tracking.traces.get(ctx, f"tr-{mixed}")
    assert [(each.span_id, each.attributes) for each in one.spans] == [(each.span_id, each.attributes) for each in other.spans]
    for field in ("start_ms", "duration_ms", "state", "metadata", "name"):
        assert getattr(one.info, field) == getattr(other.info, field), field


def test_traces_that_come_with_assessments_twice_have_them_once(tracking: Tracking, ctx: Context) -> None:
    given = [
        Assessment(kind="feedback", name="good", value=True, created_ms=5),
        Assessment(id="a-1", kind="expectation", name="x", value=1),
    ]
    info = TraceInfo(id="tr-1", experiment_id="0", start_ms=1, assessments=given)
    for _ in range(2):
        tracking.traces.put(ctx, info)
    assert [one.name for one in tracking.traces.info(ctx, "tr-1").assessments] == ["good", "x"]


def test_assessments_override_each_other(tracking: Tracking, ctx: Context) -> None:
    tracking.traces.put(ctx, TraceInfo(id="tr-1", experiment_id="0", start_ms=1))
    first = tracking.assessments.create(ctx, "tr-1", Assessment(kind="feedback", name="score", value=1, metadata={"a": "1"}))
    second = tracking.assessments.create(ctx, "tr-1", Assessment(kind="feedback", name="score", value=2, overrides=first.id))
    assert not tracking.assessments.get(ctx, "tr-1", first.id).valid
    assert tracking.traces.search(ctx, ["0"], filter="feedback.score = 1").items == []
    changed = tracking.assessments.update(ctx, "tr-1", second.id, {"value": 3, "kind": "feedback", "metadata": {"b": "2"}})
    assert (changed.value, changed.overrides, changed.metadata) == (3, first.id, {"b": "2"})
    with pytest.raises(Invalid):
        tracking.assessments.update(ctx, "tr-1", second.id, {"value": 3, "kind": "expectation"})
    with pytest.raises(NotFound):
        tracking.assessments.create(ctx, "tr-1", Assessment(kind="feedback", name="score", value=2, overrides="a-none"))
    for _ in range(2):
        tracking.assessments.delete(ctx, "tr-1", second.id)
    assert tracking.assessments.get(ctx, "tr-1", first.id).valid
    assert len(tracking.traces.search(ctx, ["0"], filter="feedback.score = 1").items) == 1


def test_pages_over_several_experiments_miss_nothing(tracking: Tracking, ctx: Context) -> None:
    places = [tracking.experiments.create(ctx, name).id for name in ("a", "b", "c")]
    for n in range(20):
        about = {"mlflow.traceName": f"n{n % 5}"} if n % 4 else {}
        duration = n % 3 if n % 7 else None
        tracking.traces.put(ctx, TraceInfo(id=f"tr-{n:02}", experiment_id=places[n % 3], start_ms=n // 4, duration_ms=duration, tags=about))
    for order in ([], ["timestamp ASC"], ["name DESC", "timestamp"], ["execution_time DESC"], ["tags.mlflow.traceName"], ["request_id"]):
        seen: list[str] = []
        token = None
        while True:
            page = tracking.traces.search(ctx, places[:2], order_by=order, limit=3, token=token)
            seen += [one.id for one in page.items]
            token = page.token
            if token is None:
                break
        whole = [one.id for one in tracking.traces.search(ctx, places[:2], order_by=order).items]
        assert seen == whole and len(set(whole)) == 14, order
    assert [one.id for one in tracking.traces.search(ctx, ["1"], limit=2).items] == ["tr-18", "tr-15"]


@pytest.mark.parametrize(
    "filter",
    [
        "status > 'OK'",
        "timestamp_ms = 'x'",
        "prompt = 'x'",
        "prompt LIKE 'x/1'",
        "span.colour = 'x'",
        "span.content = 'x'",
        "feedback.x > 'a'",
        "issue.id = 'x'",
        "name RLIKE '('",
        "name RLIKE '(a+)\\1'",
        "name RLIKE 'a(?=b)'",
        "a OR b",
    ],
)
def test_filters_that_mean_nothing_say_so(tracking: Tracking, ctx: Context, filter: str) -> None:  # noqa: A002
    with pytest.raises(Invalid):
        tracking.traces.search(ctx, ["0"], filter=filter)


def test_attributes_of_spans_are_compared_as_they_are(tracking: Tracking, ctx: Context) -> None:
    one = uuid7()
    tracking.traces.log_spans(
        ctx, "0", [span(one, 1, attributes={"model": 'gpt "4"\n%', "n": 5, "a'b": "\x00x", "deep": {"model": "other"}})]
    )
    for filter_, found in {
        "span.attributes.model = 'gpt \"4\"\n%'": 1,
        "span.attributes.model = 'other'": 0,
        "span.attributes.model LIKE 'GPT%'": 0,
        "span.attributes.model ILIKE 'GPT%'": 1,
        "span.attributes.n = '5'": 1,
        "span.attributes.n IN ('4', '5')": 1,
        "span.attributes.deep LIKE '%other%'": 1,
        "span.content LIKE '%\"4\"%'": 1,
        "span.attributes.model RLIKE '^gpt'": 1,
    }.items():
        assert len(tracking.traces.search(ctx, ["0"], filter=filter_).items) == found, filter_


def test_runs_and_prompts_find_their_traces(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    run, foreign = tracking.runs.create(ctx), tracking.runs.create(stranger)
    tracking.traces.put(ctx, TraceInfo(id="tr-1", experiment_id="0", start_ms=1, metadata={"mlflow.sourceRun": run.id}))
    tracking.traces.put(ctx, TraceInfo(id="tr-2", experiment_id="0", start_ms=2, metadata={"mlflow.sourceRun": foreign.id}))
    tracking.traces.link(ctx, ["tr-2", "tr-none"], run.id)
    tracking.traces.link_prompts(ctx, "tr-2", [("greet", "3")])
    tracking.traces.set_tag(ctx, "tr-1", "mlflow.linkedPrompts", json.dumps([{"name": "greet", "version": "2"}]))

    def found(text: str) -> list[str]:
        return [one.id for one in tracking.traces.search(ctx, ["0"], filter=text).items]

    assert found(f"run_id = '{run.id}'") == ["tr-2", "tr-1"]
    assert found(f"run_id = '{foreign.id}'") == []
    assert (found("prompt = 'greet/3'"), found("prompt = 'greet/2'")) == (["tr-2"], ["tr-1"])
    with pytest.raises(NotFound):
        tracking.traces.link(ctx, ["tr-1"], foreign.id)


def test_workspaces_do_not_see_each_other_s_traces(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    one = uuid7()
    tracking.traces.log_spans(ctx, "0", [span(one, 1)])
    for look in (tracking.traces.get, tracking.traces.info):
        with pytest.raises(NotFound):
            look(stranger, f"tr-{one}")
    with pytest.raises(NotFound):
        tracking.traces.set_tag(stranger, f"tr-{one}", "a", "b")
    assert tracking.traces.search(stranger, ["0"]).items == [] and tracking.traces.get_many(stranger, [f"tr-{one}"]) == []
    tracking.traces.log_spans(stranger, "0", [span(one, 1, name="theirs")])
    assert tracking.traces.info(ctx, f"tr-{one}").name == "n1"


def test_deleting_leaves_nothing_behind(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx)
    for n in range(7):
        one = f"{n + 1:032x}"
        tracking.traces.log_spans(ctx, "0", [span(one, 1, start_ns=n * MS, resource={"a": "b"})], run_id=run.id)
        tracking.assessments.create(ctx, f"tr-{one}", Assessment(kind="feedback", name="x"))
        tracking.traces.link_prompts(ctx, f"tr-{one}", [("p", "1")])
    assert tracking.traces.delete(ctx, "0", trace_ids=[f"tr-{1:032x}", "tr-none"]) == 1
    assert tracking.traces.delete(ctx, "0", max_timestamp_ms=100, limit=2) == 2
    assert [one.start_ms for one in tracking.traces.search(ctx, ["0"]).items] == [6, 5, 4, 3]
    with pytest.raises(Invalid):
        tracking.traces.delete(ctx, "0")
    assert tracking.traces.delete(ctx, "0", max_timestamp_ms=100) == 4
    with tracking.runs.db.read() as c:
        for table in (x.traces, x.trace_tags, x.trace_metadata, x.trace_spans, x.trace_assessments, x.trace_runs, x.trace_prompts):
            assert c.scalar(sa.select(sa.func.count()).select_from(table)) == 0, table.name


def test_collection_knows_what_hangs_on_an_experiment() -> None:
    mine = {one.table for one in dependants("experiment")}
    assert {"traces", "trace_tags", "trace_metadata", "trace_spans", "trace_assessments", "trace_runs", "trace_prompts"} <= mine
    assert "trace_runs" in {one.table for one in dependants("run")}
    assert not [place for place in undeclared() if place.startswith("trace")]


def test_a_page_is_read_off_the_index(tracking: Tracking, ctx: Context) -> None:
    """However many traces there are: no sorting, and no reading of the whole table."""
    tracking.traces.log_spans(ctx, "0", [span(uuid7(), 1)])
    t = x.traces.c
    query = sa.select(x.traces).where(t.experiment_uid == 1).order_by(t.start_ms.desc(), t.trace_id.desc()).limit(10)
    with tracking.runs.db.read() as c:
        text = str(query.compile(c.engine, compile_kwargs={"literal_binds": True}))
        if tracking.runs.db.kind == "sqlite":
            plan = [str(row[3]) for row in c.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
            assert len(plan) == 1 and plan[0].startswith("SEARCH traces USING INDEX")
        else:
            c.exec_driver_sql("SET LOCAL enable_seqscan = off")  # with one row, it would be read whole
            c.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
            plan = [str(row[0]) for row in c.exec_driver_sql(f"EXPLAIN {text}")]
            assert any("Index Scan" in line for line in plan) and not any("Sort" in line for line in plan), plan


def test_traces_of_a_deleted_experiment_are_not_found(tracking: Tracking, ctx: Context) -> None:
    """As by MLflow's own server; they are there again when it is restored."""
    there, deleted = tracking.experiments.create(ctx, "there").id, tracking.experiments.create(ctx, "deleted").id
    for experiment in (there, deleted):
        tracking.traces.log_spans(ctx, experiment, [span(uuid7(), 1)])
    found = tracking.traces.search(ctx, [there, deleted]).items
    tracking.experiments.delete(ctx, deleted)
    assert [one.experiment_id for one in tracking.traces.search(ctx, [there, deleted]).items] == [there]
    assert tracking.traces.get_many(ctx, [one.id for one in found], experiment_ids=[deleted]) == []
    tracking.experiments.restore(ctx, deleted)
    assert len(tracking.traces.search(ctx, [there, deleted]).items) == 2
