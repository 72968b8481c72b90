"""Values within JSON: typed, nested, found by a dotted key.

Numbers compare with numbers, texts with texts, true, false and null are equal to themselves alone. A list meets what one of its elements
meets. `a.b` is `b` within `a`, or the key `a.b`; an end of `.value` may be left out, as wandb's config is written with and without it.
SQLite is asked with its JSON functions, PostgreSQL with a JSON path.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from drivetrain.errors import Invalid
from drivetrain.search.conditions import Condition, Scalar
from drivetrain.search.sql import Bool, Expr, Source, compare, rows
from drivetrain.store.sql import INT64

NUMBER = r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?"
"""Texts that are numbers: as JSON writes them."""
_PATTERN = "RLIKE"
_EQUAL = ("=", "IN")
_WORDS = {True: "True", False: "False", None: "None"}


@dataclass(frozen=True, slots=True)
class Document:
    """JSON objects in the column `text` of those rows of `table` that the `link` names. What an object does not have may be found
    `beside` it."""

    table: sa.FromClause
    link: Bool
    text: Expr
    beside: Source

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        there = replace(condition, op="IS NOT NULL")
        match condition.op:
            case "IS NULL":
                return ~self._met(there, sqlite)
            case "!=":
                return sa.and_(self._met(there, sqlite), ~self._met(replace(condition, op="="), sqlite))
            case "NOT IN":
                return sa.and_(self._met(there, sqlite), ~self._met(replace(condition, op="IN"), sqlite))
        return self._met(condition, sqlite)

    def _met(self, condition: Condition, sqlite: bool) -> Bool:
        table, places = self._places(condition.key, sqlite)
        within = rows(table, self.link, sa.or_(*(place.meets(condition) for place in places))).exists()
        said = rows(table, self.link, sa.or_(*(place.there() for place in places))).exists()
        others = [self.beside.meets(replace(condition, key=key), sqlite=sqlite) for key in _spellings(condition.key)]
        return sa.or_(within, sa.and_(sa.or_(*others), ~said))  # first what is found by an index

    def _places(self, key: str, sqlite: bool) -> tuple[sa.FromClause, Sequence[_InSqlite | _InPostgres]]:
        if sqlite:  # which remembers what it has read of a text
            return self.table, [_in_sqlite(self.text, path) for path in _paths(key)]
        # A subquery with an offset is not taken apart: the text is read once.
        read = sa.select(sa.cast(self.text, JSONB).label("json")).correlate(self.table).offset(0).lateral("document")
        return self.table.join(read, sa.true()), [_in_postgres(read.c.json, path) for path in _paths(key)]


@dataclass(frozen=True, slots=True)
class OnlyNumbers:
    """Another source, whose values are all numbers: what is no number is different from each."""

    source: Source

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        if condition.op == "IS NOT NULL":
            return self.source.meets(condition, sqlite=sqlite)
        numbers = _Wanted.of(condition).numbers
        if not numbers or condition.op == _PATTERN:
            return sa.false()
        value = tuple(map(_in_range, numbers)) if condition.op == "IN" else _in_range(numbers[0])
        return self.source.meets(replace(condition, value=value), sqlite=sqlite)


@dataclass(frozen=True, slots=True)
class Spelled:
    """Rows of key and text that stand for JSON's values: True, False and None, and numbers as JSON writes them; else for themselves."""

    table: sa.Table
    owner: Expr
    subject: Expr

    def meets(self, condition: Condition, *, sqlite: bool) -> Bool:
        mine = rows(self.table, self.owner == self.subject, self.table.c.key == condition.key)
        if condition.op == "IS NOT NULL":
            return mine.exists()
        value, wanted = self.table.c.value, _Wanted.of(condition)
        is_number = compare(value, Condition("", "", _PATTERN, f"^{NUMBER}$"), sqlite=sqlite)
        met: list[Bool] = [sa.false()]
        if wanted.texts:
            met.append(sa.and_(wanted.of_text(value, sqlite), value.not_in(list(_WORDS.values())), ~is_number))
        if wanted.words:
            met.append(value.in_([_WORDS[word] for word in wanted.words]))
        if wanted.numbers:
            number = wanted.of_number(sa.cast(value, sa.REAL if sqlite else sa.Numeric), sqlite)
            # SQLite makes a number of any text, and asks Python for patterns; PostgreSQL fails at what is none.
            met.append(sa.and_(number, is_number) if sqlite else sa.case((is_number, number), else_=sa.false()))
        return mine.where(sa.or_(*met)).exists()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The values of a condition by their kinds."""

    op: str
    numbers: list[int | float]
    texts: list[str]
    words: list[bool | None]

    @classmethod
    def of(cls, condition: Condition) -> _Wanted:
        values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        numbers = [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]
        words = [one for one in values if one is None or isinstance(one, bool)]
        return cls(condition.op, numbers, [one for one in values if isinstance(one, str)], words if condition.op in _EQUAL else [])

    def of_text(self, value: Expr, sqlite: bool) -> Bool:
        single = Condition("", "", self.op, self.texts[0])
        return value.in_(self.texts) if self.op in _EQUAL else compare(value, single, sqlite=sqlite)

    def of_number(self, value: Expr, sqlite: bool) -> Bool:
        """As both databases hold numbers in JSON: SQLite as doubles, PostgreSQL exactly."""
        numbers = [_in_range(one) if sqlite else Decimal(_json(one)) for one in self.numbers]
        return value.in_(numbers) if self.op in _EQUAL else value.op(self.op, is_comparison=True)(numbers[0])


def _spellings(key: str) -> dict[str, None]:
    return dict.fromkeys((key, key.removesuffix(".value")))


def _paths(key: str) -> Iterator[tuple[str, ...]]:
    if '"' in key:
        raise Invalid(f"The key {key[:60]!r} has a quote in it: it cannot be searched by.", param="filter")
    for name in _spellings(key):
        yield (name,)
        if "." in name:
            yield tuple(name.split("."))


def _in_range(value: float) -> int | float:
    return float(value) if isinstance(value, int) and not -INT64 <= value < INT64 else value


def _json(value: Scalar) -> str:
    """As databases read it: they know no Infinity."""
    return json.dumps(value) if not isinstance(value, float) or math.isfinite(value) else "1e999" if value > 0 else "-1e999"


@dataclass(frozen=True, slots=True)
class _InSqlite:
    kind: Expr
    value: Expr
    elements: Any

    def meets(self, condition: Condition) -> Bool:
        if condition.op == "IS NOT NULL":
            return self.there()
        wanted, one = _Wanted.of(condition), self.elements
        within = rows(one, self._of_kind(one.c.type, one.c.value, wanted)).exists()
        return sa.or_(self._of_kind(self.kind, self.value, wanted), sa.and_(self.kind == "array", within))

    def there(self) -> Bool:
        return self.kind.is_not(None)

    def _of_kind(self, kind: Expr, value: Expr, wanted: _Wanted) -> Bool:
        met: list[Bool] = [sa.false()]
        if wanted.texts:
            met.append(sa.and_(kind == "text", wanted.of_text(value, True)))
        if wanted.words:
            met.append(kind.in_([json.dumps(word) for word in wanted.words]))
        if wanted.numbers:
            met.append(sa.and_(kind.in_(["integer", "real"]), wanted.of_number(value, True)))
        return sa.or_(*met)


def _in_sqlite(text: Expr, path: tuple[str, ...]) -> _InSqlite:
    # Labels are compared with the text as it is written, where letters beyond ASCII are escaped.
    where = "$" + "".join(f'."{json.dumps(part)[1:-1]}"' for part in path)
    elements = sa.func.json_each(text, where).table_valued("type", "value", name="element")
    return _InSqlite(sa.func.json_type(text, where), sa.func.json_extract(text, where), elements)


@dataclass(frozen=True, slots=True)
class _InPostgres:
    value: Expr

    def meets(self, condition: Condition) -> Bool:
        if condition.op == "IS NOT NULL":
            return self.there()
        if condition.op == _PATTERN:
            path = sa.cast(sa.literal("$[*]"), JSONPATH)  # of what is no list, itself
            found = sa.func.jsonb_path_query(self.value, path).table_valued(sa.column("value", JSONB), name="element")
            one = found.render_derived()
            # As text without its quotes.
            string = one.c.value.op("#>>", return_type=sa.Text())(sa.cast(sa.literal("{}"), sa.ARRAY(sa.Text)))
            return rows(one, sa.func.jsonb_typeof(one.c.value) == "string", compare(string, condition, sqlite=False)).exists()
        # Lists are opened by themselves; what is of another kind compares with nothing.
        path = sa.cast(sa.literal(f"$ ? (@ {'==' if condition.op in _EQUAL else condition.op} $x[*])"), JSONPATH)
        values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        wanted = sa.cast(sa.literal(f'{{"x": [{", ".join(map(_json, values))}]}}'), JSONB)
        return sa.func.jsonb_path_exists(self.value, path, wanted, type_=sa.Boolean)

    def there(self) -> Bool:
        return self.value.is_not(None)


def _in_postgres(value: Expr, path: tuple[str, ...]) -> _InPostgres:
    for part in path:
        value = value.op("->", return_type=JSONB())(sa.cast(sa.literal(part), sa.Text))
    return _InPostgres(value)
