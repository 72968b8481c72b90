"""Charts of series against a naive evaluator: what is drawn from summaries is what is there, in whatever order it came."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivetrain.identity.model import Context
from drivetrain.store.sql import tuples
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import packed
from drivetrain.tracking.metrics import points
from drivetrain.tracking.metrics import summaries as pages
from drivetrain.tracking.metrics.summaries import Packed
from drivetrain.tracking.metrics.tables import metric_pages
from drivetrain.tracking.model import Metric, Point
from drivetrain.tracking.service import Tracking

LAWS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
values = st.sampled_from([0.0, 1.0, -3.5, 1e300, math.nan, math.inf, -math.inf]) | st.floats(-10, 10)
chunks = st.lists(
    st.tuples(
        st.sampled_from(["on", "late", "again", "one step", "draw"]),
        st.integers(1, 60),
        st.lists(values, min_size=1, max_size=7),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pages of 32 points, so that short series have many."""
    for name, size in (("PART", 8), ("PAGE", 32), ("TAIL", 64)):
        monkeypatch.setattr(pages, name, size)
    yield


def kept(point: Point | Metric) -> Packed:
    return (point.step, point.timestamp_ms, *packed(point.value))


def kind(point: Packed) -> float:
    return 2 if point[2] else point[3] if math.isinf(point[3]) else 0


def naive(some: Iterable[Packed], *, first: bool = False) -> list[Packed]:
    """The extremes, straight from what they are said to be."""
    rows = sorted(some)
    found = {rows[0]} if first else set()
    for one in (2, math.inf, -math.inf):
        found.update([row for row in rows if kind(row) == one][:1])
    if finite := [row for row in rows if kind(row) == 0]:
        for extreme in (min(row[3] for row in finite), max(row[3] for row in finite)):
            found.add(next(row for row in finite if row[3] == extreme))
    return sorted(found)


def check_pages(tracking: Tracking, series: int, everything: set[Packed]) -> None:
    """Every page says of its points what is true of them; together they are the series' beginning."""
    p = metric_pages.c
    with tracking.runs.db.read() as c:
        found = c.execute(sa.select(metric_pages).where(p.series_id == series).order_by(p.number)).all()
    before: Packed | None = None
    for number, page in enumerate(found):
        assert page.number == number and page.after_step == (before[0] if before else -(2**63))
        last = (page.last_step, page.last_ms, page.last_nan, page.last_value)
        mine = sorted(point for point in everything if (before is None or point > before) and point <= last)
        assert mine[-1] == last
        assert (page.low_ms, page.high_ms) == (min(point[1] for point in mine), max(point[1] for point in mine))
        assert pages._points(page.extremes) == naive(mine, first=number == 0)
        for end, said in pages._parts(page.parts):
            part = [point for point in mine if (before is None or point > before) and point <= end]
            assert said == naive(part)
            before = end
        assert before == last


def check_chart(tracking: Tracking, ctx: Context, run: str, everything: set[Packed], wanted: int, **window: int) -> None:
    said = tracking.metrics.chart(ctx, [run], "loss", points_each=wanted, **window)[run]
    drawn = [kept(point) for point in said]
    whole = pages.Window(**window)
    there = sorted(point for point in everything if whole.holds(point))
    assert drawn == sorted(set(drawn)) and set(drawn) <= set(there)
    assert len(drawn) <= max(wanted, 10)
    if len(there) <= wanted:
        assert drawn == there
    elif wanted >= 10:
        assert {kind(point) for point in drawn} == {kind(point) for point in there}
        if finite := [point[3] for point in there if kind(point) == 0]:
            mine = [point[3] for point in drawn if kind(point) == 0]
            assert (min(mine), max(mine)) == (min(finite), max(finite))
        if "start_ms" not in window:
            assert (drawn[0], drawn[-1]) == (there[0], there[-1])


@pytest.mark.slow
@LAWS
@given(chunks, st.data())
def test_any_interleaving(tracking: Tracking, ctx: Context, work: list[tuple[str, int, list[float], int]], data: st.DataObject) -> None:
    run = tracking.runs.create(ctx).id
    everything: set[Packed] = set()
    logged: list[Metric] = []
    end = 0
    for what, count, some, seed in work:
        batch = []
        for n in range(count):
            value = some[(n * 7 + seed) % len(some)]
            if what == "on":
                end += 1 + seed % 3
                batch.append(Metric("loss", value, 1000 + end * 10, end))
            elif what == "late":
                batch.append(Metric("loss", value, 1000 + (seed + n * 97) % (10 * end + 10), (seed + n * 31) % (end + 1)))
            elif what == "one step":
                batch.append(Metric("loss", value, 1000 + (seed + n * 13) % 500, end))
            elif what == "again" and logged:
                batch.append(logged[(seed + n) % len(logged)])
        if what == "draw" and everything:
            check_chart(tracking, ctx, run, everything, 10 + seed % 40)
        if batch:
            tracking.metrics.log(ctx, run, metrics=batch)
            logged += batch
            everything.update(kept(point) for point in batch)
    if not everything:
        return
    m = t.latest_metrics.c
    with tracking.runs.db.read() as c:
        series, *latest = tuples(c, sa.select(m.id, m.step, m.timestamp_ms, m.nan, m.value).where(m.run_id == run))[0]
    assert tuple(latest) == max(everything, key=lambda one: (one[0], one[1], 1 - one[2], one[3]))
    check_pages(tracking, series, everything)
    low, high = sorted((data.draw(st.integers(-1, end + 1)), data.draw(st.integers(-1, end + 1))))
    for wanted in (10, 25, 64, 1000):
        check_chart(tracking, ctx, run, everything, wanted)
        check_chart(tracking, ctx, run, everything, wanted, start_step=low, end_step=high)
        check_chart(tracking, ctx, run, everything, wanted, start_ms=1000 + low * 10, end_ms=1000 + high * 10)
        check_chart(tracking, ctx, run, everything, wanted, start_step=low, end_ms=1000 + high * 10)
    check_pages(tracking, series, everything)


packs = st.tuples(st.integers(0, 9), st.integers(0, 9), values).map(lambda one: (one[0], one[1], *packed(one[2])))


@given(st.lists(packs, min_size=1, max_size=80, unique=True), st.integers(10, 40))
def test_thinned_keeps_each_stretch_s_extremes(some: list[Packed], wanted: int) -> None:
    rows = sorted(some)
    kept_ = points.thinned(rows, wanted)
    assert len(kept_) <= wanted and list(kept_) == sorted(set(kept_))
    assert (kept_[0], kept_[-1]) == (rows[0], rows[-1])
    assert set(naive(rows)) <= set(kept_) or len({kind(row) for row in rows}) > 1  # of equals, another stretch's may be the first
    assert {kind(row) for row in rows} == {kind(row) for row in kept_}


@given(st.lists(packs, min_size=1, max_size=40), st.lists(packs, min_size=1, max_size=40))
def test_extremes_of_extremes_are_extremes(one: list[Packed], other: list[Packed]) -> None:
    assert pages.extremes(one) == naive(one)
    assert pages.extremes(pages.extremes(one) + pages.extremes(other)) == naive(one + other)


def test_one_spike_in_a_long_series(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    for start in range(0, 6000, 1000):
        batch = [Metric("loss", 99.0 if step == 3137 else 0.5, step, step) for step in range(start, start + 1000)]
        tracking.metrics.log(ctx, run, metrics=batch)
    drawn = tracking.metrics.chart(ctx, [run], "loss", points_each=50)[run]
    assert Point(3137, 3137, 99.0) in drawn and len(drawn) <= 50
    near = tracking.metrics.chart(ctx, [run], "loss", points_each=50, start_step=3000, end_step=3999)[run]
    assert Point(3137, 3137, 99.0) in near and (near[0].step, near[-1].step) == (3000, 3999)


def test_pages_go_with_their_run(tracking: Tracking, ctx: Context) -> None:
    run = tracking.runs.create(ctx).id
    tracking.metrics.log(ctx, run, metrics=[Metric("loss", 0.5, step, step) for step in range(200)])
    tracking.metrics.chart(ctx, [run], "loss", points_each=20)
    count = sa.select(sa.func.count()).select_from(metric_pages)
    with tracking.runs.db.write() as c:
        assert c.scalar(count)
        c.execute(t.runs.delete().where(t.runs.c.id == run))
        assert not c.scalar(count)
