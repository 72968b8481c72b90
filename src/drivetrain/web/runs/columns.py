"""The table of runs: which columns tell runs apart, and what stands in their rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from drivetrain.store.ids import now_ms
from drivetrain.tags import LABEL
from drivetrain.tracking.model import Run
from drivetrain.web.format import DASH, number
from drivetrain.web.runs.shape import ORDERED, Shape, lower_is_better, toggled
from drivetrain.web.runs.views import Column, RunRow
from drivetrain.web.views import State

MOST_COLUMNS = 200
SYSTEM = "metrics.system/"
KINDS = ("metrics", "params", "tags")
# The columns of the runs themselves, and which of them are shown unless somebody chooses.
OWN = {
    "status": "State",
    "start_time": "Started",
    "duration": "Took",
    "experiment": "Experiment",
    "user_id": "User",
    "end_time": "Ended",
    "labels": "Tags",
    "source": "Source",
    "commit": "Commit",
    "run_id": "Id",
}
USUAL = ("status", "start_time", "duration", "experiment")
_STATES = {
    "RUNNING": State("Running", "busy"),
    "SCHEDULED": State("Scheduled", "idle"),
    "FINISHED": State("Finished", "good"),
    "FAILED": State("Failed", "bad"),
    "KILLED": State("Killed", "warn"),
}


def state(run: Run) -> State:
    return _STATES.get(run.status, State(run.status.capitalize(), "idle"))


def duration(run: Run) -> float | None:
    if run.end_ms:
        return float(run.end_ms - run.start_ms)
    return float(now_ms() - run.start_ms) if run.status == "RUNNING" else None


def labels(run: Run) -> list[str]:
    """Tags as one reads them: wandb's have no value."""
    told = [(key, value) for key, value in sorted(run.tags.items()) if not key.startswith("mlflow.")]
    return [key.removeprefix(LABEL) if key.startswith(LABEL) or not value else f"{key}: {value}" for key, value in told]


def row(run: Run, names: Mapping[str, str], shape: Shape) -> RunRow:
    return RunRow(
        id=run.id,
        name=run.name,
        experiment=names.get(run.experiment_id, run.experiment_id),
        experiment_id=run.experiment_id,
        state=state(run),
        user=run.user,
        started_ms=run.start_ms,
        ended_ms=run.end_ms,
        duration_ms=duration(run),
        source=run.source or "",
        commit=run.git_commit or "",
        labels=labels(run),
        values=values_of(run),
        picked=run.id in shape.picked,
        pinned=run.id in shape.pinned,
        pin_url=replace(shape, pinned=toggled(shape.pinned, run.id)).url(),
    )


def brief(value: float | str | None) -> str:
    """A value for a narrow cell: a number that is long as text has as many digits as tell something."""
    if not isinstance(value, str) or len(value) < 9:
        return number(value) if isinstance(value, float) else value or DASH
    try:
        known = float(value)
    except ValueError:
        return value
    return number(known) if math.isfinite(known) and not known.is_integer() else value


def values_of(run: Run) -> dict[str, float | str | None]:
    values: dict[str, float | str | None] = {f"metrics.{key}": metric.value for key, metric in run.metrics.items()}
    values.update({f"params.{key}": value for key, value in run.params.items()})
    values.update({f"tags.{key}": value for key, value in run.tags.items() if not key.startswith(("mlflow.", LABEL))})
    return values


def columns(rows: Sequence[RunRow], shape: Shape) -> list[Column]:
    """Every column that these runs could have; shown are those that were asked for, else metrics, and parameters that differ."""
    seen: dict[str, set[float | str | None]] = {}
    counts: dict[str, int] = {}
    for one in rows:
        for key, value in one.values.items():
            seen.setdefault(key, set()).add(value)
            counts[key] = counts.get(key, 0) + 1
    keys = sorted(
        seen, key=lambda key: (("metrics", "params", "tags").index(key.partition(".")[0]), key.startswith(SYSTEM), -counts[key], key)
    )
    keys = keys[:MOST_COLUMNS]
    keys += [key for key in shape.columns if key not in keys and key.partition(".")[0] in ("metrics", "params", "tags") and "." in key]
    if shape.columns:
        shown = set(shape.columns)
    else:
        metrics = [key for key in keys if key.startswith("metrics.") and not key.startswith(SYSTEM)][:4]
        telling = [key for key in keys if key.startswith("params.") and (len(seen[key]) > 1 or counts[key] < len(rows))][:4]
        shown = {*metrics, *(telling or [key for key in keys if key.startswith("params.")][:3])}
        shown |= {key for key in USUAL if key != "experiment" or not shape.experiment}
    # A metric and a parameter may have one name: then both say what they are.
    names = Counter(key.partition(".")[2] for key in keys if key in shown)
    found = []
    for key in (*OWN, *keys):
        kind, _, name = key.partition(".")
        found.append(column(key, shape, shown=key in shown, label=f"{name}, {kind.removesuffix('s')}" if names[name] > 1 else ""))
    return found


def column(key: str, shape: Shape, *, shown: bool = True, label: str = "") -> Column:
    way: Literal["", "ascending", "descending"] = ""
    if shape.sort == key:
        way = "descending" if shape.descending else "ascending"
    kind, dot, name = key.partition(".")
    url = shape.sorted_by(key).url() if dot or key in ORDERED or key in ("value", "runs") else ""
    wide = key in ("duration", "experiment") and not shape.columns
    return Column(key, label or OWN.get(key) or name or key, kind if dot else "attribute", shown, way, url, wide)


def best(rows: Sequence[RunRow], keys: Sequence[str]) -> dict[str, float]:
    """Of each metric the best value among these runs, where there is one to speak of."""
    found: dict[str, float] = {}
    for key in keys:
        values = [value for one in rows if isinstance(value := one.values.get(key), float) and math.isfinite(value)]
        if len(set(values)) > 1:
            found[key] = min(values) if lower_is_better(key.partition(".")[2]) else max(values)
    return found


def differing(run: Run, neighbours: Sequence[Run]) -> set[str]:
    """The parameters in which a run differs from some of its neighbours that have them."""
    others: dict[str, set[str]] = {}
    for other in neighbours:
        if other.id != run.id:
            for key, value in other.params.items():
                others.setdefault(key, set()).add(value)
    return {key for key, value in run.params.items() if others.get(key, {value}) != {value}}
