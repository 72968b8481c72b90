"""What the address of the table of runs says: which runs, in which order, how they are shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

LOWER_IS_BETTER = re.compile(r"loss|err|rmse|mse|mae|mape|perplexity|ppl|latency|time|duration|brier|nll|regret", re.IGNORECASE)
_BARE = re.compile(r"[A-Za-z0-9_]+")
_WORDS = re.compile(r"[^=<>!'\"`()]+")
_GRAMMAR = re.compile(r"\b(AND|OR|IN|IS|NOT|LIKE|ILIKE)\b", re.IGNORECASE)
# Columns of the runs themselves that have an order, by the key that the grammar orders by.
ORDERED = {
    "run_name": "attributes.run_name",
    "status": "attributes.status",
    "start_time": "attributes.start_time",
    "end_time": "attributes.end_time",
    "user_id": "attributes.user_id",
    "run_id": "attributes.run_id",
    "source": "tags.`mlflow.source.name`",
    "commit": "tags.`mlflow.source.git.commit`",
}
GROUPED = {"experiment": "experiment", "status": "attributes.status", "user_id": "attributes.user_id", "commit": ORDERED["commit"]}
MANY = ("col", "pick", "pin", "open")


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
    pinned: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    view: str = ""
    token: str = ""

    def pairs(self) -> list[tuple[str, str]]:
        values = [
            (key, value)
            for key, value in (
                ("view", self.view),
                ("experiment", self.experiment),
                ("filter", self.filter),
                ("sort", self.sort),
                ("dir", "desc" if self.descending else ""),
                ("group", self.group),
                ("token", self.token),
            )
            if value
        ]
        for key, some in zip(MANY, (self.columns, self.picked, self.pinned, self.opened), strict=True):
            values += [(key, value) for value in some]
        return values

    def url(self, path: str = "/runs") -> str:
        values = self.pairs()
        return path + (f"?{urlencode(values)}" if values else "")

    def kept(self) -> str:
        """What a saved view keeps: everything but the page's place, its own name, and what is open."""
        return urlencode(replace(self, view="", token="", opened=()).pairs())

    def sorted_by(self, key: str) -> Shape:
        """A first click sorts so that the best comes first, a second one turns it round."""
        down = not self.descending if self.sort == key else not lower_is_better(key) if key.startswith("metrics.") else key in LATEST_FIRST
        return replace(self, sort=key, descending=down, token="")

    def order_by(self) -> list[str]:
        key = ORDERED.get(self.sort) or (quoted(self.sort) if "." in self.sort else "")
        return [f"{key} {'DESC' if self.descending else 'ASC'}"] if key else []

    def condition(self) -> str:
        """The filter in the grammar. Words without an operator are looked for in the names of runs."""
        if not self.filter or not _WORDS.fullmatch(self.filter) or _GRAMMAR.search(self.filter):
            return self.filter
        return f"attributes.run_name ILIKE '%{self.filter}%'"

    def by(self) -> str:
        """What the runs are grouped by, as the verb calls it."""
        return GROUPED.get(self.group) or quoted(self.group)

    def within(self, value: str | None) -> Shape:
        """The runs of one group, no longer grouped."""
        plain = replace(self, group="", opened=(), token="", sort=self.sort if "." in self.sort else "")
        if self.group == "experiment":
            return replace(plain, experiment=value or "")
        told = f"{self.by()} IS NULL" if value is None else f"{self.by()} = {literal(value)}"
        return replace(plain, filter=f"{self.condition()} and {told}" if self.filter else told)


LATEST_FIRST = ("start_time", "end_time", "runs")


def of_query(query: str) -> Shape:
    """The shape that a saved view kept."""
    one: dict[str, str] = {}
    many: dict[str, list[str]] = {key: [] for key in MANY}
    for key, value in parse_qsl(query):
        if key in many:
            many[key].append(value)
        else:
            one[key] = value
    return Shape(
        experiment=one.get("experiment", ""),
        filter=one.get("filter", ""),
        sort=one.get("sort", ""),
        descending=one.get("dir") == "desc",
        columns=tuple(many["col"]),
        group=one.get("group", ""),
        picked=tuple(many["pick"]),
        pinned=tuple(many["pin"]),
    )


def toggled(some: Sequence[str], one: str) -> tuple[str, ...]:
    return tuple(it for it in some if it != one) if one in some else (*some, one)


def literal(text: str) -> str:
    """A string as the grammar of filters writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted(key: str) -> str:
    """A key as the grammar of filters writes it: metrics.`val/loss`."""
    entity, dot, name = key.partition(".")
    if not dot:
        return f"attributes.{key}"
    return key if _BARE.fullmatch(name) else f"{entity}.`{name}`"


def lower_is_better(key: str) -> bool:
    return LOWER_IS_BETTER.search(key) is not None
