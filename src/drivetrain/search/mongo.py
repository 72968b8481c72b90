"""Filters in Mongo's manner, as wandb's public API writes them: `{"$or": [{"state": "running"}, {"config.lr": {"$gt": 0.1}}]}`.

What each operator means of what is missing is spelled out here: `$ne`, `$nin` and `$not` are met by it, all others are not, and a wanted
null means null or missing. Values of different kinds are different, and compare with none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from drivetrain.errors import Invalid
from drivetrain.search.conditions import And, Condition, Kind, Node, Not, Or, Scalar
from drivetrain.search.grammar import MAX_CONDITIONS, MAX_LIST
from drivetrain.store import patterns

MAX_DEPTH = 20
Keys = Callable[[str], tuple[str, str, Kind]]
"""A key of a filter → (entity, key, kind of its values). Raises `Invalid` for others."""
NOTHING, ALL = Or(), And()
_COMPARED = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
OPERATORS = ("$eq", "$exists", "$gt", "$gte", "$in", "$lt", "$lte", "$ne", "$nin", "$not", "$regex")


def parse(wanted: Any, keys: Keys) -> Node:
    """Raises `Invalid` that says what would be right."""
    return _Reader(keys).filter(wanted, 0)


class _Reader:
    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.conditions = 0
        self.listed = 0

    def filter(self, wanted: Any, depth: int) -> Node:
        if not isinstance(wanted, Mapping) or depth > MAX_DEPTH:
            raise _wrong(f"A filter is a JSON object, nested at most {MAX_DEPTH} deep.")
        return And([self.clause(str(key), value, depth) for key, value in wanted.items()])

    def clause(self, key: str, value: Any, depth: int) -> Node:
        if key in ("$and", "$or", "$nor"):
            if not isinstance(value, list):
                raise _wrong(f"{key} takes a list of filters.")
            parts = [self.filter(part, depth + 1) for part in value]
            if key == "$and":
                return And(parts)
            return Not(Or(parts)) if key == "$nor" else Or(parts) if parts else ALL
        if key == "$not":
            return Not(self.filter(value, depth + 1))
        if key.startswith("$"):
            raise _wrong(f"{key!r} is no operator of filters here.")
        return self.field(key, value, depth)

    def field(self, key: str, wanted: Any, depth: int) -> Node:
        entity, name, kind = self.keys(key)
        if not isinstance(wanted, Mapping):
            return self.equal(entity, name, kind, wanted)
        if depth > MAX_DEPTH:
            raise _wrong(f"A filter is nested at most {MAX_DEPTH} deep.")
        if not wanted or not all(str(op).startswith("$") for op in wanted):
            raise _wrong(f"{key!r} is compared with an object, which is not understood: name the keys within it, as {key}.<key>.")
        return And([self.operator(key, (entity, name, kind), str(op), value, depth) for op, value in wanted.items()])

    def operator(self, key: str, field: tuple[str, str, Kind], op: str, value: Any, depth: int) -> Node:
        entity, name, kind = field
        match op:
            case "$eq":
                return self.equal(*field, value)
            case "$ne":
                return Not(self.equal(*field, value))
            case "$in" | "$nin":
                if not isinstance(value, list):
                    raise _wrong(f"{op} takes a list.")
                found = self.one_of(*field, value)
                return found if op == "$in" else Not(found)
            case "$not":
                return Not(self.field(key, value, depth + 1))
            case "$exists":
                return self.condition(Condition(entity, name, "IS NOT NULL" if value else "IS NULL"))
            case "$regex":
                if not isinstance(value, str):
                    raise _wrong("$regex takes a pattern as a text.")
                patterns.in_postgres(value)
                return self.condition(Condition(entity, name, "RLIKE", value))
            case "$gt" | "$gte" | "$lt" | "$lte":
                value = _scalar(value)
                comparable = isinstance(value, str) or (
                    kind == "any" and not isinstance(value, bool) and value is not None and value == value
                )
                return self.condition(Condition(entity, name, _COMPARED[op], value)) if comparable else NOTHING
        raise _wrong(f"{op!r} is no operator of filters here: use one of {', '.join(OPERATORS)}.")

    def equal(self, entity: str, name: str, kind: Kind, wanted: Any) -> Node:
        return self.one_of(entity, name, kind, [wanted])

    def one_of(self, entity: str, name: str, kind: Kind, wanted: list[Any]) -> Node:
        self.listed += len(wanted)
        if self.listed > MAX_LIST:
            raise _wrong(f"Its lists hold more than {MAX_LIST} values: search in several steps.")
        given = [one for one in map(_scalar, wanted) if one == one]  # NaN is equal to nothing
        values = tuple(dict.fromkeys((type(one), one) for one in given if isinstance(one, str) or (kind == "any" and one is not None)))
        found: list[Node] = []
        if len(values) == 1:
            found.append(self.condition(Condition(entity, name, "=", values[0][1])))
        elif values:
            found.append(self.condition(Condition(entity, name, "IN", tuple(one for _, one in values))))
        if None in given:
            found.append(self.condition(Condition(entity, name, "IS NULL")))
            if kind == "any":
                found.append(self.condition(Condition(entity, name, "=", None)))
        return found[0] if len(found) == 1 else Or(found)

    def condition(self, condition: Condition) -> Condition:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise _wrong(f"It has more than {MAX_CONDITIONS} conditions: search in several steps.")
        return condition


def _scalar(value: Any) -> Scalar:
    if isinstance(value, (list, Mapping)):
        raise _wrong("A list or an object is no value to compare with: use $in for one of several, and name the keys within an object.")
    if isinstance(value, str) and "\x00" in value:
        raise _wrong("A text in it contains a NUL character.")
    found: Scalar = value
    return found


def _wrong(why: str) -> Invalid:
    return Invalid(why, param="filters")
