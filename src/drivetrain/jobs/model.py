"""The nouns of jobs."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED = "queued", "running", "succeeded", "failed", "cancelled"


class Job(Struct, frozen=True, kw_only=True):
    """Long work in a process of its own. `done` of `total` in units of the job's own choice; `total` 0: not known."""

    id: str
    workspace_id: str
    workspace: str
    user_id: str
    user_name: str
    kind: str
    spec: dict[str, Any]
    state: str
    attempts: int
    created_ms: int
    key: str | None = None
    server_id: str | None = None
    cancel_requested: bool = False
    done: float = 0.0
    total: float = 0.0
    message: str = ""
    result: dict[str, Any] | None = None
    error: str = ""
    started_ms: int | None = None
    ended_ms: int | None = None


class Done(Struct, frozen=True, kw_only=True):
    """What came of a stage: in words, in facts for the stages after it, and how to undo it."""

    words: str
    facts: dict[str, Any] = {}
    undo: str = ""


class StageDone(Done, frozen=True, kw_only=True):
    """A stage that was done, and when."""

    stage: str
    at_ms: int


class Assignment(Struct, frozen=True, kw_only=True):
    """What the process of a job is told. `handler` is `module:function`, `spec_type` is `module:class`. `folder` is kept
    between attempts."""

    job: str
    kind: str
    handler: str
    spec_type: str
    spec: dict[str, Any]
    folder: str
    url: str
    token: str
    workspace: str
