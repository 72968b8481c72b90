"""Jobs: claim what is queued, run each in a process of its own, take its outcome, start again what died."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from drivetrain.compute.local import Child, Local
from drivetrain.config import Settings
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.service import Identity
from drivetrain.jobs.model import Assignment, Job
from drivetrain.jobs.service import Jobs
from drivetrain.store.home import Home

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
TICK_SECONDS = 0.1
TOKEN_SECONDS = 7 * 24 * 3600.0


class JobsLoop:
    """`handlers`: kind → `module:function`. `url` is where jobs reach this server."""

    def __init__(
        self, jobs: Jobs, handlers: Mapping[str, str], identity: Identity, home: Home, local: Local, settings: Settings, *, url: str
    ) -> None:
        self._jobs = jobs
        self._handlers = handlers
        self._identity = identity
        self._home = home
        self._local = local
        self._settings = settings
        self._url = url
        self._running: dict[str, tuple[Job, Child]] = {}
        self._news = threading.Event()
        self._stopping = False

    def poke(self) -> None:
        self._news.set()

    def stop(self) -> None:
        self._stopping = True
        self._news.set()

    def run(self) -> None:
        self._jobs.orphans(self._home.server_id, most_attempts=self._settings.job_attempts)
        looked = 0.0
        while not self._stopping:
            try:
                self._reap()
                if self._news.is_set() or time.monotonic() - looked > LOOK_SECONDS:
                    self._news.clear()
                    looked = time.monotonic()
                    self.step()
            except Exception:
                log.exception("the jobs loop failed at a step; it goes on")
            self._news.wait(TICK_SECONDS if self._running else LOOK_SECONDS)
        for job, child in self._running.values():
            child.stop(2.0)
            self._jobs.died(job.id, "The server was stopped while it ran.", most_attempts=self._settings.job_attempts + 1)

    def step(self) -> None:
        for job_id in self._jobs.to_cancel(self._home.server_id):
            if job_id in self._running:
                _, child = self._running.pop(job_id)
                child.stop(5.0)
            self._jobs.cancelled(job_id)
            shutil.rmtree(self.folder(job_id), ignore_errors=True)
        while len(self._running) < self._settings.jobs and (job := self._jobs.claim(self._home.server_id)) is not None:
            self._start(job)

    def folder(self, job_id: str) -> Path:
        return self._home.path / "jobs" / job_id

    def _start(self, job: Job) -> None:
        folder = self.folder(job.id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "outcome.json").unlink(missing_ok=True)
        owner = Context(user_id=job.user_id, user_name=job.user_name, workspace_id=job.workspace_id, workspace=job.workspace)
        token = self._identity.job_token(owner, scopes=(Scope.read, Scope.write, Scope.invoke), seconds=TOKEN_SECONDS)
        assignment = Assignment(
            job=job.id,
            kind=job.kind,
            handler=self._handlers[job.kind],
            spec=job.spec,
            folder=str(folder),
            url=self._url,
            token=token,
            workspace=job.workspace,
        )
        file = folder / "assignment.json"
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(assignment))
        child = self._local.start("drivetrain.compute.worker", [str(file)], log=f"job-{job.id}.log")
        self._running[job.id] = (job, child)

    def _reap(self) -> None:
        for job, child in list(self._running.values()):
            if child.code is None:
                continue
            child.kill()  # what it may have left behind in its process group
            del self._running[job.id]
            folder = self.folder(job.id)
            try:
                outcome = msgspec.json.decode((folder / "outcome.json").read_bytes())
            except (OSError, msgspec.DecodeError):
                how = f"Its process ended with status {child.code}. {child.last_words(600)}"
                self._jobs.died(job.id, how, most_attempts=self._settings.job_attempts)
                continue
            if "error" in outcome:
                self._jobs.failed(job.id, outcome["error"])
            else:
                self._jobs.succeeded(job.id, outcome["result"])
            shutil.rmtree(folder, ignore_errors=True)
