"""What is said of retrainings: what one that is open does now, and lengths of time."""

from __future__ import annotations

from drivetrain.jobs.model import QUEUED, Job
from drivetrain.retraining.model import Retraining, Stage, State
from drivetrain.words import span

_DOES = {
    Stage.training_set: "It fetches the labelled answers",
    Stage.run: "It makes its run",
    Stage.version: "It registers the version",
    Stage.gate: "The gate compares the new version with the one that serves",
    Stage.rollout: "It asks for the rollout",
}


def doing(one: Retraining, job: Job | None, now_ms: int) -> str:
    """What an open retraining does, or waits for, and for how long already; "" of one that has ended."""
    if one.ended_ms is not None:
        return ""
    if one.state is State.waiting:
        return one.why
    if job is None or job.state == QUEUED:
        again = " again: its process was killed" if job is not None and job.attempts else ""
        return f"It waits for its turn among the jobs{again}."
    begun = one.stages[-1].at_ms if one.stages else job.started_ms or one.created_ms
    lasted = span(max(0, now_ms - begun) / 1000)
    if one.stage is Stage.training:
        return f"{one.entry} is running, for {lasted} by now; it may take {span(one.time_limit)}."
    return f"{_DOES[one.stage] if one.stage is not None else 'It ends'}, for {lasted} by now."
