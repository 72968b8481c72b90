"""Handlers of jobs as tests need them; they run in the job's own process."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from drivetrain.compute.worker import JobHandle
from drivetrain.errors import NotFound


def add(job: JobHandle) -> dict[str, Any]:
    job.log("adding")
    return {"sum": job.spec["a"] + job.spec["b"], "pid": os.getpid()}


def refuse(job: JobHandle) -> dict[str, Any]:
    raise NotFound("There is no such package.")


def crash(job: JobHandle) -> dict[str, Any]:
    raise RuntimeError("a bug in the handler")


def resume(job: JobHandle) -> dict[str, Any]:
    """Counts in a file; is killed at the third step of the first attempt."""
    steps = job.folder / "steps"
    done = len(steps.read_text().split()) if steps.exists() else 0
    for step in range(done, 6):
        with steps.open("a") as file:
            file.write(f"{step}\n")
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return {"steps": steps.read_text().split()}


def die(job: JobHandle) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def sleep(job: JobHandle) -> dict[str, Any]:
    (job.folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)
    return {}
