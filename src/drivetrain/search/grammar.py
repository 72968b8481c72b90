"""The search grammar: `metrics.acc > 0.9 AND tags."team name" = 'vision'`. Text to conditions; no database here.

    filter    = condition { AND condition }
    condition = [entity "."] key ( op value | [NOT] IN "(" string { "," string } ")" | IS [NOT] NULL )
    op        = "=" | "!=" | ">" | ">=" | "<" | "<=" | LIKE | ILIKE

Keys with odd characters stand in backticks or double quotes, strings in single or double quotes (a quote within is doubled), numbers bare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from drivetrain.errors import Invalid
from drivetrain.search.conditions import Condition, Kind, Order, Value

NUMBER_OPS = ("=", "!=", ">", ">=", "<", "<=")
STRING_OPS = ("=", "!=", "LIKE", "ILIKE")
LIST_OPS = ("IN", "NOT IN")
NULL_OPS = ("IS NULL", "IS NOT NULL")
PATTERN_OPS = ("RLIKE",)

# What databases take in one statement, and people write, is far below.
MAX_TEXT = 1 << 20
MAX_CONDITIONS = 200
MAX_LIST = 10_000
MAX_PATTERN = 10_000
MAX_ORDERS = 20


@dataclass(frozen=True, slots=True)
class Language:
    """What one kind of search understands.

    `entities` maps each spelling to its canonical name; entities in `maps` take any key, with values of that kind, and the operators
    in `nullable` may also be asked for being there. `fields` are the keys of the other entities: spelling → (canonical, kind).
    A bare key belongs to the entity `attribute`. `lists` are the canonical fields that take IN; None: all strings. `lists_of` are the
    entities in `maps` that take it. `patterns`: strings may be compared with a regular expression. Values of the kind `any` are numbers
    or strings.
    """

    what: str
    entities: Mapping[str, str]
    maps: Mapping[str, Kind]
    fields: Mapping[str, Mapping[str, tuple[str, Kind]]]
    nullable: frozenset[str] = frozenset({"tag", "param"})
    lists: frozenset[str] | None = None
    lists_of: frozenset[str] = frozenset()
    patterns: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["word", "string", "number", "op", "(", ")", ","]
    text: str
    entity: str | None = None  # of a word with a quoted key: what stood before the quote
    quote: str = ""


_SPACE = re.compile(r"\s*")
_OP = re.compile(r"!=|>=|<=|=|>|<")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])", re.ASCII)
_PREFIX = re.compile(r"(\w+)\.(?=[`\"])")
_WORD = re.compile(r"[^\s'\"`()<>=!,]+")
_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "RLIKE"})


def parse_filter(text: str | None, language: Language) -> list[Condition]:
    """Raises `Invalid` that says where and what would be right."""
    if text is None or not text.strip():
        return []
    if "\x00" in text:
        raise _wrong("it contains a NUL character")
    if len(text) > MAX_TEXT:
        raise _wrong(f"it has {len(text)} characters, {MAX_TEXT} are the most; search in several steps")
    return _Parser(text, language).conditions()


def parse_order(items: Sequence[str], language: Language) -> list[Order]:
    """Each item is `[entity.]key [ASC|DESC]`."""
    orders: list[Order] = []
    for item in items:
        if "\x00" in item:
            raise _wrong("it contains a NUL character", "order_by")
        found = re.fullmatch(r"\s*(.+?)(?:\s+(ASC|DESC))?\s*", item, re.IGNORECASE | re.DOTALL)
        if found is None:
            raise Invalid(f"An item of order_by is empty. {_order_help(language)}", param="order_by")
        tokens = _tokens(found[1], "order_by")
        if len(tokens) != 1 or not (tokens[0].kind == "word" or (tokens[0].kind == "string" and tokens[0].quote == '"')):
            raise Invalid(f"{item!r} is not a key to order by. {_order_help(language)}", param="order_by")
        entity, key, _ = _identifier(tokens[0], language, "order_by")
        order = Order(entity, key, (found[2] or "ASC").upper() == "ASC")
        if all((o.entity, o.key) != (entity, key) for o in orders):
            orders.append(order)
    if len(orders) > MAX_ORDERS:
        raise _wrong(f"it has {len(orders)} keys, {MAX_ORDERS} are the most", "order_by")
    return orders


class _Parser:
    def __init__(self, text: str, language: Language) -> None:
        self.language = language
        self.tokens = _tokens(text, "filter")
        self.at = 0
        self.listed = 0  # values in all lists

    def conditions(self) -> list[Condition]:
        found = [self.condition()]
        while (token := self.peek()) is not None:
            if not self.keyword("AND"):
                if token.kind == "word" and token.text.upper() == "OR":
                    raise _wrong("OR is not understood: conditions are joined with AND only; run one search for each side")
                raise _wrong(f"AND was expected before {token.text!r}")
            found.append(self.condition())
            if len(found) > MAX_CONDITIONS:
                raise _wrong(f"it has more than {MAX_CONDITIONS} conditions: search in several steps")
        return found

    def condition(self) -> Condition:
        token = self.take("a key, as metrics.accuracy")
        if token.kind == "(":
            raise _wrong("parentheses are only for lists after IN: write the conditions one after the other, joined with AND")
        if token.kind not in ("word", "string") or (token.kind == "string" and token.quote == "'"):
            raise _wrong(f"a key was expected, as metrics.accuracy, instead of {token.text!r}")
        entity, key, kind = _identifier(token, self.language, "filter")
        if self.keyword("IS"):
            op = "IS NOT NULL" if self.keyword("NOT") else "IS NULL"
            if not self.keyword("NULL"):
                raise _wrong(f"NULL was expected after {op.removesuffix(' NULL')}")
            return self.checked(Condition(entity, key, op), kind)
        if self.keyword("NOT"):
            if not self.keyword("IN"):
                raise _wrong("IN was expected after NOT")
            return self.checked(Condition(entity, key, "NOT IN", self.strings()), kind)
        if self.keyword("IN"):
            return self.checked(Condition(entity, key, "IN", self.strings()), kind)
        token = self.take(f"an operator after {key!r}")
        op = token.text.upper()
        if token.kind != "op" and op not in ("LIKE", "ILIKE", "RLIKE"):
            raise _wrong(f"an operator was expected after {key!r} instead of {token.text!r}")
        value = self.take(f"a value after {op}")
        if op.endswith("LIKE") and len(value.text) > MAX_PATTERN:
            raise _wrong(f"a pattern has at most {MAX_PATTERN} characters")
        return self.checked(Condition(entity, key, op, _value(value, kind, entity, key, op)), kind)

    def checked(self, condition: Condition, kind: Kind) -> Condition:
        entity, key, language = condition.entity, condition.key, self.language
        allowed: tuple[str, ...] = STRING_OPS if kind == "string" else NUMBER_OPS if kind == "number" else (*NUMBER_OPS, "LIKE", "ILIKE")
        if language.patterns and kind != "number":
            allowed += PATTERN_OPS
        if entity in language.maps:
            if kind != "number" and entity in language.nullable:
                allowed += NULL_OPS
            if entity in language.lists_of:
                allowed += LIST_OPS
        elif kind == "string" and (language.lists is None or key in language.lists):
            allowed += LIST_OPS
        if condition.op not in allowed:
            raise _wrong(f"{condition.op} does not compare {_named(entity, key)}: use one of {', '.join(allowed)}")
        return condition

    def strings(self) -> tuple[str, ...]:
        if self.take("a list, as ('a', 'b')").kind != "(":
            raise _wrong("a list was expected after IN, as ('a', 'b')")
        found: list[str] = []
        while True:
            token = self.take("a string in quotes")
            if token.kind != "string":
                raise _wrong(f"the list after IN takes strings in quotes, not {token.text!r}")
            found.append(token.text)
            self.listed += 1
            if self.listed > MAX_LIST:
                raise _wrong(f"its lists hold more than {MAX_LIST} values: search in several steps")
            token = self.take("',' or ')'")
            if token.kind == ")":
                return tuple(found)
            if token.kind != ",":
                raise _wrong(f"',' or ')' was expected instead of {token.text!r}")

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, wanted: str) -> _Token:
        token = self.peek()
        if token is None:
            raise _wrong(f"it ends where {wanted} was expected")
        self.at += 1
        return token

    def keyword(self, word: str) -> bool:
        token = self.peek()
        if token is not None and token.kind == "word" and token.entity is None and not token.quote and token.text.upper() == word:
            self.at += 1
            return True
        return False


def _tokens(text: str, param: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        if at >= len(text):
            return found
        letter = text[at]
        if letter in "(),":
            found.append(_Token(letter, letter))  # type: ignore[arg-type]
            at += 1
        elif match := _OP.match(text, at):
            found.append(_Token("op", match[0]))
            at = match.end()
        elif match := _PREFIX.match(text, at):
            key, at = _quoted(text, match.end(), param)
            found.append(_Token("word", key, match[1], text[match.end()]))
        elif letter in "'\"`":
            inner, at = _quoted(text, at, param)
            found.append(_Token("word" if letter == "`" else "string", inner, None, letter))
        elif match := _NUMBER.match(text, at):
            found.append(_Token("number", match[0]))
            at = match.end()
        elif match := _WORD.match(text, at):
            found.append(_Token("word", match[0]))
            at = match.end()
        else:
            raise _wrong(f"{letter!r} at character {at + 1} is not understood", param)


def _quoted(text: str, at: int, param: str) -> tuple[str, int]:
    """What stands in the quotes that begin at `at`, and where they end."""
    quote, start, out = text[at], at + 1, ""
    while (end := text.find(quote, start)) >= 0:
        out += text[start:end]
        if text[end + 1 : end + 2] != quote:
            return out, end + 1
        out, start = out + quote, end + 2
    raise _wrong(f"the {quote} at character {at + 1} is not closed", param)


def _identifier(token: _Token, language: Language, param: str) -> tuple[str, str, Kind]:
    """(entity, key, kind of the values)."""
    if token.entity is not None:
        prefix: str | None = token.entity
        key = token.text
    elif token.quote:
        prefix, key = None, token.text
    else:
        head, dot, rest = token.text.partition(".")
        prefix, key = (head, rest) if dot else (None, token.text)
    entity = "attribute" if prefix is None else language.entities.get(prefix.lower())
    if entity is None:
        known = ", ".join(sorted(set(language.entities)))
        raise _wrong(f"{prefix!r} is not something that {language.what} have: use one of {known}", param)
    if entity in language.maps:
        if not key:
            raise _wrong(f"a key is missing after {prefix!r}", param)
        return entity, key, language.maps[entity]
    fields = language.fields.get(entity, {})
    field = fields.get(key) or fields.get(key.lower())
    if field is None:
        raise _wrong(
            f"{language.what} have no {_named(entity, key)}: use one of {', '.join(sorted({f[0] for f in fields.values()}))}", param
        )
    return entity, field[0], field[1]


def _value(token: _Token, kind: Kind, entity: str, key: str, op: str) -> Value:
    if kind == "any" and token.kind in ("number", "string"):
        kind = "number" if token.kind == "number" else "string"
    if kind == "number":
        if token.kind != "number":
            raise _wrong(f"{_named(entity, key)} is compared with a number, without quotes, not with {token.text!r}")
        if re.search(r"[.eE]", token.text) or len(token.text) > 18:
            return float(token.text)
        return int(token.text)
    if token.kind != "string":
        if token.kind == "(":
            raise _wrong(f"a list was not expected after {op}")
        raise _wrong(f"{_named(entity, key)} is compared with a string in quotes: write {op} '{token.text}'")
    return token.text


def _named(entity: str, key: str) -> str:
    return f"{entity} {key!r}"


def _order_help(language: Language) -> str:
    keys = [f"{entity}.<key>" for entity in sorted(language.maps)] + sorted({f[0] for f in language.fields.get("attribute", {}).values()})
    return f"Use one of {', '.join(keys)}, with ASC or DESC after it."


def _wrong(why: str, param: str = "filter") -> Invalid:
    return Invalid(f"The {'filter' if param == 'filter' else 'order'} cannot be read: {why}.", param=param)
