"""From method and path to a handler. Handlers are plain functions that translate, call a verb, and translate back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from drivetrain.errors import DrivetrainError, NotFound
from drivetrain.identity.model import Context
from drivetrain.platform import Platform

Json = dict[str, Any]
Written = Future[DrivetrainError | None]
"""A write that has begun: its error, or None when it is durable. It is answered with an empty object."""


class NoEndpoint(NotFound):
    """A path that is not served."""


class WrongMethod(DrivetrainError):  # noqa: N818  as the rest of the tree is named
    status = 405


@dataclass(frozen=True, slots=True)
class Route:
    """`path` is what follows `/api/2.0/mlflow/`; its `{parts}` are handed to the handler after the message."""

    method: str
    path: str
    message: type[Struct]
    handler: Callable[..., Json | Written]

    def begin(self, platform: Platform, ctx: Context, message: Struct, parts: tuple[str, ...]) -> Json | Written:
        return self.handler(platform, ctx, message, *parts)

    def call(self, platform: Platform, ctx: Context, message: Struct, parts: tuple[str, ...]) -> Json:
        """The same, and wait."""
        answer = self.begin(platform, ctx, message, parts)
        return answered(answer.result()) if isinstance(answer, Future) else answer


def answered(error: DrivetrainError | None) -> Json:
    """The answer to a write that has ended."""
    if error is not None:
        raise error
    return {}


class Router:
    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[str, dict[str, Route]] = {}
        patterns: dict[str, dict[str, Route]] = {}
        for route in routes:
            (patterns if "{" in route.path else self._fixed).setdefault(route.path, {})[route.method] = route
        self._patterns = [(re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), methods) for path, methods in patterns.items()]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """Raises `NoEndpoint` or `WrongMethod`."""
        parts: tuple[str, ...] = ()
        methods = self._fixed.get(path)
        if methods is None:
            for pattern, some in self._patterns:
                # With another method, the last part may be the name of an endpoint that is not served: traces/metrics.
                if method in some and (found := pattern.fullmatch(path)) is not None:
                    methods, parts = some, found.groups()
                    break
        if methods is None:
            raise NoEndpoint(f"This server does not serve {method} {path[:200]!r} of MLflow's API.")
        route = methods.get(method)
        if route is None:
            raise WrongMethod(f"{path!r} takes {', '.join(sorted(methods))}, not {method}.")
        return route, parts
