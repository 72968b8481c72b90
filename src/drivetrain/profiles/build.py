"""Making profiles: of a data frame or an array, like another profile, and of two profiles together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from drivetrain.profiles import sketch as kll
from drivetrain.profiles.distance import jensen_shannon
from drivetrain.profiles.kinds import LOOKED_AT, form_of, kind_of, text_of
from drivetrain.profiles.model import Column, Null, Profile
from drivetrain.profiles.text import LEAST_TEXTS, SCALARS, scalars, telling, vocabulary, words_of
from drivetrain.profiles.times import seconds

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Values = npt.NDArray[Any]

MOST_CATEGORIES = 10_000
HEAD = 1_000
"""So many of a column's categories are kept as its commonest; which of the others are does not depend on how common they are."""
MOST_COLUMNS = 2_000
SIZES = (50, 100, 200, 500, 1_000, 2_000, 5_000)
WINDOWS = 100
LARGE = 500
LARGE_WINDOWS = 40
MOST_DRAWN = 10_000
MOST_TEXTS = 50_000
MOST_VALUE = 1e140
"""What is beyond, as infinity is, counts as missing: its square is no number."""
DOT = " · "
WORDING = "wording"


def profile(frame: Any, *, target: str | None = None, like: Profile | None = None, source: str = "", nulls: bool = True) -> Profile:
    """The profile of a table: a polars, pandas or pyarrow frame, a Parquet file, a mapping of columns, or a two-dimensional array.

    `like`: take the kinds of columns, and the vocabularies, from another profile, so that the two can be compared. `nulls`: learn what
    the wording of windows of these data looks like; not needed of live data. Raises ValueError for what is no table.
    """
    made: list[Column] = []
    rows = 0
    for number, (name, values) in enumerate(columns_of(frame)):
        if number >= MOST_COLUMNS:
            raise ValueError(f"a profile has up to {MOST_COLUMNS} columns; this table has more")
        rows = max(rows, len(values))
        known = like.column(name) if like is not None else None
        if like is not None and known is None and like.columns:
            continue  # nothing to be compared with
        kind = known.kind if known is not None else kind_of(name, values, is_target=name == target)
        made += _column(name, values, kind, like, nulls)
    return Profile(rows=rows, columns=made, target=target, source=source)


def merge(one: Profile, other: Profile) -> Profile:
    """The profile of the rows of both. Columns that only one has are left out; nulls are the first one's."""
    made = []
    for column in one.columns:
        beside = other.column(column.name)
        if beside is None or beside.kind != column.kind:
            continue
        counts = Counter(column.counts) + Counter(beside.counts)
        kept = _kept(counts)
        made.append(
            Column(
                name=column.name,
                kind=column.kind,
                rows=column.rows + beside.rows,
                missing=column.missing + beside.missing,
                sketch=kll.merge(column.sketch, beside.sketch) if column.sketch is not None and beside.sketch is not None else None,
                counts=kept,
                other=column.other + beside.other + counts.total() - sum(kept.values()),
                distinct=max(column.distinct, beside.distinct, len(counts)),
                vocabulary=column.vocabulary,
                nulls=column.nulls,
            )
        )
    return Profile(
        rows=one.rows + other.rows,
        columns=made,
        target=one.target,
        source=one.source,
        calibration=one.calibration,
        from_ms=min(one.from_ms, other.from_ms),
        to_ms=max(one.to_ms, other.to_ms),
    )


def columns_of(frame: Any) -> Iterator[tuple[str, Values]]:
    """A table's columns as arrays, one after the other: of a lazy frame or a Parquet file, no more than one is in memory at a time."""
    import numpy as np

    if isinstance(frame, Path):
        import polars as pl

        frame = pl.scan_parquet(frame)
    if isinstance(frame, Mapping):
        yield from ((str(name), np.asarray(values)) for name, values in frame.items())
    elif hasattr(frame, "collect_schema") and hasattr(frame, "collect"):  # polars, lazy
        yield from ((str(name), frame.select(name).collect().to_series().to_numpy()) for name in frame.collect_schema().names())
    elif hasattr(frame, "to_pydict") and hasattr(frame, "column_names"):  # pyarrow
        yield from ((str(name), frame.column(name).to_numpy()) for name in frame.column_names)
    elif hasattr(frame, "columns"):  # polars, pandas
        yield from ((str(name), frame[name].to_numpy()) for name in frame.columns)
    else:
        array = np.asarray(frame)
        if array.ndim != 2:
            kind = f"{type(frame).__name__} of {array.ndim} dimensions"
            raise ValueError(f"a table is needed: a data frame or a two-dimensional array, not {kind}")
        yield from ((f"column_{i}", array[:, i]) for i in range(array.shape[1]))


def _column(name: str, values: Values, kind: str, like: Profile | None, nulls: bool) -> list[Column]:
    if kind == "numeric":
        return [_numeric(name, values)]
    if kind == "time":
        return [_time(name, values)]
    if kind in ("categorical", "identifier"):
        return [_categorical(name, values, kind)]
    return _text(name, values, like, nulls)


def _numeric(name: str, values: Values) -> Column:
    import numpy as np

    numbers = _floats(values)
    with np.errstate(invalid="ignore"):
        there = np.abs(numbers) < MOST_VALUE
    finite = np.sort(numbers if there.all() else numbers[there])
    found = kll.sketch(finite, ordered=True)
    return Column(name=name, kind="numeric", rows=len(numbers), missing=len(numbers) - len(finite), sketch=found)


def _time(name: str, values: Values) -> Column:
    import numpy as np

    times = seconds(values)
    there = np.isfinite(times)
    found = kll.sketch(times[there])
    absent = (
        np.isnat(values) if values.dtype.kind == "M" else np.array([value is None or value != value for value in values.tolist()], bool)
    )
    missing = int((absent & ~there).sum())
    return Column(name=name, kind="time", rows=len(values), missing=missing, sketch=found, other=len(values) - missing - found.count)


def _floats(values: Values) -> npt.NDArray[np.float64]:
    import numpy as np

    try:
        return values.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_float(value) for value in values.tolist()])


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _categorical(name: str, values: Values, kind: str) -> Column:
    """The values of categories, or the forms of identifiers."""
    import numpy as np

    if kind == "categorical" and values.dtype.kind in "biu":
        found, numbers = np.unique(values, return_counts=True)
        counts = Counter({text_of(value): int(number) for value, number in zip(found.tolist(), numbers.tolist(), strict=True)})
    else:
        counts = _counted(values)
    rows, distinct = counts.total(), len(counts)
    if kind == "identifier":
        forms: Counter[str] = Counter()
        for value, number in counts.items():
            forms[form_of(value)] += number
        counts = forms
    kept = _kept(counts)
    return Column(
        name=name,
        kind=kind,
        rows=len(values),
        missing=len(values) - rows,
        counts=kept,
        other=rows - sum(kept.values()),
        distinct=distinct,
    )


def _kept(counts: Counter[str]) -> dict[str, int]:
    """The commonest categories, and of the others as many as there is room for, by a hash: were they chosen by their counts, those that
    happened to be common here would seem to have left live data."""
    if len(counts) <= MOST_CATEGORIES:
        return dict(counts.most_common())
    ordered = counts.most_common()
    rest = sorted(ordered[HEAD:], key=lambda one: crc32(one[0].encode(errors="replace")))[: MOST_CATEGORIES - HEAD]
    return dict([*ordered[:HEAD], *rest])


def _counted(values: Values) -> Counter[str]:
    """How often each value occurs, by its name. Large columns of plain text are counted by polars."""
    if len(values) > LOOKED_AT and all(isinstance(value, str) for value in values[:100]):
        import polars as pl

        try:
            found = pl.Series("value", values, dtype=pl.String, strict=True).drop_nulls().value_counts(name="count")
            return Counter(dict(zip(found["value"].to_list(), found["count"].to_list(), strict=True)))
        except (TypeError, ValueError, pl.exceptions.PolarsError):
            pass  # not all of it is text
    return Counter(text_of(value) for value in values.tolist() if value is not None and value == value)


def _text(name: str, values: Values, like: Profile | None, nulls: bool) -> list[Column]:
    import numpy as np

    texts = [value for value in values.tolist() if isinstance(value, str)]
    whole = Column(name=name, kind="text", rows=len(values), missing=len(values) - len(texts))
    texts = texts[:: -(-len(texts) // MOST_TEXTS) or 1]  # of very many, evenly spaced ones tell as much
    before = like.column(name) if like is not None else None
    if before is None:
        words = vocabulary(texts)
        # A word that a text shares with too few others would not be known if this text had come later: judge each so.
        known = frozenset(word for word, count in words.items() if count > LEAST_TEXTS)
        kept, said = list(words), telling(words, len(texts))
    else:
        kept, known = list(before.vocabulary), frozenset(before.vocabulary)
        worded = like.column(f"{name}{DOT}{WORDING}") if like is not None else None
        said = list(worded.counts) if worded is not None else []
    table = np.array([scalars(text, known) for text in texts]).reshape(-1, len(SCALARS))
    whole.vocabulary = kept
    numbers = [_numeric(f"{name}{DOT}{scalar}", table[:, i]) for i, scalar in enumerate(SCALARS)]
    return [whole, *numbers, *([_wording(f"{name}{DOT}{WORDING}", texts, said, nulls)] if said else [])]


def _wording(name: str, texts: list[str], words: list[str], nulls: bool) -> Column:
    """How many texts have each of these words, and how many have none (`other`). What windows look like is learned by drawing texts, since
    words come together."""
    import numpy as np

    at = {word: i for i, word in enumerate(words)}
    found = [[at[word] for word in words_of(text) if word in at] or [len(words)] for text in texts]
    counts = Counter(i for row in found for i in row)
    column = Column(
        name=name,
        kind="words",
        rows=len(texts),
        counts={word: counts[i] for i, word in enumerate(words)},
        other=counts[len(words)],
    )
    if nulls:
        random = np.random.default_rng(0)
        drawn = random.choice(len(texts), min(len(texts), MOST_DRAWN), replace=False)
        has = np.zeros((len(drawn), len(words) + 1), dtype=np.int64)
        for row, text in enumerate(drawn):
            has[row, found[text]] = 1
        whole = has.sum(axis=0)
        for size in _sizes(len(texts)):
            windows = (has[random.integers(len(has), size=size)].sum(axis=0) for _ in range(_windows(size)))
            column.nulls.append(_null(size, np.array([jensen_shannon(whole, window) for window in windows])))
    return column


def _windows(size: int) -> int:
    return WINDOWS if size <= LARGE else LARGE_WINDOWS


def _null(size: int, effects: npt.NDArray[np.float64]) -> Null:
    return Null(size, float(effects.mean()), float(effects.std(ddof=1)))


def _sizes(rows: int) -> list[int]:
    return [size for size in SIZES if size <= rows // 2] or ([max(1, rows // 2)] if rows >= 10 else [])
