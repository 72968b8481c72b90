"""wandb's ready-made plots: a table that a run logged, and what its client says of how to draw it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivetrain.web import format as fmt

MOST_POINTS = 1000
MOST_SERIES = 20
BINS = 30


@dataclass(frozen=True)
class Body:
    """A table's columns and rows, as its file has them."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def column(self, name: Any) -> list[Any] | None:
        if name not in self.columns:
            return None
        at = self.columns.index(name)
        return [row[at] if at < len(row) else None for row in self.rows]


@dataclass(frozen=True)
class Heat:
    """A confusion matrix: what it was (rows) and what it was taken for. `cells`: (words, 0 to 9 by its share of the row)."""

    names: Sequence[str]
    cells: Sequence[Sequence[tuple[str, int]]]


@dataclass(frozen=True)
class Plot:
    """`curves` is what the page's script draws; `bars` (label, percent of the largest, words); `bins` as in a histogram."""

    title: str = ""
    curves: Mapping[str, Any] | None = None
    bars: Sequence[tuple[str, float, str]] = ()
    bins: Sequence[tuple[float, str]] = ()
    heat: Heat | None = None


def plot(spec: Any, body: Body) -> Plot | None:
    """What to draw; None for a plot of somebody's own making, whose table says what there is."""
    config = spec.get("panel_config") if isinstance(spec, dict) else None
    if not isinstance(config, dict):
        return None
    fields = config.get("fieldSettings")
    words = config.get("stringSettings")
    fields, words = fields if isinstance(fields, dict) else {}, words if isinstance(words, dict) else {}
    title = str(words.get("title") or "")
    match str(config.get("panelDefId", "")).rpartition("/")[0].rpartition("/")[2]:
        case "line":
            return _curves(title, body, fields.get("x"), fields.get("y"), fields.get("stroke"))
        case "lineseries":
            across = words.get("xname") or fields.get("step")
            return _curves(title, body, fields.get("step"), fields.get("lineVal"), fields.get("lineKey"), across=across)
        case "area-under-curve":
            across, up = words.get("x-axis-title") or fields.get("x"), words.get("y-axis-title") or fields.get("y")
            return _curves(title, body, fields.get("x"), fields.get("y"), fields.get("class"), across=across, up=up)
        case "scatter":
            return _curves(title, body, fields.get("x"), fields.get("y"), None, dots=True)
        case "bar":
            return _bars(title, body.column(fields.get("label")), body.column(fields.get("value")))
        case "histogram":
            return _binned(title, body.column(fields.get("value")))
        case "confusion_matrix":
            return _heat(title, body, fields)
    return None


def number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _curves(title: str, body: Body, x: Any, y: Any, by: Any, *, dots: bool = False, across: Any = None, up: Any = None) -> Plot | None:
    xs, ys, names = body.column(x), body.column(y), body.column(by)
    if xs is None or ys is None:
        return None
    series: dict[str, list[tuple[float, float | None]]] = {}
    for n, (a, b) in enumerate(zip(xs, ys, strict=True)):
        name = str(up or y) if names is None or names[n] is None else str(names[n])
        if (at := number(a)) is not None and (name in series or len(series) < MOST_SERIES):
            series.setdefault(name, []).append((at, number(b)))
    found = [{"name": name, "points": _fewer(some if dots else sorted(some, key=lambda one: one[0]))} for name, some in series.items()]
    return Plot(title, curves={"x": str(across or x), "y": str(up or y), "dots": dots, "series": found}) if found else None


def _fewer(points: list[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    if len(points) <= MOST_POINTS:
        return points
    last = len(points) - 1
    return [points[round(n * last / (MOST_POINTS - 1))] for n in range(MOST_POINTS)]


def _bars(title: str, labels: list[Any] | None, values: list[Any] | None) -> Plot | None:
    pairs = [(str(name), value) for name, one in zip(labels or (), values or (), strict=False) if (value := number(one)) is not None][:50]
    if not pairs:
        return None
    top = max(abs(value) for _, value in pairs) or 1
    return Plot(title, bars=[(name, 100 * abs(value) / top, fmt.number(value)) for name, value in pairs])


def _binned(title: str, values: list[Any] | None) -> Plot | None:
    known = [value for one in values or () if (value := number(one)) is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    width = (high - low) / BINS or 1
    counts = [0] * BINS
    for value in known:
        counts[min(BINS - 1, int((value - low) / width))] += 1
    return Plot(title, bins=histogram(counts, [low + width * n for n in range(BINS + 1)]))


def histogram(counts: Sequence[float], bins: Sequence[float]) -> list[tuple[float, str]]:
    """(height in percent of the highest, words) of each bar."""
    top = max(counts) or 1
    return [
        (100 * max(0, n) / top, f"{fmt.number(float(bins[i]))} to {fmt.number(float(bins[i + 1]))}: {fmt.number(n)}")
        for i, n in enumerate(counts)
    ]


def _heat(title: str, body: Body, fields: Mapping[str, Any]) -> Plot | None:
    actual, predicted, counts = (body.column(fields.get(name, name)) for name in ("Actual", "Predicted", "nPredictions"))
    if actual is None or predicted is None or counts is None:
        return None
    names = list(dict.fromkeys(str(one) for one in (*actual, *predicted)))[:30]
    cells: dict[tuple[str, str], float] = {}
    for a, b, n in zip(actual, predicted, counts, strict=True):
        cells[str(a), str(b)] = cells.get((str(a), str(b)), 0) + (number(n) or 0)
    rows = []
    for a in names:
        whole = sum(cells.get((a, b), 0) for b in names) or 1
        rows.append([(fmt.number(cells.get((a, b), 0)), min(9, int(10 * cells.get((a, b), 0) / whole))) for b in names])
    return Plot(title, heat=Heat(names, rows))
