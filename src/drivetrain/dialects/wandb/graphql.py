"""GraphQL without a schema: parse a document, walk its selection over plain objects.

An object is a dict of values or callables, which get the field's arguments and are called only if they are asked for; what is missing is
null. That is all that wandb's client needs: it never asks for the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from drivetrain.errors import Invalid

MAX_DOCUMENT = 1 << 20
MAX_DEPTH = 60
MAX_VISITS = 2_000_000

_TOKEN = re.compile(
    r"""(?P<skip>[\s,\ufeff]+|\#[^\n\r]*)|(?P<name>[_A-Za-z]\w*)|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"""
    r'''|(?P<block>"""(?:\\"""|[^"]|"(?!""))*""")|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<punct>\.\.\.|[!$()\[\]{}:=@|&])''',
    re.ASCII,
)


class Variable(Struct, frozen=True):
    name: str


class Field(Struct):
    """`fields` None: a leaf. `on` set: a fragment's conditions and content."""

    key: str
    name: str
    args: dict[str, Any]
    directives: list[tuple[str, dict[str, Any]]]
    fields: list[Field] | None = None
    fragment: bool = False
    spread: str = ""
    on: str = ""


class Operation(Struct):
    kind: str
    name: str
    defaults: dict[str, Any]
    lists: set[str]
    fields: list[Field]


class Document(Struct):
    operations: list[Operation]
    fragments: dict[str, Field]


def parse(text: str) -> Document:
    """Raises `Invalid`."""
    if len(text) > MAX_DOCUMENT:
        raise Invalid("The GraphQL document is longer than 1 MiB.", param="query")
    return _Parser(text).document()


def execute(
    document: Document, root: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any], name: str | None = None
) -> dict[str, Any]:
    """The data of the operation (`name`, where there are several). `root`: "query" and "mutation" → their objects."""
    found = [one for one in document.operations if not name or one.name == name] or document.operations
    if not found:
        raise Invalid("The GraphQL document has no operation.", param="query")
    operation = found[0]
    values = {**operation.defaults, **variables}
    for one in operation.lists:  # a lone value for a list is a list of one
        if values.get(one) is not None and not isinstance(values[one], list):
            values[one] = [values[one]]
    return _Walk(document, values).object(operation.fields, root.get(operation.kind, {}), 0)


class _Walk:
    def __init__(self, document: Document, values: Mapping[str, Any]) -> None:
        self._fragments = document.fragments
        self._values = values
        self._visits = 0

    def object(self, fields: list[Field], source: Mapping[str, Any], depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        self._collect(fields, source, out, depth)
        return out

    def _collect(self, fields: list[Field], source: Mapping[str, Any], out: dict[str, Any], depth: int) -> None:
        self._visits += len(fields)
        if depth > MAX_DEPTH or self._visits > MAX_VISITS:
            raise Invalid("The GraphQL query asks for too much at once.", param="query")
        for field in fields:
            if field.directives and not self._included(field):
                continue
            if field.fragment or field.spread:
                inner = self._fragments.get(field.spread) if field.spread else field
                if inner is None:
                    raise Invalid(f"The GraphQL document has no fragment {field.spread!r}.", param="query")
                typename = source.get("__typename")
                # What has no type of its own is of any type: only unions need to know.
                if not inner.on or typename is None or inner.on == typename or inner.on in source.get("__interfaces", ()):
                    self._collect(inner.fields or [], source, out, depth + 1)
                continue
            value = source.get(field.name)
            if callable(value):
                value = value({key: self.value(one) for key, one in field.args.items()})
            done = self._complete(field, value, depth)
            old = out.get(field.key)
            out[field.key] = {**old, **done} if isinstance(old, dict) and isinstance(done, dict) and field.fields else done

    def _complete(self, field: Field, value: Any, depth: int) -> Any:
        if value is None or field.fields is None:
            return value
        if isinstance(value, list):
            return [self._complete(field, one, depth) for one in value]
        if isinstance(value, Mapping):
            return self.object(field.fields, value, depth + 1)
        return value

    def _included(self, field: Field) -> bool:
        for name, args in field.directives:
            wanted = bool(self.value(args.get("if")))
            if (name == "include" and not wanted) or (name == "skip" and wanted):
                return False
        return True

    def value(self, given: Any) -> Any:
        if isinstance(given, Variable):
            return self._values.get(given.name)
        if isinstance(given, list):
            return [self.value(one) for one in given]
        if isinstance(given, dict):
            return {key: self.value(one) for key, one in given.items()}
        return given


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise Invalid(f"The GraphQL document cannot be read at {text[at : at + 20]!r}.", param="query")
            at = found.end()
            kind = str(found.lastgroup)
            if kind != "skip":
                self._tokens.append((kind, found.group()))
        self._tokens.append(("end", ""))
        self._at = 0
        self._depth = 0

    def document(self) -> Document:
        operations: list[Operation] = []
        fragments: dict[str, Field] = {}
        while self._peek() != "":
            if self._peek() == "fragment":
                self._next()
                name = self._name()
                self._expect("on")
                on = self._name()
                directives = self._directives()
                fragments[name] = Field("", name, {}, directives, self._selection(), fragment=True, on=on)
            else:
                operations.append(self._operation())
        return Document(operations, fragments)

    def _operation(self) -> Operation:
        kind, name = "query", ""
        defaults: dict[str, Any] = {}
        lists: set[str] = set()
        if self._peek() != "{":
            kind = self._name()
            if kind not in ("query", "mutation"):
                raise Invalid(f"A GraphQL document holds queries and mutations, not {kind!r}.", param="query")
            if self._tokens[self._at][0] == "name":
                name = self._name()
            if self._accept("("):
                while not self._accept(")"):
                    self._expect("$")
                    variable = self._name()
                    self._expect(":")
                    if self._type():
                        lists.add(variable)
                    if self._accept("="):
                        defaults[variable] = self._value()
            self._directives()
        return Operation(kind, name, defaults, lists, self._selection())

    def _type(self) -> bool:
        """Whether it is a list."""
        listed = self._accept("[")
        if listed:
            self._type()
            self._expect("]")
        else:
            self._name()
        self._accept("!")
        return listed

    def _selection(self) -> list[Field]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Invalid("The GraphQL document is nested too deeply.", param="query")
        self._expect("{")
        found: list[Field] = []
        while not self._accept("}"):
            found.append(self._field())
        self._depth -= 1
        return found

    def _field(self) -> Field:
        if self._accept("..."):
            if self._tokens[self._at][0] == "name" and self._peek() != "on":
                spread = self._name()
                return Field("", "", {}, self._directives(), spread=spread)
            on = ""
            if self._accept("on"):
                on = self._name()
            directives = self._directives()
            return Field("", "", {}, directives, self._selection(), fragment=True, on=on)
        key = name = self._name()
        if self._accept(":"):
            name = self._name()
        args: dict[str, Any] = {}
        if self._accept("("):
            args = self._arguments()
        directives = self._directives()
        return Field(key, name, args, directives, self._selection() if self._peek() == "{" else None)

    def _arguments(self) -> dict[str, Any]:
        args: dict[str, Any] = {}
        while not self._accept(")"):
            name = self._name()
            self._expect(":")
            args[name] = self._value()
        return args

    def _directives(self) -> list[tuple[str, dict[str, Any]]]:
        found: list[tuple[str, dict[str, Any]]] = []
        while self._accept("@"):
            name = self._name()
            found.append((name, self._arguments() if self._accept("(") else {}))
        return found

    def _value(self) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Invalid("A value in the GraphQL document is nested too deeply.", param="query")
        try:
            return self._literal(*self._next())
        finally:
            self._depth -= 1

    def _literal(self, kind: str, text: str) -> Any:
        if text == "$":
            return Variable(self._name())
        if kind == "number":
            return float(text) if any(letter in text for letter in ".eE") else int(text)
        if kind == "string":
            return _string(text)
        if kind == "block":
            return text[3:-3].replace('\\"""', '"""').strip()
        if text == "[":
            items: list[Any] = []
            while not self._accept("]"):
                items.append(self._value())
            return items
        if text == "{":
            entries: dict[str, Any] = {}
            while not self._accept("}"):
                name = self._name()
                self._expect(":")
                entries[name] = self._value()
            return entries
        if kind == "name":  # true, false, null, or an enum's name
            return {"true": True, "false": False, "null": None}.get(text, text)
        raise Invalid(f"A value was expected in the GraphQL document, not {text!r}.", param="query")

    def _peek(self) -> str:
        kind, text = self._tokens[self._at]
        return text if kind in ("name", "punct", "end") else f"a {kind}"

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        if token[0] == "end":
            raise Invalid("The GraphQL document ends too early.", param="query")
        self._at += 1
        return token

    def _accept(self, text: str) -> bool:
        if self._peek() == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise Invalid(f"{text!r} was expected in the GraphQL document, not {self._peek()!r}.", param="query")

    def _name(self) -> str:
        kind, text = self._next()
        if kind != "name":
            raise Invalid(f"A name was expected in the GraphQL document, not {text!r}.", param="query")
        return text


def _string(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise Invalid(f"The string {text[:40]} in the GraphQL document cannot be read.", param="query") from None
