"""Long work on the server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from drivetrain.answers.jobs import JobList
from drivetrain.client.http import Json
from drivetrain.client.push import segment
from drivetrain.client.resources.resource import API, Resource
from drivetrain.jobs.model import CANCELLED, FAILED, SUCCEEDED, Job

ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})


class Jobs(Resource):
    """Long work on the server."""

    def list(self, *, limit: int = 50) -> list[Job]:
        return self._get(JobList, "/jobs", limit=limit).jobs

    def get(self, job_id: str) -> Job:
        return self._get(Job, f"/jobs/{segment(job_id)}")

    def submit(self, kind: str, spec: Struct | Json, *, key: str | None = None) -> Job:
        """Submit a job. The same idempotency `key` again gives the same job."""
        return self._send(Job, "POST", "/jobs", {"kind": kind, "spec": msgspec.to_builtins(spec), "key": key})

    def cancel(self, job_id: str) -> Job:
        return self._send(Job, "POST", f"/jobs/{segment(job_id)}/cancel")

    def log(self, job_id: str) -> str:
        return self._c.send("GET", f"{API}/jobs/{segment(job_id)}/log").text

    def follow(self, job_id: str) -> Iterator[Job]:
        """The job as it changes, until it has ended."""
        last: Job | None = None
        while True:
            job = self.get(job_id)
            if job != last:
                yield job
                last = job
            if job.state in ENDED:
                return
            time.sleep(0.15)
