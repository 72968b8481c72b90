"""What can be done to a rollout now, and what each act will do, in words."""

from __future__ import annotations

from drivetrain.rollout.model import Rollout, State
from drivetrain.web import format as fmt
from drivetrain.web.rollout.views import Act


def acts(rollout: Rollout, stable: str, canary: str) -> list[Act]:
    """The acts of a state, the gentlest first."""
    name = rollout.deployment
    back = f"All traffic of ‘{name}’ goes to {stable} at once; it is still running, so no request is lost. {canary} stops. "
    again = f"To undo it, roll {canary} out again."
    rollback = Act("rollback", "Take it back", f"Take {canary} back?", back + again, "danger")
    if rollout.state is State.starting:
        says = f"{canary} has no traffic yet. Its replicas stop, and {stable} goes on. {again}"
        return [Act("abort", "Take it back", f"Stop before {canary} gets traffic?", says, "danger")]
    if rollout.state is State.running:
        return [
            Act(
                "pause",
                "Pause",
                "Pause here?",
                f"{canary} keeps {fmt.percent(rollout.share / 10_000)} of the traffic until somebody resumes. Harm to a guardrail still "
                "takes it back. To undo it, resume.",
            ),
            _promote(rollout, stable, canary),
            rollback,
        ]
    if rollout.state is State.paused:
        return [
            Act(
                "resume",
                "Resume",
                "Go on?",
                f"The rollout goes on from {fmt.percent(rollout.share / 10_000)}. Signals that paused it are overruled: they do not "
                "pause it again. To undo it, pause.",
                "primary",
            ),
            _promote(rollout, stable, canary),
            rollback,
        ]
    if rollout.state is State.promoted:
        return [
            Act(
                "close",
                "Close",
                f"Let go of {stable}?",
                f"{canary} has all traffic already. {stable} stops, so that going back to it means to start it again. To undo it, roll "
                f"{stable} out.",
            ),
            rollback,
        ]
    return []


def _promote(rollout: Rollout, stable: str, canary: str) -> Act:
    later = [
        (number + 1, f"step {number + 1}: {fmt.percent(step.share / 10_000)}")
        for number, step in enumerate(rollout.plan.steps)
        if number > rollout.step and step.share < 10_000
    ]
    return Act(
        "promote",
        "Skip ahead",
        "Skip ahead without waiting for evidence?",
        f"{canary} gets more traffic at once, before the step has seen what it asks for. Guardrails go on counting, and {stable} stays "
        "warm. To undo it, take it back.",
        steps=later,
    )
