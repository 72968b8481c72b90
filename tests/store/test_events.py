"""Events: counted exactly once and found again, whatever is killed when."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.config import Settings
from drivetrain.errors import DrivetrainError, Invalid
from drivetrain.store.blobs import Blobs
from drivetrain.store.events.compact import Made, Work, compact
from drivetrain.store.events.counters import FIRST, LAST, bucket, edge, event_counters, quantile
from drivetrain.store.events.fold import spool_offsets
from drivetrain.store.events.lookup import EventFolder, Events
from drivetrain.store.events.model import Event, Exposure
from drivetrain.store.events.segments import event_segments
from drivetrain.store.events.spool import Spool
from drivetrain.store.events.spoolfiles import spool_files
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database
from tests.conftest import new_sqlite


class World:
    """One server's event store. `again()` is the same after a kill -9: only what is on disk remains."""

    def __init__(self, db: Database, home: Home, compactor: Callable[[Work], list[Made]] | None = None) -> None:
        self.db, self.home = db, home
        self.blobs = Blobs(db, str(home.blobs), min_free=0, scratch=home.cache)
        self.folder = EventFolder(db, self.blobs, home, Settings(home=home.path), compactor=compactor)
        self.events = Events(db, self.blobs, home)

    def again(self, compactor: Callable[[Work], list[Made]] | None = None) -> World:
        return World(self.db, Home.open(self.home.path), compactor)

    def counted(self, measure: str = "requests", deployment: str = "d") -> int:
        query = sa.select(sa.func.sum(event_counters.c.value)).where(
            event_counters.c.measure == measure, event_counters.c.deployment == deployment
        )
        with self.db.read() as connection:
            return int(connection.execute(query).scalar() or 0)

    def segments(self) -> int:
        with self.db.read() as connection:
            live = sa.select(sa.func.count()).select_from(event_segments).where(event_segments.c.replaced_ms.is_(None))
            return int(connection.execute(live).scalar_one())


@pytest.fixture
def world(database: Database, home: Home) -> World:
    return World(database, home)


def make(n: int, *, deployment: str = "d", error: str = "", at_ms: int | None = None, workspace: str = "w") -> list[Event]:
    made = []
    for i in range(n):
        t = (at_ms * 1_000_000 + i) if at_ms is not None else time.time_ns()
        made.append(
            Event(
                id=uuid7(),
                t=t,
                workspace=workspace,
                deployment=deployment,
                variant="v",
                error=error,
                tokens_in=3,
                tokens_out=2,
                latency_ms=20.0,
                output="o",
            )
        )
    return made


def write(home: Home, events: list[Event]) -> Path:
    """A process that wrote these events and is gone."""
    spool = Spool(home.spool / uuid7())
    for event in events:
        spool.append(event)
    spool.close()
    return spool.folder


def test_fold_compact_and_find(world: World) -> None:
    old = make(300)
    write(world.home, old)
    live = Spool(world.home.spool / uuid7())
    fresh = make(50) + make(5, error="upstream") + make(3, error="cancelled") + make(10, deployment="other", workspace="w2")
    for event in fresh:
        live.append(event)
    assert world.folder.fold() == 368
    assert world.folder.fold() == 0
    assert (world.counted(), world.counted("errors.upstream"), world.counted("cancelled")) == (358, 5, 3)
    assert world.counted("tokens_in") == 3 * 358
    assert world.counted(f"latency.{bucket(20)}") == 350

    assert world.folder.compact() == 0  # not yet time
    assert world.folder.compact(force=True) == 1
    assert world.folder.fold() == 0
    assert world.counted() == 358
    for event in (old[0], old[150], old[-1], fresh[0], fresh[-1]):
        assert world.events.find(event.id) == event
    assert world.events.find(fresh[-1].id, workspace_id="w2") is not None
    assert world.events.find(fresh[-1].id, workspace_id="w") is None
    assert world.events.find(uuid7()) is None
    assert world.events.find("../../etc/passwd") is None

    mine = sorted((event for event in old + fresh if event.workspace == "w"), key=lambda event: event.id, reverse=True)
    assert world.events.recent("w", limit=1000) == mine
    assert world.events.recent("w", limit=10) == mine[:10]
    assert world.events.recent("w", limit=10, before=mine[99].id) == mine[100:110]
    assert world.events.recent("w", deployment="other") == []
    assert len(world.events.recent("w2", deployment="other")) == 10
    assert [event.error for event in world.events.recent("w", errors_only=True)] == ["cancelled"] * 3 + ["upstream"] * 5
    live.close()


def test_segments_are_plain_parquet_files(world: World) -> None:
    import polars as pl

    events = make(20)
    write(world.home, events)
    world.folder.fold()
    world.folder.compact(force=True)
    day = datetime.fromtimestamp(events[0].t / 1e9, tz=UTC).date().isoformat()
    frame = pl.read_parquet(world.home.blobs / "events" / "**" / "*.parquet", hive_partitioning=False)
    assert frame["id"].to_list() == [event.id for event in events]
    assert frame.schema["ttft_ms"] == pl.Float64
    assert frame.schema["version"] == pl.Int64
    assert list((world.home.blobs / "events" / "deployment=d").iterdir()) == [world.home.blobs / "events" / "deployment=d" / f"day={day}"]


def test_time_makes_segments_by_itself(world: World) -> None:
    folder = write(world.home, make(3))
    world.folder.fold()
    assert world.folder.compact() == 0
    for file in folder.iterdir():
        past = time.time() - 3600
        os.utime(file, (past, past))
    assert world.folder.compact() == 1


def test_unfolded_and_open_files_are_never_compacted(world: World) -> None:
    live = Spool(world.home.spool / uuid7())
    for event in make(5):
        live.append(event)
    write(world.home, make(5))
    assert world.folder.compact(force=True) == 0
    world.folder.fold()
    assert world.folder.compact(force=True) == 1
    assert len(spool_files(world.home.spool)) == 1
    live.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    db = new_sqlite(tmp_path_factory.mktemp("fold") / "test.db")
    yield db
    db.close()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_prefix_of_the_disk_counts_once(shared: Database, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """The file grows by any number of bytes between folds and the folding process restarts: the sum is the number of complete lines."""
    home = Home.open(tmp_path_factory.mktemp("fold") / "home")
    deployment = uuid7()
    events = make(data.draw(st.integers(1, 30)), deployment=deployment)
    whole = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
    path = home.spool / uuid7() / "000001.jsonl"
    path.parent.mkdir()
    for cut in [*sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8))), len(whole)]:
        path.write_bytes(whole[:cut])
        world = World(shared, home)
        world.folder.fold()
        assert world.counted(deployment=deployment) == whole[:cut].count(b"\n")
    assert World(shared, home).counted(deployment=deployment) == len(events)
    shutil.rmtree(home.runtime, ignore_errors=True)


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def killed_at(world: World, monkeypatch: pytest.MonkeyPatch, nth: int) -> bool:
    """Fold and compact, and die at the n-th statement or file operation; False if it got through."""
    calls = 0

    def tick(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise Killed

    def wrapped(original: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            tick()
            result = original(*args, **kwargs)
            tick()
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", wrapped(Path.unlink))
        patch.setattr(type(world.blobs.objects), "put", wrapped(type(world.blobs.objects).put))
        sa.event.listen(world.db.engine, "before_cursor_execute", tick)
        sa.event.listen(world.db.engine, "commit", tick)
        try:
            world.folder.fold()
            world.folder.compact(force=True)
        except Killed:
            return True
        finally:
            sa.event.remove(world.db.engine, "before_cursor_execute", tick)
            sa.event.remove(world.db.engine, "commit", tick)
    return False


@pytest.mark.slow
def test_killed_anywhere_in_fold_and_compaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Event] = []
    nth = 0
    killed = True
    while killed:
        nth += 1
        for _ in range(2):
            events = make(3)
            written += events
            write(world.home, events)
        world = world.again(compactor=compact)
        killed = killed_at(world, monkeypatch, nth)
        world = world.again(compactor=compact)
        assert len(world.events.recent("w", limit=10_000)) == len(written)
        world.folder.fold()
        assert world.counted() == len(written)
        world.folder.compact(force=True)
        world.folder.compact(force=True)
        assert world.counted() == len(written)
        assert spool_files(world.home.spool) == []
    assert nth > 20
    assert [event.id for event in world.events.recent("w", limit=10_000)] == sorted((event.id for event in written), reverse=True)
    assert all(world.events.find(event.id) == event for event in written)
    with world.db.read() as connection:
        rows = connection.execute(sa.select(sa.func.sum(event_segments.c.rows)).where(event_segments.c.replaced_ms.is_(None))).scalar_one()
        assert rows == len(written)
        assert connection.execute(sa.select(spool_offsets)).all() == []


def test_two_folders_at_once_count_once(world: World) -> None:
    """As when a second server is started on the home by force: the offset decides who counts."""
    for _ in range(5):
        write(world.home, make(40))
    other = World(world.db, world.home)
    errors: list[BaseException] = []

    def run(one: World) -> None:
        try:
            one.folder.fold()
        except BaseException as error:  # noqa: BLE001 - asserted on below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in (world, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    world.folder.fold()
    assert world.counted() == 200


def test_lines_that_are_no_events_are_left_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    [first, second] = make(2)
    path = world.home.spool / uuid7() / "000001.jsonl"
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode(first) + b'\n{"id":"cut off\n\n' + msgspec.json.encode(second) + b'\n{"id":"torn')
    assert world.folder.fold() == 2
    assert "is no event" in caplog.text
    assert world.folder.compact(force=True) == 1
    assert [event.id for event in world.events.recent("w")] == [second.id, first.id]


def test_a_failed_compaction_leaves_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    events = make(4)
    write(world.home, events)
    world.folder.fold()
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(DrivetrainError, match="stay in the spool"):
        world.folder.compact(force=True)
    monkeypatch.undo()
    assert world.events.find(events[0].id) == events[0]
    assert not list(world.blobs.objects.scratch.iterdir())
    assert world.folder.compact(force=True) == 1


def test_small_segments_are_merged(world: World) -> None:
    world = world.again(compactor=compact)
    written = []
    for _ in range(16):
        written += make(2)
        write(world.home, written[-2:])
        world.folder.fold()
        world.folder.compact(force=True)
    assert world.segments() == 1
    assert [event.id for event in world.events.recent("w")] == [event.id for event in reversed(written)]
    assert world.events.find(written[3].id) == written[3]
    assert len(list(world.home.blobs.glob("events/**/*.rows"))) == 17  # those replaced stay for an hour: somebody may be reading
    with world.db.write() as connection:
        connection.execute(
            sa.update(event_segments).where(event_segments.c.replaced_ms.is_not(None)).values(replaced_ms=now_ms() - 7_200_000)
        )
    assert world.folder.expire() == 16
    assert len(list(world.home.blobs.glob("events/**/*.rows"))) == 1
    assert world.events.find(written[3].id) == written[3]


def test_expiry(world: World) -> None:
    old, new = make(3, at_ms=now_ms() - 100 * 86_400_000), make(3)
    for event, moment in zip(old, range(3), strict=True):
        event.id = f"{now_ms() - 100 * 86_400_000:012x}7{moment:03x}" + event.id[16:]
    write(world.home, old + new)
    world.folder.fold()
    assert world.folder.compact(force=True) == 2
    stray = world.home.blobs / "events" / "deployment=d" / "stray.parquet"
    stray.write_bytes(b"")
    os.utime(stray, (0, 0))
    assert world.folder.expire() == 1
    assert not stray.exists()
    assert world.events.find(old[0].id) is None
    assert world.events.find(new[0].id) == new[0]
    assert world.counted() == 3


def test_what_is_counted_of_an_event(world: World) -> None:
    """Queue, cost and errors by kind; repeated requests are no traffic; exposures are nothing."""
    common: dict[str, Any] = {"t": time.time_ns(), "workspace": "w", "deployment": "d", "variant": "v"}
    write(
        world.home,
        [
            Event(id=uuid7(), **common, queue_ms=100.0, cost=0.25, latency_ms=10.0),
            Event(id=uuid7(), **common, cost=0.5, latency_ms=10.0),
            Event(id=uuid7(), **common, error="timeout"),
            Event(id=uuid7(), **common, error="upstream"),
            Event(id=uuid7(), **common, shadow="x", latency_ms=5000.0, cost=9.0),
            Event(id=uuid7(), **common, shadow="x", error="upstream"),
        ],
    )
    spool = Spool(world.home.spool / uuid7())
    spool.append(Exposure(exposure=uuid7(), t=time.time_ns(), deployment="d", variant="v", unit="", rollout="r", phase=1))
    spool.close()
    assert world.folder.fold() == 7
    total = world.events.total(["d"], since_ms=0, until_ms=now_ms() + 60_000)
    assert (total.requests, total.errors, total.kinds, total.cost) == (4, 2, {"timeout": 1, "upstream": 1}, 0.75)
    assert total.queue_p95_ms == pytest.approx(100, rel=0.2)
    assert total.latency_p99_ms == pytest.approx(10, rel=0.2)
    assert (world.counted("shadow.requests"), world.counted("shadow.errors"), world.counted(f"shadow.latency.{bucket(5000)}")) == (2, 1, 1)


def test_series(world: World) -> None:
    start = now_ms() // 60_000 * 60_000 - 600_000
    write(
        world.home, make(4, at_ms=start) + make(2, at_ms=start + 60_000, error="upstream") + make(1, at_ms=start + 300_000, deployment="e")
    )
    world.folder.fold()
    points = world.events.series(["d", "e"], since_ms=start, until_ms=start + 360_000, step_ms=60_000)
    assert [point.requests for point in points] == [4, 2, 0, 0, 0, 1]
    assert [point.errors for point in points] == [0, 2, 0, 0, 0, 0]
    assert points[0].latency_p50_ms == pytest.approx(20, rel=0.2)
    assert points[1].latency_p50_ms is None
    assert sum(point.requests for point in world.events.series(["d"], since_ms=start, until_ms=start + 360_000, step_ms=300_000)) >= 6
    assert world.events.series([], since_ms=start, until_ms=start + 60_000, step_ms=60_000)[0].requests == 0
    assert world.events.series(["d"], since_ms=start, until_ms=start + 60_000, step_ms=60_000, variant="x")[0].requests == 0
    with pytest.raises(Invalid, match="longer steps"):
        world.events.series(["d"], since_ms=0, until_ms=now_ms(), step_ms=60_000)


@given(st.floats(0, 1e9, allow_nan=False))
def test_buckets_enclose_what_is_in_them(ms: float) -> None:
    i = bucket(ms)
    assert FIRST <= i <= LAST
    assert ms <= edge(i) * (1 + 1e-9) or i == LAST
    assert ms > edge(i - 1) * (1 - 1e-9) or i == FIRST


@given(st.lists(st.floats(0.3, 1e6), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles_are_within_a_bucket(values: list[float], q: float) -> None:
    histogram: dict[int, int] = {}
    for value in values:
        histogram[bucket(value)] = histogram.get(bucket(value), 0) + 1
    exact = sorted(values)[math.ceil(q * len(values)) - 1]
    found = quantile(histogram, q)
    assert found is not None
    assert exact / 1.2 <= found <= exact * 1.2
