"""How a rollout counts: which events and opinions say what, for which guardrail, from which phase on.

All of it is fixed before a phase begins: who counts the same lines again gets the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting.batch import Slot, layout
from drivetrain.rollout.counting.measures import Answered, Fixed, Measure, Observation, parse
from drivetrain.rollout.counting.outputs import Known
from drivetrain.rollout.model import OPEN, Plan

WHOLE = 10_000
Observe = Callable[[Answered, Fixed], Observation | None]


@dataclass(frozen=True, slots=True)
class Guard:
    """A guardrail as it counts now. `number` is its place in the plan; `slot` where its counts are."""

    number: int
    measure: Measure
    fixed: Fixed
    from_phase: int | None
    slot: Slot


@dataclass(frozen=True)
class Rules:
    """How a rollout counts. `by_request`: each request is a unit of its own, whoever asks."""

    id: str
    revision: int
    stable: str
    canary: str
    by_request: bool
    guards: tuple[Guard, ...]
    slots: tuple[Slot, ...]
    phases: dict[int, tuple[int, int]]
    """By number: the canary's share of the traffic, and the share of stable's requests that is repeated on it."""

    def arm(self, variant: str) -> int | None:
        """0 for the canary, 1 for stable."""
        return 0 if variant == self.canary else 1 if variant == self.stable else None

    def repeats(self, phase: int) -> float:
        """The share (0 to 1) of stable's requests that is compared with its repetition, in a phase in which that is all there is; else 0.
        With traffic of its own the canary is judged by that: repetitions would change the proportion of the two."""
        share, shadow = self.phases.get(phase, (WHOLE, 0))
        return 0.0 if share else shadow / WHOLE

    def compares(self, phase: int) -> bool:
        """Whether both versions have something to be compared in this phase."""
        share, shadow = self.phases.get(phase, (WHOLE, 0))
        return 0 < share < WHOLE or (share == 0 and shadow > 0)

    @property
    def shares(self) -> dict[int, float]:
        """Of each phase the canary's share of what is compared: each repeated request meets its original, one to one."""
        return {number: 0.5 if share == 0 and shadow else share / WHOLE for number, (share, shadow) in self.phases.items()}

    def observing(self, phase: int) -> list[tuple[Guard, Observe]]:
        """The guardrails that look at events of this phase."""
        return [
            (guard, guard.measure.observe_event)
            for guard in self.guards
            if guard.measure.observe_event is not None and guard.from_phase is not None and phase >= guard.from_phase
        ]


class RuleBook:
    """Rules as they are now, read again when a rollout has changed."""

    def __init__(self) -> None:
        self._known: dict[str, Rules] = {}

    def of(self, c: sa.Connection, rollout: str) -> Rules | None:
        """How this rollout counts; None if it has ended, or is none. Holds its row, so that two servers count one after the other."""
        row = c.execute(_STANDS, {"rollout": rollout}).one_or_none()
        if row is None or row.state not in _OPEN:
            return None
        known = self._known.get(rollout)
        if known is None or known.revision != row.revision:
            known = self._known[rollout] = read(c, rollout)
        return known

    def keep(self, rollouts: Collection[str]) -> None:
        """Let go of all others."""
        self._known = {rollout: rules for rollout, rules in self._known.items() if rollout in rollouts}


_OPEN = frozenset(state.value for state in OPEN)
# Made once: to build a statement takes longer than to run it.
_STANDS = sa.select(t.rollouts.c.revision, t.rollouts.c.state).where(t.rollouts.c.id == sa.bindparam("rollout")).with_for_update()


def read(c: sa.Connection, rollout: str) -> Rules:
    row = c.execute(sa.select(t.rollouts).where(t.rollouts.c.id == rollout)).one()
    plan = msgspec.convert(row.plan, Plan)
    fixed = {one.number: one for one in c.execute(sa.select(t.guards).where(t.guards.c.rollout_id == rollout))}
    phases = c.execute(sa.select(t.phases).where(t.phases.c.rollout_id == rollout))
    measures: list[Measure | None] = []
    for guardrail in plan.guardrails:
        try:
            measures.append(parse(guardrail.measure))
        except Invalid:
            measures.append(None)  # the judge says so; what else there is must be counted nevertheless
    slots = layout(
        (
            number,
            measure.kind if measure is not None else "count",
            plan.guardrails[number].tolerance,
            measure is not None and measure.source == "feedback",
        )
        for number, measure in enumerate(measures)
    )
    guards = []
    for number, (guardrail, measure, slot) in enumerate(zip(plan.guardrails, measures, slots[1:], strict=True)):
        at = fixed.get(number)
        if measure is None:
            continue
        line = guardrail.line if guardrail.line is not None else at.line if at is not None else None
        known = msgspec.convert(at.known, Known) if at is not None and at.known is not None else None
        guards.append(Guard(number, measure, Fixed(line, known), at.from_phase if at is not None else None, slot))
    return Rules(
        id=rollout,
        revision=row.revision,
        stable=row.stable,
        canary=row.canary,
        by_request=plan.by == "request",
        guards=tuple(guards),
        slots=slots,
        phases={phase.number: (phase.share, phase.shadow) for phase in phases},
    )
