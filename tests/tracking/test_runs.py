from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivetrain.errors import Conflict, DrivetrainError, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.tracking.model import Dataset, Input, Metric, ModelLink, Point, View
from drivetrain.tracking.service import Tracking


def test_the_default_experiment_is_there_from_the_start_in_each_workspace(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    for who in (ctx, stranger):
        assert tracking.experiments.get(who, "0").name == "Default"
    assert [e.id for e in tracking.experiments.all(ctx)] == ["0"]
    first = tracking.experiments.create(ctx, "vision", tags={"team": "red"})
    assert (first.id, first.tags) == ("1", {"team": "red"})
    assert tracking.experiments.create(stranger, "vision").id == "1"


def test_names_of_experiments_are_taken_also_by_deleted_ones(tracking: Tracking, ctx: Context) -> None:
    made = tracking.experiments.create(ctx, "a")
    with pytest.raises(Conflict):
        tracking.experiments.create(ctx, "a")
    tracking.experiments.delete(ctx, made.id)
    with pytest.raises(Conflict, match="restore it"):
        tracking.experiments.create(ctx, "a")
    with pytest.raises(Conflict):
        tracking.experiments.create(ctx, "Default")
    assert tracking.experiments.find(ctx, "a").lifecycle == "deleted"


def test_deleting_an_experiment_hides_its_runs_and_restoring_brings_back_those_it_hid(tracking: Tracking, ctx: Context) -> None:
    experiment = tracking.experiments.create(ctx, "a").id
    kept, dropped = tracking.runs.create(ctx, experiment), tracking.runs.create(ctx, experiment)
    tracking.runs.delete(ctx, dropped.id)
    tracking.experiments.delete(ctx, experiment)
    assert tracking.runs.search(ctx, [experiment]).items == []
    with pytest.raises(Invalid, match="deleted"):
        tracking.metrics.log(ctx, kept.id, tags={"a": "b"})
    with pytest.raises(Invalid, match="deleted"):
        tracking.runs.create(ctx, experiment)
    with pytest.raises(Conflict):
        tracking.runs.restore(ctx, dropped.id)
    tracking.experiments.restore(ctx, experiment)
    assert [run.id for run in tracking.runs.search(ctx, [experiment]).items] == [kept.id]
    assert {run.id for run in tracking.runs.search(ctx, [experiment], view=View.all).items} == {kept.id, dropped.id}


def test_a_run_keeps_what_it_logged(tracking: Tracking, ctx: Context) -> None:
    tags = {"mlflow.source.git.commit": "abc", "mlflow.user": "eve", "mlflow.source.name": "train.py"}
    run = tracking.runs.create(ctx, name="first", tags=tags, start_ms=5)
    tracking.metrics.log(ctx, run.id, metrics=[Metric("loss", 0.5, 10, 1)], params={"lr": "0.1"}, tags={"note": "ü"})
    data = Dataset("digits", "d1", "code", "{}", '{"a": 1}', '{"rows": 3}')
    tracking.inputs.log(ctx, run.id, [Input(data, {"mlflow.data.context": "training"})])
    tracking.runs.update(ctx, run.id, status="FINISHED", end_ms=99, name="renamed")
    found = tracking.runs.get(ctx, run.id)
    assert (found.name, found.user, found.status, found.start_ms, found.end_ms) == ("renamed", "eve", "FINISHED", 5, 99)
    assert (found.git_commit, found.source) == ("abc", "train.py")
    assert found.tags["mlflow.runName"] == "renamed" and found.tags["note"] == "ü"
    assert found.params == {"lr": "0.1"}
    assert found.metrics["loss"] == Metric("loss", 0.5, 10, 1)
    assert [(i.dataset.name, i.dataset.digest, i.context, i.dataset.profile) for i in found.inputs] == [
        ("digits", "d1", "training", '{"rows": 3}')
    ]
    assert found.artifact_uri == f"mlflow-artifacts:/0/{run.id}/artifacts"


def test_renaming_by_the_tag_renames_the_run(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx)
    assert run.name and run.tags["mlflow.runName"] == run.name
    tracking.metrics.log(ctx, run.id, tags={"mlflow.runName": "by tag"})
    assert tracking.runs.get(ctx, run.id).name == "by tag"
    with pytest.raises(Invalid):
        tracking.runs.create(ctx, name="a", tags={"mlflow.runName": "b"})


def test_the_latest_point_is_the_greatest_not_the_last_written(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    for step, stamp, value in [(3, 5, 1.0), (2, 9, 7.0), (3, 5, 0.5), (3, 4, 9.0), (-1, 99, 3.0), (3, 5, math.nan)]:
        tracking.metrics.log(ctx, run, metrics=[Metric("m", value, stamp, step)])
    assert tracking.runs.get(ctx, run).metrics["m"] == Metric("m", 1.0, 5, 3)
    assert [p.step for p in tracking.metrics.history(ctx, run, "m").items] == [-1, 2, 3, 3, 3, 3]


def test_the_same_batch_twice_is_one(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    batch = [Metric("m", value, 1000, step) for step, value in enumerate([1.0, math.inf, -math.inf, math.nan, 1.0])]
    for _ in range(2):
        tracking.metrics.log(ctx, run, metrics=[*batch, *batch], params={"a": "1"}, tags={"t": "x"})
    points = tracking.metrics.history(ctx, run, "m").items
    assert [p.step for p in points] == [0, 1, 2, 3, 4]
    assert math.isnan(points[3].value) and points[1].value == math.inf and points[2].value == -math.inf
    assert tracking.runs.get(ctx, run).metrics["m"].value == 1.0
    tracking.metrics.log(ctx, run, metrics=[Metric("n", math.nan, 1, 9)])
    assert math.isnan(tracking.runs.get(ctx, run).metrics["n"].value)


def test_params_are_written_once_and_a_batch_is_all_or_nothing(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    tracking.metrics.log(ctx, run, params={"lr": "1"})
    tracking.metrics.log(ctx, run, params={"lr": "1", "b": "2"})
    with pytest.raises(Invalid, match="Changing param values is not allowed"):
        tracking.metrics.log(ctx, run, params={"c": "3", "lr": "2"}, metrics=[Metric("m", 1.0, 1)], tags={"t": "x"})
    found = tracking.runs.get(ctx, run)
    assert found.params == {"lr": "1", "b": "2"} and not found.metrics and "t" not in found.tags


def test_many_writers_at_once_lose_nothing_and_spoil_nothing_for_each_other(tracking: Tracking, ctx: Context) -> None:
    runs = [tracking.runs.create(ctx).id for _ in range(4)]

    def write(n: int) -> None:
        tracking.metrics.log(ctx, runs[n % 4], metrics=[Metric("m", float(n), n, n), Metric(f"k{n % 7}", 1.0, n, n)])
        if n % 10 == 0:
            with pytest.raises(DrivetrainError):
                tracking.metrics.log(ctx, "0" * 32, metrics=[Metric("m", 1.0, 1)])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(400)))
    for place, run in enumerate(runs):
        assert [p.step for p in tracking.metrics.history(ctx, run, "m").items] == list(range(place, 400, 4))
        assert tracking.runs.get(ctx, run).metrics["m"].step == 396 + place


def test_history_comes_in_pages(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    tracking.metrics.log(ctx, run, metrics=[Metric("m", float(n), n, n // 3) for n in range(100)])
    token, seen = None, list[Point]()
    while True:
        page = tracking.metrics.history(ctx, run, "m", limit=7, token=token)
        seen += page.items
        token = page.token
        if token is None:
            break
    assert [p.timestamp_ms for p in seen] == list(range(100))
    assert tracking.metrics.history(ctx, run, "never").items == []
    with pytest.raises(Invalid, match="page token"):
        tracking.metrics.history(ctx, run, "m", token="nonsense")


def test_charts_keep_peaks_and_ends(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    for start in range(0, 3000, 1000):
        tracking.metrics.log(ctx, run, metrics=[Metric("m", 100.0 if n == 1234 else n % 5, n, n) for n in range(start, start + 1000)])
    drawn = tracking.metrics.chart(ctx, [run, "0" * 32], "m", points_each=100)
    assert list(drawn) == [run]
    points = drawn[run]
    assert len(points) <= 100 and points[0].step == 0 and points[-1].step == 2999
    assert max(p.value for p in points) == 100.0
    assert [p.step for p in points] == sorted(p.step for p in points)


def test_links_to_models_and_datasets_are_kept_once(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    run = tracking.runs.create(ctx).id
    model = tracking.models.create(ctx, "0", name="m", source_run_id=run).id
    for _ in range(2):
        tracking.inputs.log(ctx, run, [Input(Dataset("d", "1"))], [ModelLink(model, "output", 3), ModelLink(model, "input")])
    found = tracking.runs.get(ctx, run)
    assert len(found.inputs) == 1
    assert {(link.role, link.step) for link in found.models} == {("output", 3), ("input", 0)}
    theirs = tracking.models.create(stranger, "0", name="theirs").id
    with pytest.raises(NotFound):
        tracking.inputs.log(ctx, run, (), [ModelLink(theirs, "output")])


def test_another_workspace_sees_and_changes_nothing(tracking: Tracking, ctx: Context, stranger: Context) -> None:
    experiment = tracking.experiments.create(ctx, "mine")
    run = tracking.runs.create(ctx, experiment.id)
    model = tracking.models.create(ctx, experiment.id, name="m")
    verbs: list[Callable[[], object]] = [
        lambda: tracking.experiments.get(stranger, experiment.id),
        lambda: tracking.experiments.find(stranger, "mine"),
        lambda: tracking.experiments.delete(stranger, experiment.id),
        lambda: tracking.runs.create(stranger, experiment.id),
        lambda: tracking.runs.get(stranger, run.id),
        lambda: tracking.metrics.log(stranger, run.id, tags={"a": "b"}),
        lambda: tracking.runs.update(stranger, run.id, status="FAILED"),
        lambda: tracking.runs.delete(stranger, run.id),
        lambda: tracking.metrics.history(stranger, run.id, "m"),
        lambda: tracking.models.get(stranger, model.id),
        lambda: tracking.models.finalize(stranger, model.id, "READY"),
        lambda: tracking.models.create(stranger, "0", source_run_id=run.id),
    ]
    for verb in verbs:
        with pytest.raises(NotFound):
            verb()
    assert tracking.runs.search(stranger, [experiment.id]).items == []
    assert tracking.metrics.chart(stranger, [run.id], "m") == {}
    assert tracking.runs.get(ctx, run.id).status == "RUNNING"


def test_a_reader_may_not_write(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    reader = Context("u3", "ron", ctx.workspace_id, ctx.workspace, frozenset({Scope.read}))
    assert tracking.runs.get(reader, run).id == run
    with pytest.raises(Forbidden):
        tracking.metrics.log(reader, run, tags={"a": "b"})


@pytest.mark.parametrize("key", ["", "a" * 251, "../a", "a//b", "/a", "a/", "a/../b", "a/./b", "..a", "a$b", "a\nb", "."])
def test_odd_keys_are_refused_with_advice(tracking: Tracking, ctx: Context, key: str) -> None:
    run = tracking.runs.create(ctx).id
    with pytest.raises(Invalid, match="key"):
        tracking.metrics.log(ctx, run, metrics=[Metric(key, 1.0, 1)])
    with pytest.raises(Invalid, match="key"):
        tracking.metrics.log(ctx, run, params={key: "1"})


def test_good_keys_and_limits(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    keys = ["a", "val/acc", "a b", "größe", "x:y", "a.b-c_d"]
    tracking.metrics.log(ctx, run, metrics=[Metric(key, 1.0, 1) for key in keys])
    assert set(tracking.runs.get(ctx, run).metrics) == set(keys)
    with pytest.raises(Invalid, match="6000"):
        tracking.metrics.log(ctx, run, params={"a": "x" * 6001})
    with pytest.raises(Invalid, match="64 bits"):
        tracking.metrics.log(ctx, run, metrics=[Metric("a", 1.0, 1, 1 << 63)])
    with pytest.raises(Invalid, match="NUL"):
        tracking.metrics.log(ctx, run, tags={"a": "x\x00"})
