"""The process of one job: `python -m drivetrain.compute.worker ASSIGNMENT.json`.

It speaks HTTP with a token that is good for its workspace. Its result is a file beside the assignment, written whole or not at all: the
loop takes it from there, so that a result is never lost between a process and a server that is just restarting.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import msgspec

from drivetrain.client import Client
from drivetrain.compute import lifeline
from drivetrain.errors import DrivetrainError
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import read_spec
from drivetrain.jobs.model import Assignment


def main() -> None:
    lifeline.watch()
    file = Path(sys.argv[1])
    assignment = msgspec.json.decode(file.read_bytes(), type=Assignment)
    file.unlink()  # it holds a token
    outcome: dict[str, Any]
    try:
        outcome = {"result": _named(assignment.handler)(_handle(assignment))}
    except DrivetrainError as error:
        outcome = {"error": error.message}
    target = Path(assignment.folder) / "outcome.json"
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(outcome))
    partial.rename(target)
    sys.exit(1 if "error" in outcome else 0)


def _handle(assignment: Assignment) -> Handle[Any]:
    # The server may restart while a job works: requests wait for it.
    client = Client(assignment.url, assignment.token, workspace=assignment.workspace, patience=120.0)

    def tell(done: float, total: float, message: str) -> None:
        body = {"done": done, "total": total, "message": message}
        client.connection.json("POST", f"/api/v1/jobs/{assignment.job}/progress", body, again=True)

    spec = read_spec(assignment.kind, _named(assignment.spec_type), assignment.spec)
    return Handle(spec, Path(assignment.folder), client, tell)


def _named(name: str) -> Any:
    """What `module:name` names."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


if __name__ == "__main__":
    main()
