"""From method and path to a handler. Handlers are plain functions that translate, call a verb, and translate back."""

from __future__ import annotations

from collections.abc import Callable
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
