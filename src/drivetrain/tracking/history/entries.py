"""A run's rows, events and console lines, in the transaction of the caller: how they are written, and read with what others logged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.store.ids import now_ms
from drivetrain.store.sql import INT64, chunked, tuples, upsert
from drivetrain.tracking import checks
from drivetrain.tracking import tables as t
from drivetrain.tracking.finders import unpacked
from drivetrain.tracking.history import steps
from drivetrain.tracking.history import tables as d
from drivetrain.tracking.metrics import points
from drivetrain.tracking.model import Line, Metric
from drivetrain.tracking.values import Json, flat, is_number, plain, split_row

SYSTEM = "system/"
"""What the keys of system metrics begin with."""
MAX_TEXT = 16 << 20


def write_rows(c: sa.Connection, row: sa.Row[Any], parsed: Iterable[Json]) -> None:
    numbers: list[Metric] = []
    rests: dict[int, Json] = {}
    last = last_step(c, row.id)
    for one in parsed:
        step = one.pop("_step", None)
        if not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < INT64:
            step = last + 1
        last = max(last, step)
        stamp = one.get("_timestamp")
        time = int(stamp * 1000) if is_number(stamp) and 0 < stamp < 1e12 else now_ms()
        values, rest = split_row(one)
        numbers += [Metric(key, value, time, step) for key, value in values.items()]
        rests[step] = rests.get(step, {}) | rest
    old: dict[int, Json] = {}
    b = d.run_rows.c
    for some in chunked(rests):
        query = sa.select(b.step, b.body).where(b.run_id == row.id, b.step.in_(some))
        old.update((step, json.loads(body)) for step, body in tuples(c, query))
    bodies = [{"run_id": row.id, "step": step, "body": json.dumps(old.get(step, {}) | rest)} for step, rest in sorted(rests.items())]
    upsert(c, d.run_rows, bodies, key=["run_id", "step"], update=["body"])
    if numbers:
        points.write(c, row.id, row.experiment_uid, points.grouped(numbers))


def write_events(c: sa.Connection, row: sa.Row[Any], events: Sequence[Json], start: int) -> None:
    found: list[Metric] = []
    for number, one in enumerate(events, start):
        stamp = one.get("_timestamp")
        time = int(stamp * 1000) if is_number(stamp) and 0 < stamp < 1e12 else row.start_ms
        for key, value in flat(one):
            if is_number(value) and not key.startswith("_"):
                name = SYSTEM + key.removeprefix("system.")
                if len(name) <= checks.MAX_KEY:
                    found.append(Metric(name, float(value), time, number))
    if found:
        points.write(c, row.id, row.experiment_uid, points.grouped(found))


def write_lines(c: sa.Connection, run_id: str, lines: Sequence[Line]) -> None:
    rows = [
        {"run_id": run_id, "number": n.number, "level": n.level[:16], "time": n.time[:40], "text": n.text.replace("\x00", "")[:MAX_TEXT]}
        for n in {n.number: n for n in lines}.values()
    ]
    upsert(c, d.run_lines, rows, key=["run_id", "number"], update=["level", "time", "text"])


def line_count(c: sa.Connection, run_id: str) -> int:
    n = d.run_lines.c
    last: int | None = c.scalar(sa.select(sa.func.max(n.number)).where(n.run_id == run_id))
    return 0 if last is None else last + 1


def counted(c: sa.Connection, run_id: str) -> tuple[int, int]:
    """(rows, last step). What others logged has no rows of its own: there a row a step is assumed."""
    b = d.run_rows.c
    rows, last = c.scalar(sa.select(sa.func.count()).where(b.run_id == run_id)) or 0, last_step(c, run_id)
    return rows or last + 1, last


def last_step(c: sa.Connection, run_id: str) -> int:
    """Of all rows and points; -1 for none."""
    b, m = d.run_rows.c, t.latest_metrics.c
    row = c.scalar(sa.select(sa.func.max(b.step)).where(b.run_id == run_id))
    point = c.scalar(sa.select(sa.func.max(m.step)).where(m.run_id == run_id, ~m.key.startswith(SYSTEM, autoescape=True)))
    return max(-1 if row is None else row, -1 if point is None else point)


def series(c: sa.Connection, run_id: str, *, system: bool) -> dict[int, str]:
    """Series id → its key as a row shows it."""
    m = t.latest_metrics.c
    found: dict[int, str] = {}
    for n, key in tuples(c, sa.select(m.id, m.key).where(m.run_id == run_id)):
        if key.startswith(SYSTEM) == system:
            found[n] = "system." + key.removeprefix(SYSTEM) if system else key
    return found


def sources(run_id: str, series: Mapping[int, str], keys: Sequence[str] | None, *, system: bool) -> tuple[list[steps.Source], bool]:
    """Where the steps of rows are found, and whether they are those that all of it has in common: with `keys` the points asked for."""
    wanted = [] if keys is None else [n for n, key in series.items() if key in keys]
    return steps.sources(run_id, wanted or list(series), rows=not (wanted or system)), bool(wanted)


def merged(
    c: sa.Connection, run: sa.Row[Any], series: Mapping[int, str], steps: Sequence[int], keys: Sequence[str] | None, *, system: bool
) -> list[Json]:
    rows: dict[int, Json] = {step: {"_step": step} for step in steps}
    if not rows:
        return []
    m, b = t.metrics.c, d.run_rows.c
    times: dict[int, int] = {}
    ids = [n for n, key in series.items() if keys is None or key in keys]
    dense = len(steps) > 1 and steps[-1] - steps[0] < 2 * len(steps)
    for part in range(0, len(steps), 500):
        some = steps[part : part + 500]
        here = m.step.between(some[0], some[-1]) if dense else m.step.in_(some)
        for start in range(0, len(ids), 400):
            mine = sa.select(m.series_id, m.step, m.timestamp_ms, m.nan, m.value).where(m.series_id.in_(ids[start : start + 400]), here)
            for n, step, time, nan, value in tuples(c, mine.order_by(m.step, m.timestamp_ms, m.nan.desc(), m.value)):
                if step in rows:  # several points of a step: the latest counts
                    rows[step][series[n]] = plain(unpacked(nan, value))
                    times[step] = max(times.get(step, 0), time)
        if not system:
            there = b.step.between(some[0], some[-1]) if dense else b.step.in_(some)
            for step, body in tuples(c, sa.select(b.step, b.body).where(b.run_id == run.id, there)):
                if step in rows:
                    rows[step] |= json.loads(body)
    for step, time in times.items():
        rows[step].setdefault("_timestamp", time / 1000)
        rows[step].setdefault("_runtime", max(0.0, (time - run.start_ms) / 1000))
    return [rows[step] for step in steps]
