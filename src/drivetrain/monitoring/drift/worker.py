"""Make the profile of a window of events, and compare it with a reference: `python -m drivetrain.monitoring.drift.worker PARENT`.

Short-lived, as the compaction of events is, so that nobody else ever imports NumPy or SciPy. Standard input is a `Work` as JSON, standard
output a list of `Done`, the oldest window first. It reads the files that it is told, and nothing else.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from drivetrain.monitoring.drift.estimated import accuracy
from drivetrain.monitoring.drift.features import OUTPUT, confidences, table
from drivetrain.monitoring.drift.model import Report
from drivetrain.monitoring.drift.report import compare
from drivetrain.monitoring.drift.work import Done, Work
from drivetrain.profiles.build import merge, profile
from drivetrain.profiles.model import Profile
from drivetrain.store.child import end_with
from drivetrain.store.events.model import Event
from drivetrain.store.events.segments import read_lines


def main() -> None:
    if len(sys.argv) > 1:
        threading.Thread(target=end_with, args=(int(sys.argv[1]),), daemon=True).start()
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    sys.stdout.buffer.write(msgspec.json.encode(run(work)))


def run(work: Work) -> list[Done]:
    """The windows of these events, the oldest first: one at least."""
    events = _newest(work)
    windows = max(1, min(work.windows, len(events) // work.events))
    ends = [len(events) * i // windows for i in range(windows + 1)]
    return [_window(work, events[start:end]) for start, end in pairwise(ends)]


def _window(work: Work, events: list[Event]) -> Done:
    columns, _ = table(events)
    reference = work.reference
    if reference is not None:
        columns = _matched(columns, reference)
    window = profile(_arrays(columns), like=reference, nulls=work.learn, source=work.source, target=OUTPUT if reference is None else None)
    if events:
        window.from_ms, window.to_ms = events[0].t // 1_000_000, events[-1].t // 1_000_000
    whole = window
    for earlier in work.before:
        whole = merge(whole, earlier)
    return Done(
        events=len(events),
        last=events[-1].id if events else work.after,
        first_ms=window.from_ms,
        last_ms=window.to_ms,
        window=window,
        report=_report(reference, whole, events, work) if reference is not None else None,
    )


def _report(reference: Profile, window: Profile, events: list[Event], work: Work) -> Report:
    report = compare(reference, window, work.options)
    report.estimated = accuracy(confidences(events), reference.calibration)
    if report.estimated is not None:
        report.notes.append(report.estimated.words)
    return report


def _matched(columns: dict[str, list[object]], reference: Profile) -> dict[str, list[object]]:
    """Live columns under the names of the reference: what the model said is compared with the target; a tensor's columns, which have no
    names, with the inputs in their order."""
    found = dict(columns)
    inputs = [column.name for column in reference.columns if column.name not in (reference.target, OUTPUT) and " · " not in column.name]
    unnamed = [name for name in found if name.startswith("column_")]
    if not set(inputs) & found.keys() and len(unnamed) == len(inputs):
        for name, wanted in zip(unnamed, inputs, strict=True):
            found[wanted] = found.pop(name)
    if reference.target is not None and OUTPUT in found:
        found[reference.target] = found.pop(OUTPUT)
    return found


def _arrays(columns: dict[str, list[object]]) -> dict[str, object]:
    import numpy as np

    found: dict[str, object] = {}
    for name, values in columns.items():
        array = np.empty(len(values), dtype=object)
        array[:] = values
        kinds = {type(value) for value in values}
        found[name] = np.array(values) if kinds <= {int, float} or kinds == {bool} else array
    return found


def _newest(work: Work) -> list[Event]:
    """The newest events, up to `most`, in order. An event may be met twice: a spool file may have become a segment just now."""
    found: dict[str, Event] = {}
    for event in _events(work):
        found[event.id] = event
        if len(found) >= 2 * work.most:
            found = {id_: found[id_] for id_ in sorted(found)[-work.most :]}
    return [found[id_] for id_ in sorted(found)[-work.most :]]


def _events(work: Work) -> Iterator[Event]:
    decoder = msgspec.json.Decoder(Event)
    needle = b'"deployment":' + msgspec.json.encode(work.deployment)
    variants = set(work.variants)
    for line in _lines(work):
        if needle not in line:
            continue
        try:
            event = decoder.decode(line)
        except msgspec.DecodeError:
            continue
        wanted = event.deployment == work.deployment and (not variants or event.variant in variants)
        if wanted and event.id > work.after and (not work.upto or event.id <= work.upto):
            yield event


def _lines(work: Work) -> Iterator[bytes]:
    for path, upto in work.spools:
        with contextlib.suppress(FileNotFoundError), Path(path).open("rb") as file:
            for line in file:
                upto -= len(line)
                if upto < 0:
                    break
                yield line
    for path in work.rows:
        with contextlib.suppress(FileNotFoundError):
            yield from read_lines(Path(path))


if __name__ == "__main__":
    main()
