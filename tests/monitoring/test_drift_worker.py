"""The process that compares windows of events: what it takes, what it leaves, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from drivetrain.monitoring.drift import worker
from drivetrain.monitoring.drift.work import Done, Work
from drivetrain.profiles.build import profile
from drivetrain.profiles.calibration import calibrate
from drivetrain.store.child import run_child
from drivetrain.store.events.model import Event, Exposure

RANDOM = np.random.default_rng(0)
NAMES = ("age", "height")


def run(work: Work) -> Done:
    """Its only window."""
    (done,) = worker.run(work)
    return done


def train(rows: int = 1000) -> dict[str, Any]:
    table = {name: RANDOM.normal(size=rows) for name in NAMES}
    return {**table, "label": (table["age"] > 0).astype(int)}


def event(number: int, row: Any, said: Any, *, named: bool = False, **more: Any) -> Event:
    inputs = [{"name": name, "shape": [1], "data": [x]} for name, x in zip(NAMES, row, strict=True)]
    if not named:
        inputs = [{"name": "x", "shape": [1, 2], "data": list(row)}]
    shape = [1, len(said)] if isinstance(said, list) else [1]
    output = {"outputs": [{"name": "y", "shape": shape, "data": said if isinstance(said, list) else [said]}]}
    values: dict[str, Any] = {"deployment": "d1", "variant": "v1", "task": "infer"} | more
    return Event(
        id=f"{number:032x}",
        t=1_000_000_000_000 + number * 1_000_000,
        input=json.dumps({"inputs": inputs}),
        output=json.dumps(output),
        **values,
    )


def spool(folder: Path, *lines: Event | Exposure | bytes) -> tuple[str, int]:
    raw = b"".join((line if isinstance(line, bytes) else msgspec.json.encode(line)) + b"\n" for line in lines)
    file = folder / f"{len(list(folder.iterdir()))}.spool"
    file.write_bytes(raw)
    return str(file), len(raw)


def events(count: int, *, shift: float = 0.0, first: int = 1, **more: Any) -> list[Event]:
    rows = RANDOM.normal(shift, 1, (count, 2))
    return [event(first + i, row.tolist(), int(row[0] > 0), **more) for i, row in enumerate(rows)]


@pytest.mark.parametrize("named", [True, False], ids=["named columns", "one tensor"])
def test_a_window_is_compared_with_the_training_data(tmp_path: Path, named: bool) -> None:
    reference = profile(train(), target="label", source="training")
    done = run(Work(deployment="d1", spools=[spool(tmp_path, *events(200, named=named))], reference=reference))
    assert done.report is not None
    assert (done.events, done.report.rows_live, done.report.notes) == (200, 200, [])
    assert {feature.name for feature in done.report.features} == {"age", "height", "label"}
    assert done.report.drifted == []
    assert (done.last, done.first_ms, done.last_ms) == (f"{200:032x}", 1_000_001, 1_000_200)
    done = run(Work(deployment="d1", spools=[spool(tmp_path, *events(200, shift=1.5, named=named))], reference=reference))
    assert done.report is not None
    assert {feature.name for feature in done.report.drifted} == {"age", "height", "label"}


def test_it_takes_what_it_is_told_and_no_more(tmp_path: Path) -> None:
    mine = events(50)
    others = [
        *events(10, first=100, deployment="d2"),
        *events(10, first=200, variant="v2"),
        *events(10, first=300, shadow="x"),
        *events(10, first=400, error="internal"),
    ]
    exposure = Exposure(exposure="e", t=0, deployment="d1", variant="v1", unit="", rollout="r", phase=1)
    path, size = spool(tmp_path, exposure, b'{"id": cut', *others, *mine)
    cut = len(msgspec.json.encode(mine[-1])) + 1
    work = Work(deployment="d1", variants=["v1"], spools=[(path, size - cut), (path, size - cut), (str(tmp_path / "gone"), 10)])
    done = run(work)
    assert done.window.rows == 49  # the last line is beyond what was told, and no event is counted twice
    assert done.report is None
    assert run(msgspec.structs.replace(work, after=mine[9].id, upto=mine[19].id)).events == 10
    newest = run(msgspec.structs.replace(work, upto=mine[48].id, most=7))
    assert (newest.events, newest.first_ms, newest.last) == (7, mine[42].t // 1_000_000, mine[48].id)
    nothing = run(Work(deployment="d9", spools=[(path, size)], after="a"))
    assert (nothing.events, nothing.last, nothing.window.rows) == (0, "a", 0)


def test_live_data_become_a_reference(tmp_path: Path) -> None:
    learned = run(Work(deployment="d1", spools=[spool(tmp_path, *events(300))], learn=True, source="the first requests")).window
    assert learned.source == "the first requests"
    assert [column.kind for column in learned.columns] == ["numeric", "numeric", "categorical"]
    now = run(Work(deployment="d1", spools=[spool(tmp_path, *events(150, first=500))], reference=learned))
    assert now.report is not None and now.report.drifted == []
    later = Work(deployment="d1", spools=[spool(tmp_path, *events(150, shift=2, first=900))], reference=learned, before=[now.window])
    whole = run(later)
    assert whole.report is not None
    assert (whole.window.rows, whole.report.rows_live) == (150, 300)
    assert {feature.name for feature in whole.report.drifted} == {"column_0", "column_1", "prediction"}


def test_what_came_at_once_is_cut_into_windows(tmp_path: Path) -> None:
    came = [*events(130), *events(130, first=131, shift=2.0), *events(130, first=261, shift=2.0)]
    work = Work(deployment="d1", spools=[spool(tmp_path, *came)], reference=profile(train(), target="label"), windows=3, events=100)
    done = worker.run(work)
    assert [(one.events, one.last, one.first_ms) for one in done] == [
        (130, came[129].id, came[0].t // 1_000_000),
        (130, came[259].id, came[130].t // 1_000_000),
        (130, came[389].id, came[260].t // 1_000_000),
    ]
    assert [bool(one.report and one.report.drifted) for one in done] == [False, True, True]
    assert [one.events for one in worker.run(msgspec.structs.replace(work, events=150))] == [195, 195]
    assert [one.events for one in worker.run(msgspec.structs.replace(work, events=500))] == [390]


def test_probabilities_tell_how_many_answers_are_right(tmp_path: Path) -> None:
    reference = profile(train(), target="label")
    sure = [event(i, RANDOM.normal(size=2).tolist(), [0.2, 0.8]) for i in range(1, 101)]
    plain = run(Work(deployment="d1", spools=[spool(tmp_path, *sure)], reference=reference)).report
    assert plain is not None and plain.estimated is not None
    assert plain.estimated.value == pytest.approx(0.8)
    assert not plain.estimated.calibrated
    reference.calibration = calibrate([0.8] * 10, [True] * 6 + [False] * 4)
    told = run(Work(deployment="d1", spools=[spool(tmp_path, *sure)], reference=reference)).report
    assert told is not None and told.estimated is not None
    assert told.estimated.value == pytest.approx(0.6)
    assert told.notes == [told.estimated.words]


def test_it_is_a_process_of_its_own(tmp_path: Path) -> None:
    work = Work(deployment="d1", spools=[spool(tmp_path, *events(60))], reference=profile(train(), target="label"))
    answer = run_child("drivetrain.monitoring.drift.worker", msgspec.json.encode(work), seconds=120)
    (done,) = msgspec.json.decode(answer, type=list[Done])
    assert done.report is not None and done.report.enough
    here = run(work)
    assert here.report is not None and done.window == here.window
    for one, same in zip(done.report.features, here.report.features, strict=True):  # a sum's last bits depend on where its numbers lie
        assert (one.name, one.drifted, one.bars) == (same.name, same.drifted, same.bars)
        assert (one.effect, one.expected, one.p) == pytest.approx((same.effect, same.expected, same.p))
