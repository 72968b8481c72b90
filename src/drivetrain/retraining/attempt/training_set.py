"""Labelled answers as the Parquet file that a training script reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drivetrain.errors import Invalid
from drivetrain.monitoring.drift.features import OUTPUT, table
from drivetrain.retraining.model import Labelled
from drivetrain.store.events.model import Event

LABEL, REQUEST = "label", "request_id"


def write_training_set(rows: Sequence[Labelled], target: Path) -> int:
    """One row for each answer to one row of inputs: the inputs under their names (a tensor's columns as column_0, …), what the model said
    (`prediction`), `label` and `request_id`. How many rows that are. Raises `Invalid` if there are none, or a name is taken."""
    import polars as pl

    columns: dict[str, list[Any]] = {}
    count = 0
    for row in rows:
        event = Event(id=row.id, t=row.at_ms * 1_000_000, task=row.task, input=row.input, output=row.output)
        found, number = table([event])
        if number != 1:
            continue  # a label says nothing of several rows
        if taken := {LABEL, REQUEST} & found.keys():
            raise Invalid(f"The deployment's inputs have a column {min(taken)!r}, which is what the training set calls its own.")
        values = {name: value[0] for name, value in found.items()} | {LABEL: row.label, REQUEST: row.id}
        for name in values:
            columns.setdefault(name, [None] * count)
        for name, column in columns.items():
            column.append(values.get(name))
        count += 1
    if not count:
        raise Invalid("None of the labelled answers is of one row of inputs.")
    order = [name for name in columns if name not in (OUTPUT, LABEL, REQUEST)]
    frame = pl.DataFrame(
        [pl.Series(name, columns[name], strict=False) for name in [*order, *(n for n in (OUTPUT, LABEL, REQUEST) if n in columns)]]
    )
    partial = target.with_suffix(".partial")
    frame.write_parquet(partial)
    partial.rename(target)
    return count
