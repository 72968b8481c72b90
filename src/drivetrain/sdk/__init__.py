"""Log a training run from its script: `dt.init()`, `run.log()`, `run.finish()`. What is logged goes to a local folder first, and from
there by a process of its own to the server."""

from __future__ import annotations

from drivetrain.sdk.frame import runs
from drivetrain.sdk.run import Run, init, log

__all__ = ["Run", "init", "log", "runs"]
