"""Searches done the slow and obvious way: what a condition means, written without our parser and without SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

NUMBER_OPS = ("=", "!=", ">", ">=", "<", "<=")
LIKE_OPS = ("LIKE", "ILIKE")
LIST_OPS = ("IN", "NOT IN")
NULL_OPS = ("IS NULL", "IS NOT NULL")


@dataclass(frozen=True)
class Clause:
    """What a condition says (`entity`, `key`, `op`, `value`) and how it is written."""

    entity: str
    key: str
    op: str
    value: Any
    text: str


@dataclass(frozen=True)
class Field:
    """A key to search by. `names` are its spellings; `ops` the operators it takes; `values` what to compare it with."""

    entity: str
    key: str
    names: Sequence[str]
    ops: Sequence[str]
    values: Sequence[Any]
    patterns: str = "aAbB%_*?[]\\"

    def clauses(self) -> st.SearchStrategy[Clause]:
        names, spaces = st.sampled_from(list(self.names)), st.sampled_from(["", " ", "  "])

        def of(op: str) -> st.SearchStrategy[Clause]:
            if op in NULL_OPS:
                return names.map(lambda name: Clause(self.entity, self.key, op, None, f"{name} {op}"))
            if op in LIST_OPS:
                some = st.lists(st.sampled_from(list(self.values)), min_size=1, max_size=3)
                listed = st.tuples(names, some, spaces)
                return listed.map(
                    lambda t: Clause(self.entity, self.key, op, t[1], f"{t[0]} {op} ({f',{t[2]}'.join(quoted(v) for v in t[1])})")
                )
            if op in LIKE_OPS:
                words = st.tuples(names, st.text(self.patterns, max_size=4) | st.sampled_from([v for v in self.values if "'" not in v]))
                return words.map(lambda t: Clause(self.entity, self.key, op, t[1], f"{t[0]} {op} {quoted(t[1])}"))
            plain = st.tuples(names, st.sampled_from(list(self.values)), spaces)
            return plain.map(lambda t: Clause(self.entity, self.key, op, t[1], f"{t[0]}{t[2]}{op}{t[2]}{quoted(t[1])}"))

        return st.sampled_from(list(self.ops)).flatmap(of)

    def orders(self) -> st.SearchStrategy[tuple[str, str, bool, str]]:
        """(entity, key, ascending, how it is written)."""
        ways = st.sampled_from([("", True), (" ASC", True), (" DESC", False)])
        return st.tuples(st.sampled_from(list(self.names)), ways).map(lambda t: (self.entity, self.key, t[1][1], t[0] + t[1][0]))


def quoted(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "1e400" if value == math.inf else str(value)


def filters(fields: Sequence[Field]) -> st.SearchStrategy[list[Clause]]:
    return st.lists(st.one_of([field.clauses() for field in fields]), max_size=3)


def written(clauses: Sequence[Clause]) -> str:
    return " AND ".join(clause.text for clause in clauses)


def like(pattern: str, text: str, *, fold: bool) -> bool:
    expression = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(expression, text, re.DOTALL | (re.IGNORECASE if fold else 0)) is not None


def holds(value: Any, op: str, wanted: Any) -> bool:
    """Whether `value` op `wanted`; what is not there (None) meets nothing but IS NULL."""
    if op == "IS NULL":
        return value is None
    if op == "IS NOT NULL":
        return value is not None
    if value is None:
        return False
    match op:
        case "=":
            return bool(value == wanted)
        case "!=":
            return bool(value != wanted)
        case ">":
            return bool(value > wanted)
        case ">=":
            return bool(value >= wanted)
        case "<":
            return bool(value < wanted)
        case "<=":
            return bool(value <= wanted)
        case "LIKE":
            return like(wanted, value, fold=False)
        case "ILIKE":
            return like(wanted, value, fold=True)
        case "IN":
            return value in wanted
        case _:
            assert op == "NOT IN"
            return value not in wanted


def ordered(
    items: Sequence[T], orders: Sequence[tuple[str, str, bool, str]], value: Callable[[T, str, str], Any], *, default: Sequence[T]
) -> list[T]:
    """`items` in that order, ties as in `default`; what lacks the key comes last, NaN before it."""
    found = [item for item in default if item in items]
    seen: set[tuple[str, str]] = set()
    kept = [order for order in orders if (order[0], order[1]) not in seen and not seen.add((order[0], order[1]))]  # type: ignore[func-returns-value]
    for entity, key, ascending, _ in reversed(kept):
        values = [(value(item, entity, key), item) for item in found]
        has = [pair for pair in values if pair[0] is not None and pair[0] == pair[0]]
        nans = [item for v, item in values if v is not None and v != v]
        has.sort(key=lambda pair: pair[0], reverse=not ascending)
        found = [item for _, item in has] + nans + [item for v, item in values if v is None]
    return found
