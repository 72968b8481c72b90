"""What a handler holds of its job, in the job's own process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from drivetrain.client import Client

PROGRESS_SECONDS = 0.2
S = TypeVar("S", bound=Struct, covariant=True)


class Handle(Generic[S]):
    """`spec` is what was submitted; `folder` is kept between attempts on one server; `client` may do in the job's workspace what jobs may.
    `tell` brings done, total and message to the server."""

    def __init__(self, spec: S, folder: Path, client: Client, tell: Callable[[float, float, str], object]) -> None:
        self.spec = spec
        self.folder = folder
        self.client = client
        self._tell = tell
        self._next = 0.0

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tell how far it is; cheap to call often."""
        now = time.monotonic()
        if now >= self._next or done >= total > 0:
            self._next = now + PROGRESS_SECONDS
            self._tell(done, total, message)

    def log(self, text: str) -> None:
        """Into the job's log, which is its standard output."""
        print(text, flush=True)
