"""Handlers of jobs as tests need them; they run in the job's own process."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from msgspec import Struct

from drivetrain.errors import NotFound
from drivetrain.jobs.handle import Handle


class Addition(Struct):
    a: int
    b: int


class Nothing(Struct):
    pass


def add(job: Handle[Addition]) -> dict[str, Any]:
    job.log("adding")
    return {"sum": job.spec.a + job.spec.b, "pid": os.getpid()}


def refuse(job: Handle[Nothing]) -> dict[str, Any]:
    raise NotFound("There is no such package.")


def crash(job: Handle[Nothing]) -> dict[str, Any]:
    raise RuntimeError("a bug in the handler")


def resume(job: Handle[Nothing]) -> dict[str, Any]:
    """Counts in a file; is killed at the third step of the first attempt."""
    steps = job.folder / "steps"
    done = len(steps.read_text().split()) if steps.exists() else 0
    for step in range(done, 6):
        with steps.open("a") as file:
            file.write(f"{step}\n")
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return {"steps": steps.read_text().split()}


def die(job: Handle[Nothing]) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def sleep(job: Handle[Nothing]) -> dict[str, Any]:
    (job.folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)
    return {}


def lie_down(job: Handle[Nothing]) -> dict[str, Any]:
    """As `sleep`, but it takes two places."""
    return sleep(job)
