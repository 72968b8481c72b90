"""Samples of long histories: at even distances, only steps that are there, all where there are few."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.identity.model import Context
from drivetrain.tracking.model import Metric
from drivetrain.tracking.service import Tracking

LAWS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
places = st.lists(st.integers(-50, 400), max_size=60)


@LAWS
@given(places, places, st.integers(2, 30), st.integers(-60, 100), st.none() | st.integers(0, 400))
def test_samples(tracking: Tracking, ctx: Context, one: list[int], other: list[int], most: int, low: int, high: int | None) -> None:
    run = tracking.runs.create(ctx).id
    metrics = [Metric(key, step / 7, 1000, step) for key, some in (("a", one), ("b", other)) for step in some]
    if metrics:
        tracking.metrics.log(ctx, run, metrics=metrics)
    for keys, there in ((None, {*one, *other}), (["a"], {*one}), (["a", "b"], {*one} & {*other})):
        if keys and not ({"a", "b"} & set(keys) <= {metric.key for metric in metrics}):
            continue
        within = sorted(step for step in there if low <= step and (high is None or step < high))
        shown = ["_step", *keys] if keys else None
        whole = tracking.history.rows(ctx, run, min_step=low, max_step=high, limit=1000, keys=shown)
        assert [row["_step"] for row in whole] == within
        rows = tracking.history.rows(ctx, run, min_step=low, max_step=high, limit=most, keys=shown, sample=True)
        taken = [row["_step"] for row in rows]
        assert taken == sorted(set(taken)) and set(taken) <= set(within) and len(taken) <= most
        if len(within) <= most and max(len(one), len(other)) <= most:
            assert taken == within
        if keys is None and within:
            assert (taken[0], taken[-1]) == (within[0], within[-1])


def test_a_long_history(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    for start in range(0, 5000, 1000):
        tracking.metrics.log(ctx, run, metrics=[Metric("loss", 0.5, step, step) for step in range(start, start + 1000)])
    tracking.metrics.log(ctx, run, metrics=[Metric("val", 0.25, step, step) for step in range(0, 5000, 500)])
    rows = tracking.history.rows(ctx, run, limit=100, sample=True)
    assert len(rows) == 100 and (rows[0]["_step"], rows[-1]["_step"]) == (0, 4999)
    gaps = [after["_step"] - before["_step"] for before, after in pairwise(rows)]
    assert max(gaps) < 150
    both = tracking.history.rows(ctx, run, limit=100, sample=True, keys=["loss", "val"])
    assert [row["val"] for row in both] == [0.25] * 10
