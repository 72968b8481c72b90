"""The table of runs: what its address says, and which columns tell runs apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlencode

from drivetrain.tracking.model import Run
from drivetrain.web.views import Column

MOST_COLUMNS = 60
_LOWER_IS_BETTER = re.compile(r"loss|err|rmse|mse|mae|mape|perplexity|ppl|latency|time|duration|brier|nll|regret", re.IGNORECASE)
_BARE = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Shape:
    """How somebody looks at the runs. The address says it all, so that a link shows a colleague the same."""

    experiment: str = ""
    filter: str = ""
    sort: str = ""
    descending: bool = False
    columns: tuple[str, ...] = ()
    group: str = ""
    picked: tuple[str, ...] = ()
    token: str = ""

    def url(self) -> str:
        values: list[tuple[str, str]] = []
        for key, value in (
            ("experiment", self.experiment),
            ("filter", self.filter),
            ("sort", self.sort),
            ("dir", "desc" if self.descending else ""),
            ("group", self.group),
            ("token", self.token),
        ):
            if value:
                values.append((key, value))
        values += [("col", column) for column in self.columns] + [("pick", run) for run in self.picked]
        return "/runs" + (f"?{urlencode(values)}" if values else "")

    def sorted_by(self, key: str) -> Shape:
        """A first click sorts so that the best comes first, a second one turns it round."""
        down = not self.descending if self.sort == key else not lower_is_better(key) if key.startswith("metrics.") else key == "start_time"
        return replace(self, sort=key, descending=down, token="")

    def order_by(self) -> list[str]:
        if not self.sort:
            return []
        return [f"{quoted(self.sort)} {'DESC' if self.descending else 'ASC'}"]


def quoted(key: str) -> str:
    """A key as the grammar of filters writes it: metrics.`val/loss`."""
    entity, dot, name = key.partition(".")
    if not dot:
        return f"attributes.{key}"
    return key if _BARE.fullmatch(name) else f"{entity}.`{name}`"


def lower_is_better(key: str) -> bool:
    return _LOWER_IS_BETTER.search(key) is not None


def values_of(run: Run) -> dict[str, float | str | None]:
    values: dict[str, float | str | None] = {f"metrics.{key}": metric.value for key, metric in run.metrics.items()}
    values.update({f"params.{key}": value for key, value in run.params.items()})
    values.update({f"tags.{key}": value for key, value in run.tags.items() if not key.startswith("mlflow.")})
    return values


def columns(runs: Sequence[Run], shape: Shape) -> list[Column]:
    """Every column that these runs could have; shown are those that were asked for, else metrics, and parameters that differ."""
    seen: dict[str, set[float | str | None]] = {}
    counts: dict[str, int] = {}
    for run in runs:
        for key, value in values_of(run).items():
            seen.setdefault(key, set()).add(value)
            counts[key] = counts.get(key, 0) + 1
    keys = sorted(seen, key=lambda key: (("metrics", "params", "tags").index(key.partition(".")[0]), -counts[key], key))[:MOST_COLUMNS]
    keys += [key for key in shape.columns if key not in keys]
    if shape.columns:
        shown = set(shape.columns)
    else:
        metrics = [key for key in keys if key.startswith("metrics.") and not key.startswith("metrics.system/")][:4]
        telling = [key for key in keys if key.startswith("params.") and (len(seen[key]) > 1 or counts[key] < len(runs))][:4]
        shown = {*metrics, *(telling or [key for key in keys if key.startswith("params.")][:3])}
    return [column(key, shape, shown=key in shown) for key in keys]


def column(key: str, shape: Shape, *, shown: bool = True, label: str = "") -> Column:
    way: Literal["", "ascending", "descending"] = ""
    if shape.sort == key:
        way = "descending" if shape.descending else "ascending"
    kind, dot, name = key.partition(".")
    return Column(key, label or name, kind if dot else "attribute", shown, way, shape.sorted_by(key).url())


def best(runs: Sequence[Run], keys: Sequence[str]) -> dict[str, float]:
    """Of each metric the best value among these runs, where there is one to speak of."""
    found: dict[str, float] = {}
    for key in keys:
        name = key.partition(".")[2]
        values = [run.metrics[name].value for run in runs if name in run.metrics and math.isfinite(run.metrics[name].value)]
        if len(set(values)) > 1:
            found[key] = min(values) if lower_is_better(name) else max(values)
    return found


def differing(run: Run, neighbours: Sequence[Run]) -> set[str]:
    """The parameters in which a run differs from some of its neighbours that have them."""
    others: dict[str, set[str]] = {}
    for other in neighbours:
        if other.id != run.id:
            for key, value in other.params.items():
                others.setdefault(key, set()).add(value)
    return {key for key, value in run.params.items() if others.get(key, {value}) != {value}}


def groups(rows: Sequence[Run], key: str, names: Mapping[str, str]) -> dict[str, list[Run]]:
    """Runs by what `key` says of them, in the order of their first."""
    found: dict[str, list[Run]] = {}
    for run in rows:
        value = names.get(run.experiment_id, run.experiment_id) if key == "experiment" else values_of(run).get(key)
        found.setdefault("(none)" if value is None else str(value), []).append(run)
    return found
