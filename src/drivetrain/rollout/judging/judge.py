"""The judge: from each guardrail's case to what is to be done. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from drivetrain.rollout.counting.measures import is_feedback
from drivetrain.rollout.judging.case import WHOLE, evidence, exposed
from drivetrain.rollout.ledger import Book
from drivetrain.rollout.model import Evidence, Role, State, Verdict
from drivetrain.rollout.planning.pace import endless
from drivetrain.words import span

LACKING = (Verdict.no_measure, Verdict.not_enough_data, Verdict.blind, Verdict.waiting)
"""Verdicts that hold a step which could end otherwise."""


class Action(StrEnum):
    """What is to be done now."""

    hold = "hold"
    advance = "advance"
    promote = "promote"
    pause = "pause"
    roll_back = "roll_back"


class Judgement(Struct, frozen=True, kw_only=True):
    """`evidence`: one for each guardrail, in the plan's order, then one for the assignment itself. `ripe`: the step's least time and
    units are over, or will never be, so that `why` says what holds it."""

    evidence: tuple[Evidence, ...]
    action: Action
    why: str
    ripe: bool = False


def judge(book: Book, said: Callable[[str], bool] = lambda _: True) -> Judgement:
    """Judge a rollout. `said`: whether anybody has given feedback of this name on the deployment."""
    rollout = book.rollout
    found = evidence(book, said)
    guards = list(zip(found, book.guards, strict=False))
    harmed = [one for one, _ in guards if one.verdict is Verdict.harm and one.role is Role.guardrail]
    if harmed:
        return Judgement(evidence=found, action=Action.roll_back, why=" ".join(one.words for one in harmed))
    if rollout.state in (State.starting, State.promoted):
        return Judgement(evidence=found, action=Action.hold, why=rollout.why)
    if book.tallied.problem and rollout.state is State.running:
        why = (
            f"{book.tallied.problem} Nothing that comes is counted any more: drivetrain rollout abort {rollout.deployment}, and start anew."
        )
        return Judgement(evidence=found, action=Action.pause, why=why)
    odd = [one for one in found if one.verdict is Verdict.mismatch]
    signals = [one for one, guard in guards if one.verdict is Verdict.harm and one.role is Role.signal and not guard.overruled]
    if rollout.state is State.paused:
        return Judgement(evidence=found, action=Action.hold, why=rollout.why)
    if odd or signals:
        return Judgement(evidence=found, action=Action.pause, why=" ".join(one.words for one in (*odd, *signals)))
    return _at_the_end(book, found)


def _at_the_end(book: Book, found: tuple[Evidence, ...]) -> Judgement:
    """Whether the step may be left."""
    rollout = book.rollout
    step = rollout.plan.steps[rollout.step]
    units = exposed(book)
    waits = []
    if (left := step.min_seconds - rollout.elapsed_ms / 1000) > 0:
        waits.append(f"{span(left)} more")
    if units < step.min_units:
        waits.append(f"{step.min_units - units} more units ({units} of {step.min_units} so far)")
    if waits:
        why = f"This step takes {' and '.join(waits)}."
        never = endless(book, units) if units < step.min_units else ""
        return Judgement(evidence=found, action=Action.hold, why=f"{why} {never}".rstrip(), ripe=bool(never))
    # Nobody sees the answers of a shadow, so nobody can speak of them.
    mute = step.share == 0
    guards = zip(found, rollout.plan.guardrails, strict=False)
    lacking = [one for one, guardrail in guards if one.verdict in LACKING and not (mute and is_feedback(guardrail.measure))]
    unsure = [
        one
        for one, guardrail in zip(found, rollout.plan.guardrails, strict=False)
        if guardrail.certify is not None and one.verdict is Verdict.safe
    ]
    if lacking or unsure:
        words = " ".join(one.words for one in (*lacking, *unsure))
        return Judgement(evidence=found, action=Action.hold, why=f"It waits at {_percent(step.share)}: {words}", ripe=True)
    following = rollout.step + 1
    last = following >= len(rollout.plan.steps)
    if last or rollout.plan.steps[following].share == WHOLE:
        if not rollout.plan.auto_promote:
            why = f"Everything is as it should be. It waits for somebody: drivetrain rollout promote {rollout.deployment}"
            return Judgement(evidence=found, action=Action.hold, why=why, ripe=True)
        return Judgement(evidence=found, action=Action.promote, why=f"No harm at {_percent(step.share)} {_seen(units)}.", ripe=True)
    why = f"No harm at {_percent(step.share)} {_seen(units)}: on to {_percent(rollout.plan.steps[following].share)}."
    return Judgement(evidence=found, action=Action.advance, why=why, ripe=True)


def _percent(share: int) -> str:
    return f"{share / 100:g} %" if share else "0 % (its requests are repeated ones)"


def _seen(units: int) -> str:
    return f"with {units:,} unit{'' if units == 1 else 's'}"
