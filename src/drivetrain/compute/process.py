"""Processes, wherever they run: what loops ask of whoever runs them. `drivetrain.compute.local` runs them on this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Process(Protocol):
    """One that was started, with all that it starts itself."""

    @property
    def pid(self) -> int:
        """Its number on this machine; 0 where it runs elsewhere."""
        ...

    @property
    def code(self) -> int | None:
        """Its exit status, once it has ended; negative is the signal that ended it."""
        ...

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit status as soon as it has ended; None when that takes longer than `seconds`."""
        ...

    def terminate(self) -> None:
        """Ask it to finish what it has begun."""
        ...

    def kill(self) -> None:
        """End it and everything that it started."""
        ...

    def stop(self, seconds: float) -> None:
        """Ask, wait, then kill."""
        ...

    def last_words(self, most: int = 2000) -> str:
        """The end of its log."""
        ...


class Compute(Protocol):
    """Starts processes that do not outlive whoever holds this."""

    def address(self, name: str) -> str:
        """Where a process of this name may listen, and is reached: `unix:/path` or `http://host:port`."""
        ...

    def release(self, address: str) -> None:
        """Nobody listens there any more."""
        ...

    def start(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        log: str,
        environ: Mapping[str, str] | None = None,
        python: str = sys.executable,
        cwd: Path | None = None,
    ) -> Process:
        """Run `python -m module arguments…`. `log` names its log."""
        ...

    def close(self) -> None:
        """End all of them."""
        ...
