"""What is written down of rollouts: rows as nouns, and the one transaction in which a rollout changes and traffic moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Conflict, NotFound
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting import journal
from drivetrain.rollout.counting.measures import Fixed
from drivetrain.rollout.counting.outputs import Known
from drivetrain.rollout.model import OPEN, Count, Decision, Evidence, Phase, Plan, Rollout, State, Tallied
from drivetrain.serving.service import WHOLE, Serving
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import upsert

DRIVETRAIN = "drivetrain"
"""Who acts where nobody did."""
QUIET = frozenset({"started", "measuring"})
"""Decisions that neither raise an alert nor end one."""


class GuardState(Struct, frozen=True, kw_only=True):
    """What is fixed of a guardrail while its rollout runs. `overruled`: somebody went on in spite of this signal."""

    number: int
    line: float | None = None
    known: Known | None = None
    from_phase: int | None = None
    overruled: bool = False


class Book(Struct, frozen=True, kw_only=True):
    """All that is written down of one rollout, as of one moment. `unheard`: of guardrails on what people say, how many opinions of the
    canary's answers and of stable's are not counted yet. `source`: the canary, as commands take it."""

    rollout: Rollout
    phases: tuple[Phase, ...]
    guards: tuple[GuardState, ...]
    tallied: Tallied
    unheard: dict[int, tuple[int, int]] = {}
    source: str = "SOURCE"

    def counts(self, guard: int) -> Sequence[Count]:
        """What a guardrail saw (-1: exposures)."""
        return self.tallied.counts.get(guard, ())


def find(c: sa.Connection, rollout_id: str, *, workspace_id: str | None = None, hold: bool = False) -> Rollout:
    """The rollout; with `hold`, nobody else changes it until the transaction ends."""
    query = sa.select(t.rollouts).where(t.rollouts.c.id == rollout_id)
    if workspace_id is not None:
        query = query.where(t.rollouts.c.workspace_id == workspace_id)
    row = c.execute(query.with_for_update() if hold else query).one_or_none()
    if row is None:
        raise NotFound(f"There is no rollout {rollout_id[:40]!r} in this workspace. See: drivetrain rollout list")
    return rollout_of(row)


def read(c: sa.Connection, rollout_id: str) -> Book:
    """Everything of one rollout."""
    rollout = find(c, rollout_id)
    fixed = {row.number: guard_of(row) for row in c.execute(sa.select(t.guards).where(t.guards.c.rollout_id == rollout_id))}
    return Book(
        rollout=rollout,
        phases=tuple(phases(c, rollout_id)),
        guards=tuple(fixed.get(i, GuardState(number=i)) for i in range(len(rollout.plan.guardrails))),
        tallied=journal.told(c, rollout_id),
    )


def phases(c: sa.Connection, rollout_id: str) -> list[Phase]:
    query = sa.select(t.phases).where(t.phases.c.rollout_id == rollout_id).order_by(t.phases.c.number)
    return [phase_of(row) for row in c.execute(query)]


def decisions(c: sa.Connection, rollout_id: str) -> list[Decision]:
    query = sa.select(t.decisions).where(t.decisions.c.rollout_id == rollout_id).order_by(t.decisions.c.id)
    return [decision_of(row) for row in c.execute(query)]


def change(
    c: sa.Connection,
    serving: Serving,
    before: Rollout,
    *,
    action: str,
    actor: str,
    why: str,
    undo: str = "",
    evidence: Sequence[Evidence] = (),
    state: State | None = None,
    step: int | None = None,
    measuring: Mapping[int, Fixed] | None = None,
    overruled: Iterable[int] = (),
) -> Rollout:
    """Change a rollout, move traffic as that wants it, and write the decision down. All of it, or nothing.

    A change of weights begins a phase; so does `measuring`: guardrails, by number, that count from then on, with what is fixed of them.
    Raises `Conflict` if somebody else changed the rollout since `before` was read.
    """
    after = msgspec.structs.replace(
        before,
        state=state if state is not None else before.state,
        step=step if step is not None else before.step,
        why=why,
        revision=before.revision + 1,
    )
    traffic = _traffic(after)
    fresh = after.state in OPEN and after.state is not State.starting and (traffic != _traffic(before) or bool(measuring))
    if fresh:
        after = msgspec.structs.replace(after, phase=before.phase + 1)
    if (
        State.starting in (before.state, after.state)
        or after.step != before.step
        or (after.state is State.promoted) != (before.state is State.promoted)
    ):
        after = msgspec.structs.replace(after, elapsed_ms=0)
    if after.state not in OPEN:
        after = msgspec.structs.replace(after, ended_ms=now_ms())
    _save(c, before, after)
    if fresh:
        share, shadow = traffic
        place = {"rollout_id": after.id, "number": after.phase, "step": after.step, "started_ms": now_ms()}
        c.execute(sa.insert(t.phases).values(**place, share=share, shadow=shadow))
    for number, fixed in (measuring or {}).items():
        known = msgspec.to_builtins(fixed.known) if fixed.known is not None else None
        row = {"rollout_id": after.id, "number": number, "line": fixed.line, "known": known, "from_phase": after.phase, "overruled": False}
        upsert(c, t.guards, [row], key=["rollout_id", "number"], update=["line", "known", "from_phase"])
    for number in overruled:
        row = {"rollout_id": after.id, "number": number, "line": None, "known": None, "from_phase": None, "overruled": True}
        upsert(c, t.guards, [row], key=["rollout_id", "number"], update=["overruled"])
    _move(c, serving, after)
    if after.state not in OPEN:
        c.execute(sa.delete(t.batches).where(t.batches.c.rollout_id == after.id))  # nobody counts any more
    note(c, after, action=action, actor=actor, why=why, undo=undo, evidence=evidence)
    return after


def note(
    c: sa.Connection, rollout: Rollout, *, action: str, actor: str, why: str, undo: str = "", evidence: Sequence[Evidence] = ()
) -> None:
    """Write a decision down."""
    c.execute(
        sa.insert(t.decisions).values(
            id=uuid7(),
            rollout_id=rollout.id,
            at_ms=now_ms(),
            actor=actor,
            action=action,
            why=why,
            step=rollout.step,
            phase=rollout.phase,
            share=rollout.share,
            evidence=msgspec.to_builtins(list(evidence)),
            undo=undo,
            told=action in QUIET,
        )
    )


def _save(c: sa.Connection, before: Rollout, after: Rollout) -> None:
    mine = t.rollouts.c.id == before.id, t.rollouts.c.revision == before.revision
    values = {name: getattr(after, name) for name in ("step", "phase", "elapsed_ms", "revision", "why", "ended_ms")}
    if c.execute(sa.update(t.rollouts).where(*mine).values(**values, state=after.state.value)).rowcount != 1:
        raise Conflict("The rollout has just changed. Look at it again: drivetrain rollout status " + before.deployment)


def _traffic(rollout: Rollout) -> tuple[int, int]:
    """The canary's share of the traffic, and of stable's requests that are repeated on it."""
    moving = rollout.state in (State.running, State.paused)
    return rollout.share, rollout.plan.steps[rollout.step].shadow if moving else 0


def _move(c: sa.Connection, serving: Serving, after: Rollout) -> None:
    held = serving.held(c, after.deployment_id)
    if held is None or held.rollout != after.id:
        return  # the deployment was deleted, or got another version, which has ended this rollout already
    share, shadow = _traffic(after)
    going_on = after.state in OPEN
    serving.move(
        c,
        after.deployment_id,
        weights={after.canary: share, after.stable: WHOLE - share},
        shadow={after.canary: shadow},
        rollout=after.id if going_on else None,
        phase=after.phase if going_on else 0,
        stable=after.stable if going_on else None,
        canary=after.canary if going_on else None,
    )
    if after.state in (State.rolled_back, State.aborted):
        serving.retire(c, [after.canary], withdrawn=True)
    elif after.state is State.closed:
        serving.retire(c, [after.stable])


def rollout_of(row: sa.Row[Any]) -> Rollout:
    values = row._asdict()
    values.pop("key")
    values["plan"] = msgspec.convert(values["plan"], Plan)
    values["state"] = State(values["state"])
    return Rollout(**values)


def phase_of(row: sa.Row[Any]) -> Phase:
    return Phase(**{name: getattr(row, name) for name in Phase.__struct_fields__})


def guard_of(row: sa.Row[Any]) -> GuardState:
    known = msgspec.convert(row.known, Known) if row.known is not None else None
    return GuardState(number=row.number, line=row.line, known=known, from_phase=row.from_phase, overruled=row.overruled)


def decision_of(row: sa.Row[Any]) -> Decision:
    values = {name: getattr(row, name) for name in Decision.__struct_fields__}
    values["evidence"] = tuple(msgspec.convert(row.evidence, list[Evidence]))
    return Decision(**values)
