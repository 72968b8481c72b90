"""What wandb's clients send, twice or in pieces or out of order, on both databases."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Line, Metric, Run
from drivetrain.tracking.service import Tracking
from drivetrain.tracking.values import flat, params, unparam

CLIENT_IDS = iter(range(10**9))


def begun(tracking: Tracking, ctx: Context) -> Run:
    return tracking.reports.begin(ctx, "0", f"run{next(CLIENT_IDS)}")[0]


numbers = st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=True, allow_infinity=True))
leaves = st.one_of(numbers, st.text("ab é\"'", max_size=4), st.booleans(), st.none(), st.lists(st.integers(0, 3), max_size=2))
rows = st.dictionaries(
    st.sampled_from(["loss", "acc", "text", "a.b", "x y"]), st.one_of(leaves, st.dictionaries(st.sampled_from("pq"), leaves)), max_size=4
)
histories = st.lists(st.tuples(st.integers(0, 6), rows), max_size=8)
chunks = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 8)), max_size=6)


def texts(history: list[tuple[int, dict[str, Any]]]) -> list[str]:
    return [json.dumps({"_step": step, "_timestamp": 1000.0 + step, "_runtime": float(step)} | row) for step, row in history]


def same(one: Any, other: Any) -> bool:
    """Equal, where NaN is itself, and a whole number has no point."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories, again=chunks)
def test_rows_are_read_as_they_were_sent_however_often(
    tracking: Tracking, ctx: Context, history: list[tuple[int, dict[str, Any]]], again: list[tuple[int, int]]
) -> None:
    """A row a step: the keys of a later message of the same step are added to it. Any piece may come again."""
    unique = dict(history)  # one row a step, as the client sends it
    lines = texts(sorted(unique.items()))
    run = begun(tracking, ctx)
    tracking.reports.append(ctx, run.id, rows=lines)
    first = tracking.history.rows(ctx, run.id)
    for start, end in again:
        tracking.reports.append(ctx, run.id, rows=lines[start:end])
    read = tracking.history.rows(ctx, run.id)
    assert len(read) == len(first) and all(same(one, other) for one, other in zip(first, read, strict=True))
    expected = [{"_step": step, "_timestamp": 1000.0 + step, "_runtime": float(step)} | dict(flat(unique[step])) for step in sorted(unique)]
    assert [row["_step"] for row in read] == sorted(unique)
    for row, wanted in zip(read, expected, strict=True):
        assert same(row, wanted), (row, wanted)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories, cuts=st.lists(st.integers(0, 8), max_size=3))
def test_pages_are_the_whole(tracking: Tracking, ctx: Context, history: list[tuple[int, dict[str, Any]]], cuts: list[int]) -> None:
    run = begun(tracking, ctx)
    tracking.reports.append(ctx, run.id, rows=texts(history))
    tracking.metrics.log(ctx, run.id, metrics=[Metric("foreign", 1.0, 5, step) for step in (2, 9)])
    whole = tracking.history.rows(ctx, run.id)
    edges = [0, *sorted(cuts), 100]
    pages = [tracking.history.rows(ctx, run.id, min_step=low, max_step=high) for low, high in itertools.pairwise(edges)]
    assert all(same(one, other) for one, other in zip(whole, [row for page in pages for row in page], strict=True))
    assert {2, 9} <= {row["_step"] for row in whole}
    assert tracking.history.count(ctx, run.id)[1] == 9


def test_events_and_lines_are_known_by_their_numbers(tracking: Tracking, ctx: Context) -> None:
    run = begun(tracking, ctx)
    events = [json.dumps({"system.cpu": float(n), "_timestamp": 1000.0 + n, "_runtime": n, "_wandb": True}) for n in range(3)]
    for _ in range(2):
        tracking.reports.append(ctx, run.id, events=events, lines=[Line(n, "", "", f"line {n}") for n in range(3)])
    tracking.reports.append(ctx, run.id, events=events[2:], events_from=2, lines=[Line(2, "error", "", "again")])
    assert [row["system.cpu"] for row in tracking.history.rows(ctx, run.id, system=True)] == [0, 1, 2]
    assert [line.text for line in tracking.history.console(ctx, run.id)] == ["line 0", "line 1", "again"]
    assert [line.number for line in tracking.history.console(ctx, run.id, limit=1, last=True)] == [2]
    assert tracking.reports.get(ctx, run.id).events == 3 and tracking.history.console_count(ctx, run.id) == 3


def test_a_config_replaces_its_own_params_only(tracking: Tracking, ctx: Context) -> None:
    run = begun(tracking, ctx)
    tracking.reports.update(ctx, run.id, config='{"lr": {"value": 0.1}, "net": {"value": {"depth": 3}}, "_wandb": {"value": {"t": {}}}}')
    tracking.metrics.log(ctx, run.id, params={"opt": "adam"})
    assert tracking.runs.get(ctx, run.id).params == {"lr": "0.1", "net.depth": "3", "opt": "adam"}
    tracking.reports.update(ctx, run.id, config='{"lr": {"value": 0.2}}')
    assert tracking.runs.get(ctx, run.id).params == {"lr": "0.2", "opt": "adam"}
    assert tracking.reports.get(ctx, run.id).config == {"lr": 0.2, "opt": "adam"}


def test_a_summary_that_was_set_and_points_that_were_logged(tracking: Tracking, ctx: Context) -> None:
    run = begun(tracking, ctx)
    tracking.reports.append(ctx, run.id, rows=['{"_step": 0, "loss": 3.0}'], summary='{"loss": 1.5, "best": NaN, "word": "x"}')
    found = tracking.runs.get(ctx, run.id).metrics
    assert found["loss"].value == 3.0 and math.isnan(found["best"].value) and found["best"].step == -1
    assert tracking.reports.get(ctx, run.id).summary["loss"] == 1.5
    tracking.metrics.log(ctx, run.id, metrics=[Metric("best", 7.0, 1, 4)])
    assert tracking.runs.get(ctx, run.id).metrics["best"].value == 7.0


def test_states_and_statuses(tracking: Tracking, ctx: Context) -> None:
    run = begun(tracking, ctx)
    assert tracking.reports.get(ctx, run.id).state == "running"
    beat = tracking.reports.get(ctx, run.id).heartbeat_ms
    assert not tracking.reports.crashed(run.id, beat + 1)
    assert tracking.reports.crashed(run.id, beat)
    assert (tracking.reports.get(ctx, run.id).state, tracking.runs.get(ctx, run.id).status) == ("crashed", "FAILED")
    tracking.reports.append(ctx, run.id, rows=['{"_step": 0, "x": 1}'])
    assert (tracking.reports.get(ctx, run.id).state, tracking.runs.get(ctx, run.id).status) == ("running", "RUNNING")
    tracking.reports.request_stop(ctx, run.id)
    assert tracking.reports.append(ctx, run.id) is True
    tracking.reports.append(ctx, run.id, state="finished", exit_code=0)
    assert tracking.runs.get(ctx, run.id).status == "FINISHED"
    tracking.runs.update(ctx, run.id, status="KILLED")  # another client may say otherwise
    assert tracking.reports.get(ctx, run.id).state == "killed"
    with pytest.raises(Invalid, match="no state"):
        tracking.reports.update(ctx, run.id, state="dreaming")


def test_runs_of_others_are_not_there(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    run = begun(tracking, ctx)
    tracking.experiments.create(stranger, "theirs")
    for act in (
        lambda: tracking.reports.get(stranger, run.id),
        lambda: tracking.reports.append(stranger, run.id, rows=['{"a": 1}']),
        lambda: tracking.reports.update(stranger, run.id, name="x"),
        lambda: tracking.reports.request_stop(stranger, run.id),
        lambda: tracking.history.rows(stranger, run.id),
        lambda: tracking.history.console(stranger, run.id),
    ):
        with pytest.raises(NotFound):
            act()
    assert tracking.reports.get_many(stranger, [run.id]) == {}


def test_a_deleted_run_gives_its_clients_id_away(tracking: Tracking, ctx: Context) -> None:
    first, made = tracking.reports.begin(ctx, "0", "mine")
    assert made and tracking.reports.begin(ctx, "0", "mine") == (first, False)
    tracking.runs.delete(ctx, first.id)
    with pytest.raises(NotFound):
        tracking.reports.find(ctx, "0", "mine")
    second, made = tracking.reports.begin(ctx, "0", "mine")
    assert made and second.id != first.id
    tracking.runs.restore(ctx, first.id)
    assert tracking.reports.find(ctx, "0", "mine").id == second.id
    for bad in ("", "a/b", "..", "x" * 129):
        with pytest.raises(Invalid):
            tracking.reports.begin(ctx, "0", bad)


@given(st.dictionaries(st.text("ab._", min_size=1, max_size=3), leaves, max_size=4))
def test_params_hold_what_a_config_says(config: dict[str, Any]) -> None:
    shown = params(config)
    for key, value in config.items():
        assert key in shown
        if isinstance(value, (bool, int, type(None))) and abs(value or 0) < 10**18:
            assert unparam(shown[key]) == value
