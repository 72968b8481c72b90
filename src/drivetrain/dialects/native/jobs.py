"""Jobs: submit, watch, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from drivetrain.answers import jobs as answers
from drivetrain.jobs.model import Job
from drivetrain.jobs.service import Jobs
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking

MOST_LOG = 1 << 20


class NewJob(BaseModel):
    kind: str
    spec: dict[str, Any] = Field(default_factory=dict)
    key: str | None = None


class Progress(BaseModel):
    done: float = 0.0
    total: float = 0.0
    message: str = ""


def router(jobs: Jobs, logs: Path) -> APIRouter:
    api = native_router("jobs")

    @api.get("/jobs")
    def listed(ctx: Asking, limit: int = 50) -> answers.JobList:
        return answers.JobList(jobs.list(ctx, limit=max(1, min(limit, 1000))))

    @api.post("/jobs", status_code=201)
    def submit(ctx: Asking, new: NewJob) -> Job:
        """The same idempotency `key` again answers with the same job."""
        return jobs.submit(ctx, new.kind, new.spec, key=new.key)

    @api.get("/jobs/{job_id}")
    def job(ctx: Asking, job_id: str) -> Job:
        return jobs.get(ctx, job_id)

    @api.post("/jobs/{job_id}/cancel")
    def cancel(ctx: Asking, job_id: str) -> Job:
        return jobs.cancel(ctx, job_id)

    @api.post("/jobs/{job_id}/progress")
    def progress(ctx: Asking, job_id: str, told: Progress) -> answers.Heard:
        """What the job's own process tells."""
        changed = jobs.progress(ctx, job_id, done=told.done, total=told.total, message=told.message)
        return answers.Heard(changed.state, changed.cancel_requested)

    @api.get("/jobs/{job_id}/log")
    def log(ctx: Asking, job_id: str) -> PlainTextResponse:
        """The end of what the job printed. It lies on the server that ran it."""
        found = jobs.get(ctx, job_id)
        try:
            with (logs / f"job-{found.id}.log").open("rb") as file:
                file.seek(0, 2)
                file.seek(max(0, file.tell() - MOST_LOG))
                return PlainTextResponse(file.read().decode("utf-8", "replace"))
        except OSError:
            return PlainTextResponse("")

    return api
