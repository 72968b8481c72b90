"""Runs in groups, counted, and views of them that a workspace keeps."""

from __future__ import annotations

import math

import pytest

from drivetrain.errors import Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.tracking.model import Metric
from drivetrain.tracking.service import Tracking


def made(tracking: Tracking, ctx: Context) -> str:
    """Six runs: three of cnn, two of mlp, one of neither; the last cnn has a NaN and no f1."""
    experiment = tracking.experiments.create(ctx, "groups").id
    for n, (model, loss) in enumerate((("cnn", 1.0), ("cnn", 3.0), ("cnn", math.nan), ("mlp", 0.5), ("mlp", 0.7), ("", 9.0))):
        run = tracking.runs.create(ctx, experiment, name=f"r{n}", user="ada" if n % 2 else "bob", start_ms=1000 + n, tags={"n": str(n)})
        params = {"model": model} if model else {}
        tracking.metrics.log(ctx, run.id, metrics=[Metric("loss", loss, 1, 1)], params=params)
    return experiment


def test_groups_sum_up_all_runs_and_nan_is_left_out(tracking: Tracking, ctx: Context) -> None:
    experiment = made(tracking, ctx)
    groups, more = tracking.groups.search(ctx, [experiment], "params.model", metrics=["loss", "none"])
    assert [(one.value, one.runs, one.latest_ms) for one in groups] == [("cnn", 3, 1002), ("mlp", 2, 1004), (None, 1, 1005)]
    loss = groups[0].metrics["loss"]
    assert (loss.count, loss.mean, loss.low, loss.high) == (2, 2.0, 1.0, 3.0)
    assert "none" not in groups[0].metrics and not more


def test_groups_are_ordered_by_a_mean_by_their_name_or_by_their_size(tracking: Tracking, ctx: Context) -> None:
    experiment = made(tracking, ctx)

    def order(by: str, descending: bool) -> list[str | None]:
        found, _ = tracking.groups.search(ctx, [experiment], "params.model", metrics=["loss"], order_by=by, descending=descending)
        return [one.value for one in found]

    assert order("loss", False) == ["mlp", "cnn", None]
    assert order("loss", True) == [None, "cnn", "mlp"]
    assert order("", False) == [None, "mlp", "cnn"]
    assert [one for one in order("value", True) if one] == ["mlp", "cnn"]


@pytest.mark.parametrize(
    ("by", "sizes"), [("attributes.user_id", [3, 3]), ("attributes.status", [6]), ("experiment", [6]), ("tags.n", [1] * 6)]
)
def test_groups_are_made_of_tags_attributes_and_experiments(tracking: Tracking, ctx: Context, by: str, sizes: list[int]) -> None:
    found, _ = tracking.groups.search(ctx, [made(tracking, ctx)], by)
    assert [one.runs for one in found] == sizes


def test_a_filter_limits_groups_and_counts_alike(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    experiment = made(tracking, ctx)
    cut = "metrics.loss < 2 and attributes.user_id = 'bob'"
    found, more = tracking.groups.search(ctx, [experiment], "params.model", filter=cut, limit=1)
    assert sum(one.runs for one in found) == 1 and more
    assert tracking.groups.count(ctx, [experiment], filter=cut) == 2
    assert tracking.groups.count(ctx, [experiment]) == 6
    assert tracking.groups.count(stranger, [experiment]) == 0
    assert tracking.groups.search(stranger, [experiment], "params.model") == ([], False)


def test_deleted_runs_are_in_no_group(tracking: Tracking, ctx: Context) -> None:
    experiment = made(tracking, ctx)
    tracking.runs.delete(ctx, tracking.runs.search(ctx, [experiment], filter="params.model = 'mlp'").items[0].id)
    found, _ = tracking.groups.search(ctx, [experiment], "params.model")
    assert {one.value: one.runs for one in found} == {"cnn": 3, "mlp": 1, None: 1}


@pytest.mark.parametrize("by", ["metrics.loss", "attributes.start_time", "no such thing", "datasets.name"])
def test_what_cannot_group_is_refused(tracking: Tracking, ctx: Context, by: str) -> None:
    with pytest.raises(Invalid):
        tracking.groups.search(ctx, [made(tracking, ctx)], by)


def test_views_are_kept_by_name_for_the_workspace(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    assert tracking.views.save(ctx, "  best  of week ", "sort=metrics.loss").name == "best of week"
    tracking.views.save(ctx, "Another", "")
    tracking.views.save(ctx, "best of week", "sort=metrics.accuracy")
    assert [(one.name, one.query, one.user) for one in tracking.views.all(ctx)] == [
        ("Another", "", "ann"),
        ("best of week", "sort=metrics.accuracy", "ann"),
    ]
    assert tracking.views.all(stranger) == []
    with pytest.raises(NotFound):
        tracking.views.delete(stranger, "Another")
    tracking.views.delete(ctx, "Another")
    assert [one.name for one in tracking.views.all(ctx)] == ["best of week"]


def test_views_without_a_name_or_too_long_are_refused(tracking: Tracking, ctx: Context) -> None:
    for name, query in (("", "x"), ("a" * 200, "x"), ("fine", "x" * 20_000)):
        with pytest.raises(Invalid):
            tracking.views.save(ctx, name, query)
    reader = Context("u3", "eve", "w1", "red", frozenset({Scope.read}))
    with pytest.raises(Forbidden):
        tracking.views.save(reader, "mine", "")
    with pytest.raises(Forbidden):
        tracking.views.delete(reader, "mine")
