"""Which interpreter a Python model runs on: this one, or one of an environment that a job builds first."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from drivetrain.engines import environments
from drivetrain.engines.engine import Engine
from drivetrain.errors import Unavailable
from drivetrain.identity.service import Identity
from drivetrain.jobs.kinds import Environment
from drivetrain.jobs.model import FAILED, Job
from drivetrain.jobs.service import Jobs
from drivetrain.serving.model import Variant
from drivetrain.store.home import Home

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
MOST_JOBS = 10


class Environments:
    """Environments are local to a home: on several servers each builds what its own replicas need."""

    def __init__(self, jobs: Jobs, identity: Identity, home: Home) -> None:
        self._jobs = jobs
        self._identity = identity
        self._home = home

    def python(self, engine: Engine, variant: Variant, folder: Path, wanted: Callable[[], bool]) -> str:
        """The interpreter for the model in `folder`. Waits for the job that builds its environment, as long as `wanted` says so.

        Raises `DrivetrainError` when there can be none."""
        requirements = engine.requirements(folder, variant.options)
        lacking = environments.problems(requirements)
        if not lacking:
            return sys.executable
        built = environments.folder_of(self._home.path, requirements)
        for attempt in range(MOST_JOBS):
            if (python := environments.python_of(built)) is not None:
                return str(python)
            log.info("%s %s needs an environment of its own: %s", variant.repo, variant.name, "; ".join(lacking))
            spec = Environment(requirements=list(requirements))
            job = self._run(variant, spec, wanted, key=f"{variant.id}/{self._home.server_id}/{attempt}")
            if job is None:
                break
            if job.state == FAILED:
                raise Unavailable(f"The environment that the model pins could not be built ({'; '.join(lacking[:3])}). {job.error}".strip())
            # A job may have been cancelled, or have run on another server and built its environment there.
        if (python := environments.python_of(built)) is not None:
            return str(python)
        raise Unavailable("The environment that the model pins was not built on this server. Restart the deployment to try again.")

    def _run(self, variant: Variant, spec: Environment, wanted: Callable[[], bool], *, key: str) -> Job | None:
        """The job once it has ended; None when nobody waits for it any more."""
        ctx = self._identity.local_context(variant.repo.partition("/")[0])
        job = self._jobs.submit(ctx, "environment", spec, key=key)
        while job.ended_ms is None:
            if not wanted():
                self._jobs.cancel(ctx, job.id)
                return None
            time.sleep(LOOK_SECONDS)
            job = self._jobs.get(ctx, job.id)
        return job
