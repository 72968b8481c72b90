"""Jobs: claim what is queued, run each in a process of its own, take its outcome, start again what died."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from drivetrain.compute.process import Compute, Process
from drivetrain.config import Settings
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.service import Identity
from drivetrain.jobs.kinds import Kind
from drivetrain.jobs.model import Assignment, Job
from drivetrain.jobs.service import Jobs
from drivetrain.loops.loop import Loop
from drivetrain.store.home import Home
from drivetrain.store.leases import Leases

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TICK_SECONDS = 0.1
LEASE_SECONDS = 30.0
STOPPED = "The server was stopped while it ran."


class JobRunner:
    """`kinds`: those that this server can run. `url` is where jobs reach this server.

    Each server holds a lease for as long as it lives; what a server ran whose lease has run out is queued again by another.
    """

    def __init__(
        self,
        jobs: Jobs,
        kinds: Mapping[str, Kind],
        identity: Identity,
        home: Home,
        compute: Compute,
        leases: Leases,
        settings: Settings,
        *,
        url: str,
    ) -> None:
        self._jobs = jobs
        self._kinds = kinds
        self._identity = identity
        self._home = home
        self._compute = compute
        self._leases = leases
        self._settings = settings
        self._url = url
        self._running: dict[str, tuple[Job, Process]] = {}
        self._looked = float("-inf")

    def step(self, loop: Loop) -> float:
        self._reap()
        now = time.monotonic()
        if loop.news or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()
        return TICK_SECONDS if self._running else LOOK_SECONDS

    def end(self) -> None:
        """The server stops: all jobs at once. They go on with the next start, or on another server."""
        for _, child in self._running.values():
            child.terminate()
        for job, child in list(self._running.values()):
            child.stop(2.0)
            self._settle(job.id, STOPPED, attempts=1)
        self._leases.release(lease_of(self._home.server_id))

    def _look(self) -> None:
        self._leases.keep(lease_of(self._home.server_id), LEASE_SECONDS)
        mine = self._jobs.running(self._home.server_id)
        for job_id in mine - self._running.keys():
            self._settle(job_id, STOPPED)  # of an earlier life: its process died with that
        for job_id in self._running.keys() - mine:
            # This server was out of touch for so long that another has taken the job over.
            self._running.pop(job_id)[1].stop(0.0)
        for job_id in self._jobs.to_cancel(self._home.server_id):
            if job_id in self._running:
                self._running.pop(job_id)[1].stop(5.0)
            self._jobs.cancelled(job_id, by=self._home.server_id)
            shutil.rmtree(self.folder(job_id), ignore_errors=True)
        for other in self._jobs.others(self._home.server_id):
            if self._leases.acquire(lease_of(other), LEASE_SECONDS):
                for job_id in self._jobs.running(other):
                    self._jobs.died(job_id, "Its server went away.", most_attempts=self._settings.job_attempts, by=other)
                self._leases.release(lease_of(other))
        while self._taken() < self._settings.jobs and (job := self._jobs.claim(self._home.server_id, fits=self._fits)) is not None:
            self._start(job)

    def _taken(self) -> int:
        """How many of the places for jobs are taken."""
        return sum(self._kinds[job.kind].resources.places for job, _ in self._running.values())

    def _fits(self, kind: str) -> bool:
        """Whether there is room for a job of this kind. One that takes more places than there are runs alone."""
        places = self._kinds[kind].resources.places if kind in self._kinds else 0
        return not self._running or self._taken() + places <= self._settings.jobs

    def folder(self, job_id: str) -> Path:
        return self._home.path / "jobs" / job_id

    def _start(self, job: Job) -> None:
        kind = self._kinds.get(job.kind)
        if kind is None:
            self._jobs.failed(job.id, f"This server knows no jobs of kind {job.kind!r}. Was it submitted to another version?")
            return
        folder = self.folder(job.id)
        owner = Context(user_id=job.user_id, user_name=job.user_name, workspace_id=job.workspace_id, workspace=job.workspace)
        token = self._identity.job_token(owner, scopes=(Scope.read, Scope.write, Scope.invoke), seconds=kind.resources.seconds)
        assignment = Assignment(
            job=job.id,
            kind=job.kind,
            handler=kind.handler,
            spec_type=f"{kind.spec.__module__}:{kind.spec.__qualname__}",
            spec=job.spec,
            folder=str(folder),
            url=self._url,
            token=token,
            workspace=job.workspace,
        )
        file = folder / "assignment.json"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "outcome.json").unlink(missing_ok=True)
            file.touch(mode=0o600)
            file.write_bytes(msgspec.json.encode(assignment))
            # The one setting that jobs read; everything else they are told, or ask the server.
            environ = {"DRIVETRAIN_PIP_ARGS": " ".join(self._settings.pip_args)}
            child = self._compute.start("drivetrain.compute.worker", [str(file)], log=f"job-{job.id}.log", environ=environ)
        except OSError as error:
            self._jobs.died(job.id, f"It could not be started: {error}.", most_attempts=self._settings.job_attempts)
            return
        self._running[job.id] = (job, child)

    def _reap(self) -> None:
        for job, child in list(self._running.values()):
            if child.code is None:
                continue
            child.kill()  # what it may have left behind in its process group
            self._settle(job.id, f"Its process ended with status {child.code}. {child.last_words(600)}")
            del self._running[job.id]  # not before its outcome is in the database

    def _settle(self, job_id: str, how: str, *, attempts: int = 0) -> None:
        """Take the outcome that a process left behind; without one, `how` it died decides. `attempts`: how many more than usual it has."""
        folder = self.folder(job_id)
        try:
            outcome = msgspec.json.decode((folder / "outcome.json").read_bytes())
        except (OSError, msgspec.DecodeError):
            self._jobs.died(job_id, how, most_attempts=self._settings.job_attempts + attempts, by=self._home.server_id)
            return
        if "error" in outcome:
            self._jobs.failed(job_id, outcome["error"], by=self._home.server_id)
        else:
            self._jobs.succeeded(job_id, outcome["result"], by=self._home.server_id)
        shutil.rmtree(folder, ignore_errors=True)


def lease_of(server_id: str) -> str:
    """The lease that says that a server lives and looks after its jobs."""
    return f"jobs/{server_id}"
