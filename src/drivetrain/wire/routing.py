"""One router for every dialect and the native API: from a method and a raw path to what answers, whoever was registered first.

A path is split while it is still percent-encoded, and each segment is decoded once: a name that holds a slash stays one segment.

| segment of a pattern | takes |
|---|---|
| `models` | itself |
| `{name}` | one segment |
| `{path:path}` | one or more, joined by slashes; once in a pattern |

Of several patterns that take a path the most specific one is meant: from the left, a word before a parameter before several segments, and
few segments before many. What that one's methods do not take is answered with 405.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, unquote_to_bytes

T = TypeVar("T")
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of a dialect's table. What answers GET answers HEAD. `handle` gets the request, and the parameters by their names."""

    method: str
    path: str
    handle: Callable[..., Awaitable[None]]

    @property
    def methods(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


class Ambiguous(ValueError):  # noqa: N818  as the rest of the tree is named
    """Two patterns take the same paths with the same method: a mistake of whoever wrote them, found when a server starts."""


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """What takes a path: `target` is None when it does not take the method; `allowed` are the methods that it takes, `owner` is the target
    of one of them."""

    target: T | None
    owner: T
    pattern: str
    params: dict[str, str]
    allowed: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Node(Generic[T]):
    words: dict[str, _Node[T]] = field(default_factory=dict)
    one: _Node[T] | None = None
    many: _Node[T] | None = None
    depth: int = 0
    """Segments of the longest pattern below, where `many` is not among them."""
    methods: dict[str, tuple[str, tuple[str, ...], T]] = field(default_factory=dict)
    """Method → pattern, names of its parameters, target."""


class Table(Generic[T]):
    """Patterns of paths and what each method does there."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, methods: Iterable[str], pattern: str, target: T) -> None:
        """Raises `Ambiguous`, which names both patterns, when another one takes the same paths."""
        node, names, path, several = self._root, list[str](), [self._root], False
        for part in pattern.removeprefix("/").split("/"):
            found = _PARAMETER.fullmatch(part)
            if found is None:
                if "{" in part:
                    raise ValueError(f"{pattern}: {part!r} is neither a word nor a parameter, {{name}} or {{name:path}}.")
                node = node.words.setdefault(part, _Node())
            elif found[2] is None:
                node.one = node = node.one or _Node()
            else:
                if several:
                    raise ValueError(f"{pattern}: only one parameter of a pattern can take several segments.")
                several = True
                node.many = node = node.many or _Node()
            if found is not None:
                names.append(found[1])
            path.append(node)
        for below, step in enumerate(reversed(path)):
            step.depth = max(step.depth, below)
        for method in methods:
            if method in node.methods:
                raise Ambiguous(f"Two routes take the same paths: {method} {node.methods[method][0]} and {method} {pattern}.")
            node.methods[method] = (pattern, tuple(names), target)

    def find(self, method: str, segments: list[str]) -> Match[T] | None:
        """What is meant by a path of these (decoded) segments; None when no pattern takes it."""
        found = _walk(self._root, segments, 0, ())
        if found is None:
            return None
        methods, values = found
        if method in methods:
            pattern, names, target = methods[method]
            return Match(target, target, pattern, dict(zip(names, values, strict=True)), tuple(sorted(methods)))
        pattern, _, owner = min(methods.values(), key=lambda row: row[0])
        return Match(None, owner, pattern, {}, tuple(sorted(methods)))


_Methods = Mapping[str, tuple[str, tuple[str, ...], T]]


def _walk(node: _Node[T], segments: list[str], at: int, values: tuple[str, ...]) -> tuple[_Methods[T], tuple[str, ...]] | None:
    if at == len(segments):
        return (node.methods, values) if node.methods else None
    segment = segments[at]
    below = node.words.get(segment)
    if below is not None and (found := _walk(below, segments, at + 1, values)) is not None:
        return found
    if node.one is not None and segment and (found := _walk(node.one, segments, at + 1, (*values, segment))) is not None:
        return found
    if node.many is not None:
        # What follows is not longer than the longest pattern: a long path costs no more than a short one.
        for end in range(max(at + 1, len(segments) - node.many.depth), len(segments) + 1):
            joined = "/".join(segments[at:end])
            if joined and (found := _walk(node.many, segments, end, (*values, joined))) is not None:
                return found
    return None


def raw_path(scope: Mapping[str, Any]) -> bytes:
    """The path as it was sent, without its query."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.partition(b"?")[0]


def segments(raw: bytes) -> list[str]:
    """The segments of a raw path, each decoded once."""
    return [unquote_to_bytes(part).decode("utf-8", "replace") for part in raw.removeprefix(b"/").split(b"/")]
