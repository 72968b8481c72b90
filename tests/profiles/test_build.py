"""Profiles of every kind of table, and of awkward columns."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from drivetrain.profiles.build import MOST_COLUMNS, merge, profile
from drivetrain.profiles.model import FORMAT, Column, Profile
from drivetrain.profiles.sketch import pack, unpack

DATA: dict[str, list[Any]] = {
    "age": [30.0, 40.0, None, 50.0] * 10,
    "count": [1, 2, 3, 4] * 10,
    "city": ["Ulm", None, "Bonn", "Ulm"] * 10,
    "open": [True, False, True, True] * 10,
    "label": [0, 1, 2, 0] * 10,
}


def frame(kind: str, folder: Path) -> Any:
    table = pl.DataFrame(DATA)
    file = folder / "table.parquet"
    match kind:
        case "polars":
            return table
        case "lazy":
            return table.lazy()
        case "pandas":
            return pd.DataFrame(DATA)
        case "pyarrow":
            return pa.table(DATA)
        case "file":
            table.write_parquet(file)
            return file
        case _:
            return DATA


def shown(column: Column) -> tuple[Any, ...]:
    sketch = column.sketch
    return column.kind, column.rows, column.missing, column.counts, sketch and (sketch.count, sketch.low, sketch.high, sketch.mean)


@pytest.mark.parametrize("kind", ["polars", "lazy", "pandas", "pyarrow", "file", "mapping"])
def test_every_table_has_the_same_profile(kind: str, tmp_path: Path) -> None:
    made = profile(frame(kind, tmp_path), target="label")
    assert made.rows == 40
    assert {column.name: shown(column) for column in made.columns} == {
        "age": ("numeric", 40, 10, {}, (30, 30.0, 50.0, 40.0)),
        "count": ("numeric", 40, 0, {}, (40, 1.0, 4.0, 2.5)),
        "city": ("categorical", 40, 10, {"Ulm": 20, "Bonn": 10}, None),
        "open": ("categorical", 40, 0, {"1": 30, "0": 10}, None),
        "label": ("categorical", 40, 0, {"0": 20, "1": 10, "2": 10}, None),
    }


def test_arrays_have_numbered_columns() -> None:
    made = profile(np.arange(20, dtype=np.float32).reshape(10, 2))
    assert [(column.name, column.kind) for column in made.columns] == [("column_0", "numeric"), ("column_1", "numeric")]
    for bad in (np.zeros(3), np.zeros((2, 2, 2)), 3):
        with pytest.raises(ValueError, match="a table is needed"):
            profile(bad)
    with pytest.raises(ValueError, match="up to"):
        profile(np.zeros((1, MOST_COLUMNS + 1)))


@pytest.mark.parametrize(
    ("values", "kind", "missing"),
    [
        ([np.nan] * 20, "numeric", 20),
        ([np.inf, -np.inf, 1.0] * 5, "numeric", 10),
        ([None] * 20, "categorical", 20),
        ([1, 2.5, None] * 5, "numeric", 5),
        ([1, "two", None] * 5, "categorical", 5),
        ([date(2026, 1, 1)] * 5, "time", 0),
        (["2026-01-01", None, "2026-01-01T10:00:00Z"] * 5, "time", 5),
        ([datetime(2026, 1, 1, tzinfo=UTC), pd.NaT] * 5, "time", 5),
        ([10**400, 1], "numeric", 1),
        ([], "numeric", 0),
    ],
    ids=["nan", "infinite", "none", "mixed numbers", "mixed", "dates", "texts of times", "moments", "huge", "empty"],
)
def test_awkward_columns(values: list[Any], kind: str, missing: int) -> None:
    array = np.array(values, dtype=object) if values and not all(isinstance(value, float) for value in values) else np.array(values)
    made = profile({"x": array})
    assert (made.columns[0].kind, made.columns[0].missing) == (kind, missing)
    assert msgspec.json.decode(msgspec.json.encode(made), type=Profile) == made
    assert merge(made, made).columns[0].missing == 2 * missing


NUMBERS = np.random.default_rng(0).integers(0, 100_000, 500)
NAMED: dict[str, tuple[str, Any, str]] = {
    "unique texts": ("x", np.array([f"id-{i}" for i in range(500)]), "identifier"),
    "a few unique texts": ("x", np.array([f"id-{i}" for i in range(30)]), "categorical"),
    "texts that come again": ("x", np.array([f"id-{i}" for i in NUMBERS % 300]), "categorical"),
    "whole numbers": ("x", NUMBERS, "numeric"),
    "numbers by name": ("user_id", np.arange(500)[::-1] * 17, "identifier"),
    "numbers of few users": ("user_id", NUMBERS % 100, "numeric"),
    "numbers whose name only ends so": ("bid", np.arange(500)[::-1] * 17, "numeric"),
    "a row number": ("x", np.arange(500) + 7, "identifier"),
    "hashes": ("x", np.random.default_rng(0).integers(1 << 62, size=500), "identifier"),
    "seconds that grow": ("x", 1_700_000_000 + np.sort(NUMBERS), "time"),
    "seconds by name": ("created_at", 1_700_000_000 + NUMBERS, "time"),
    "milliseconds by name": ("eventTime", 1_700_000_000_000.0 + NUMBERS, "time"),
    "amounts in their range": ("revenue", 1_700_000_000 + NUMBERS, "numeric"),
    "seconds, some of which are not known": ("seen_at", np.where(NUMBERS % 30, 1_700_000_000 + NUMBERS, 0), "time"),
    "short questions": ("x", np.array([f"what is the gear of car {i}" for i in range(500)]), "text"),
    "what is to be predicted": ("label", np.array([f"id-{i}" for i in range(500)]), "categorical"),
}


@pytest.mark.parametrize("case", NAMED)
def test_identifiers_and_times_are_recognised(case: str) -> None:
    name, values, kind = NAMED[case]
    column = profile({name: values}, target="label").columns[0]
    assert (column.kind, column.present) == (kind, len(values)), case
    again = profile({name: values[:20]}, like=profile({name: values}, target="label")).columns[0]
    assert (again.kind, again.present) == (kind, 20)


def test_of_very_many_texts_some_are_read() -> None:
    texts = np.array([f"how do I change the gear number {i} of this car when it is cold outside in winter" for i in range(100)] * 600)
    made = profile({"prompt": texts}, nulls=False)
    assert (made.rows, made.columns[0].rows) == (60_000, 60_000)
    assert {column.rows for column in made.columns[1:]} == {30_000}


def test_live_columns_take_the_kinds_of_the_reference() -> None:
    reference = profile({"digit": np.array([1, 2, 3] * 20), "x": np.arange(60.0)}, target="digit")
    live = profile(
        {"digit": np.array([1.0, 2.0, 9.0]), "x": np.array(["1.5", "no", None], dtype=object), "new": np.zeros(3)}, like=reference
    )
    assert {column.name: (column.kind, column.missing) for column in live.columns} == {"digit": ("categorical", 0), "x": ("numeric", 2)}
    assert live.columns[0].counts == {"1": 1, "2": 1, "9": 1}


def test_packed_values_are_exact() -> None:
    random = np.random.default_rng(0)
    for values in (random.normal(size=777) * 1e300, np.array([]), np.array([0.1]), np.repeat([0.0, -5e-324, 16.0], 50)):
        assert np.array_equal(unpack(pack(values)), np.sort(values))
    pixels = random.integers(0, 17, 400).astype(float)
    assert len(pack(pixels)) < 150


def test_a_profile_of_a_later_version_is_refused() -> None:
    raw = msgspec.json.encode({"rows": 1, "columns": [], "format": FORMAT + 1})
    with pytest.raises(msgspec.ValidationError, match="update it"):
        msgspec.json.decode(raw, type=Profile)
