"""The process of one job: `python -m drivetrain.compute.worker ASSIGNMENT.json`.

It speaks HTTP with a token that is good for its workspace. Its result is a file beside the assignment, written whole or not at all: the
loop takes it from there, so that a result is never lost between a process and a server that is just restarting.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from drivetrain.client import Client
from drivetrain.compute import lifeline
from drivetrain.errors import DrivetrainError
from drivetrain.jobs.model import Assignment

PROGRESS_SECONDS = 0.2


class JobHandle:
    """What a handler sees of its job."""

    def __init__(self, assignment: Assignment) -> None:
        self.spec = assignment.spec
        self.folder = Path(assignment.folder)
        # The server may restart while a job works: requests wait for it.
        self.client = Client(assignment.url, assignment.token, workspace=assignment.workspace, patience=120.0)
        self._path = f"/api/v1/jobs/{assignment.job}/progress"
        self._next = 0.0

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tell how far it is; cheap to call often."""
        now = time.monotonic()
        if now >= self._next or done >= total > 0:
            self._next = now + PROGRESS_SECONDS
            self.client.connection.json("POST", self._path, {"done": done, "total": total, "message": message}, again=True)

    def log(self, text: str) -> None:
        print(text, flush=True)  # standard output is the job's log


def main() -> None:
    lifeline.watch()
    file = Path(sys.argv[1])
    assignment = msgspec.json.decode(file.read_bytes(), type=Assignment)
    file.unlink()  # it holds a token
    module, _, name = assignment.handler.partition(":")
    outcome: dict[str, Any]
    try:
        outcome = {"result": getattr(importlib.import_module(module), name)(JobHandle(assignment))}
    except DrivetrainError as error:
        outcome = {"error": error.message}
    target = Path(assignment.folder) / "outcome.json"
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(outcome))
    partial.rename(target)
    sys.exit(1 if "error" in outcome else 0)


if __name__ == "__main__":
    main()
