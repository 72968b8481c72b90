"""What the native API says of jobs."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.jobs.model import Job


class JobList(Struct, frozen=True):
    jobs: list[Job]


class Heard(Struct, frozen=True):
    """What a job's own process learns when it tells of its progress."""

    state: str
    cancel_requested: bool
