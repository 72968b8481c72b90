"""What drivetrain does to rollouts by itself: wait for the version, measure, judge, then advance, hold, pause or take back.

Nothing here is decided by a wall clock: times are summed from what the caller saw pass on its monotonic clock. What is kept in memory
costs a second of such time, or a point of a curve, when the process dies; never a decision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from drivetrain.errors import Conflict, Invalid
from drivetrain.feedback.model import Opinion
from drivetrain.feedback.service import AT_ONCE, Feedback
from drivetrain.identity.model import Context, Scope
from drivetrain.profiles.model import Profile
from drivetrain.rollout import ledger
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting.fold import Counting, unheard
from drivetrain.rollout.counting.measures import Fixed, Measure, parse
from drivetrain.rollout.counting.outputs import Known, learned
from drivetrain.rollout.counting.rules import read as read_rules
from drivetrain.rollout.judging.case import settled
from drivetrain.rollout.judging.curves import Curves
from drivetrain.rollout.judging.judge import Action, Judgement, judge
from drivetrain.rollout.judging.lines import line_of
from drivetrain.rollout.ledger import DRIVETRAIN, Book
from drivetrain.rollout.model import OPEN, Decision, Rollout, State
from drivetrain.serving.gateway.outputs import Seen
from drivetrain.serving.model import Standing, Variant
from drivetrain.serving.service import WHOLE, Serving
from drivetrain.store.events.model import Event
from drivetrain.store.sql import Database

log = logging.getLogger(__name__)

KEEP_MS = 1000
"""How much of a rollout's time may be lost with the process."""
TRY_MS = 1000
EVERYWHERE_MS = 60_000
"""How long a version that is ready on one server waits for the others."""
LOOKED_AT = 500
"""Newest requests that tell what answers are like."""
HELD_MS = 5000
"""What ends by itself sooner is no hold to tell anybody of."""
_STOPPED = "no version of it has traffic by this rollout any more"


class Sign(Struct, frozen=True):
    """What tells whether something of a rollout has changed."""

    id: str
    revision: int


class Ripe:
    """A step that could end but for something."""

    def __init__(self, phase: int) -> None:
        self.phase = phase
        self.passed = 0.0
        self.noted = False


class Trained(Protocol):
    """Who knows what a variant was trained on: `drivetrain.monitoring.reference.References`."""

    def known(self, ctx: Context, variant: Variant) -> Profile | None: ...


class Answers(Protocol):
    """Who knows the newest requests of a deployment: `drivetrain.store.events.lookup.Events`."""

    def recent(self, workspace_id: str, *, deployment: str | None = None, limit: int = 100) -> Sequence[Event]: ...


class Steps:
    """The automatic side of rollouts on one database; one process at a time calls `step`. `counting`: the process's own, which the fold of
    events uses too. `answers` and `trained` tell what outputs are like; without them, guardrails on outputs know no more than they see."""

    def __init__(
        self,
        db: Database,
        serving: Serving,
        feedback: Feedback,
        counting: Counting | None = None,
        *,
        answers: Answers | None = None,
        trained: Trained | None = None,
    ) -> None:
        self._db = db
        self._serving = serving
        self._feedback = feedback
        self._counting = counting or Counting()
        self._answers = answers
        self._trained = trained
        self._passed: dict[str, float] = {}
        self._tried: dict[str, float] = {}
        self._ripe: dict[str, Ripe] = {}
        self._waiting: dict[str, list[tuple[Opinion, int]]] = {}
        self._silent: dict[str, float] = {}
        self._curves = Curves(db)

    def open(self) -> list[Sign]:
        """The open rollouts, of all workspaces."""
        query = sa.select(t.rollouts.c.id, t.rollouts.c.revision).where(t.rollouts.c.state.in_([state.value for state in OPEN]))
        with self._db.read() as c:
            found = [Sign(row.id, row.revision) for row in c.execute(query.order_by(t.rollouts.c.id))]
        self._counting.keep({sign.id for sign in found})
        self._waiting = {sign.id: self._waiting[sign.id] for sign in found if sign.id in self._waiting}
        return found

    def step(self, rollout_id: str, passed_ms: float) -> bool:
        """Look at one rollout, `passed_ms` after the last look, and take at most one step. Whether traffic has moved."""
        self._listen(rollout_id, passed_ms)
        with self._db.read() as c:
            book = whole(c, self._serving, rollout_id, self._waiting.get(rollout_id, ()))
            rollout = book.rollout
            if rollout.state not in OPEN:
                self._forget(rollout_id)
                self._curves.forget(rollout_id)
                return False
            held = self._serving.rollout_of(c, rollout.deployment_id)
            standing = self._serving.standing(c, rollout.canary, beside=rollout.stable)
        try:
            if held != rollout.id:
                return self._given_up(rollout)
            return self._step(book, standing, passed_ms)
        except Conflict:
            return False  # somebody was faster: look again

    def _listen(self, rollout_id: str, passed_ms: float) -> None:
        """Count what people have said, as soon as it can be compared. What is too young for that is asked for once a second."""
        silent = self._silent.pop(rollout_id, 0.0) - passed_ms
        if silent > 0:
            self._silent[rollout_id] = silent
            return
        more = self._feedback.ripe(rollout_id) and self._counting.count_feedback(self._db, self._feedback, rollout_id) >= AT_ONCE
        with self._db.read() as c:
            self._waiting[rollout_id] = self._feedback.waiting(c, rollout_id)
        if self._waiting[rollout_id] and not more:
            self._silent[rollout_id] = TRY_MS

    def untold(self) -> list[tuple[Rollout, Decision]]:
        """Decisions that somebody should hear of, and that `told` was not called for."""
        with self._db.read() as c:
            rows = c.execute(sa.select(t.decisions).where(~t.decisions.c.told).order_by(t.decisions.c.id).limit(100)).all()
            return [(ledger.find(c, row.rollout_id), ledger.decision_of(row)) for row in rows]

    def told(self, decision_id: str) -> None:
        with self._db.write() as c:
            c.execute(sa.update(t.decisions).where(t.decisions.c.id == decision_id).values(told=True))

    def _step(self, book: Book, standing: Standing, passed_ms: float) -> bool:
        rollout = book.rollout
        if standing.failed:
            return self._failed(rollout, standing)
        rollout = self._timed(rollout, standing, passed_ms)
        if rollout.state is State.starting:
            # A server that died for good may have left word of replicas behind; one that is merely late counts nothing until it has both.
            patient = rollout.elapsed_ms < EVERYWHERE_MS
            return (standing.everywhere or (standing.ready > 0 and not patient)) and self._begin(rollout)
        book = msgspec.structs.replace(book, rollout=rollout)
        if rollout.state is State.promoted and rollout.elapsed_ms >= rollout.plan.warm_seconds * 1000:
            return self._close(rollout)
        judgement = judge(book, self._said(rollout))
        if judgement.action is Action.hold and self._measure(book, judgement, passed_ms):
            return True
        self._curves.draw(book, judgement.evidence, passed_ms, now=judgement.action is not Action.hold)
        return self._act(book, judgement, passed_ms)

    def _begin(self, rollout: Rollout) -> bool:
        """The version is ready: its first step."""
        first = rollout.plan.steps[0]
        whole = first.share == WHOLE
        measuring = self._ready_guards(rollout, range(len(rollout.plan.guardrails)), warm=rollout.plan.settle_seconds == 0)
        return self._change(
            rollout,
            action="promoted" if whole else "advanced",
            why=f"{rollout.canary_name} is ready: {_step_words(rollout, 0)}",
            undo=f"drivetrain rollout abort {rollout.deployment}",
            state=State.promoted if whole else State.running,
            step=0,
            measuring=measuring,
        )

    def _measure(self, book: Book, judgement: Judgement, passed_ms: float) -> bool:
        """Begin to count for guardrails that can be by now: a phase of its own, so that what is counted is a function of the events."""
        rollout = book.rollout
        silent = [guard.number for guard in book.guards if guard.from_phase is None]
        tried = self._tried[rollout.id] = self._tried.get(rollout.id, TRY_MS) + passed_ms
        if rollout.state is not State.running or not silent or tried < TRY_MS:
            return False
        self._tried[rollout.id] = 0.0
        ready = self._ready_guards(rollout, silent, warm=settled(book))
        if not ready:
            return False
        names = ", ".join(rollout.plan.guardrails[number].measure for number in ready)
        lines = [f"{rollout.plan.guardrails[n].measure} over {fixed.line:.4g}" for n, fixed in ready.items() if fixed.line is not None]
        why = f"From here on {names} count{'s' if len(ready) == 1 else ''}" + (f" (bad: {', '.join(lines)})." if lines else ".")
        return self._change(rollout, action="measuring", why=why, measuring=ready, evidence=judgement.evidence)

    def _ready_guards(self, rollout: Rollout, numbers: Sequence[int], *, warm: bool) -> dict[int, Fixed]:
        """Which of these guardrails can count from now on, with what is fixed of them."""
        found: dict[int, Fixed] = {}
        known: Known | None = None
        for number in numbers:
            guardrail = rollout.plan.guardrails[number]
            measure = _measure(guardrail.measure)
            if measure is None or (measure.warm and not warm):
                continue
            line = guardrail.line
            if measure.needs_line and line is None:
                line = line_of(self._db, rollout, measure)
                if line is None:
                    continue
            if measure.looks_at_outputs:
                known = known or self._outputs(rollout)
                if measure.needs_answers and not (known.edges or known.common):
                    continue
            found[number] = Fixed(line, known if measure.looks_at_outputs else None)
        return found

    def _outputs(self, rollout: Rollout) -> Known:
        """What outputs of the version before are like, and what it was trained on."""
        answers: Sequence[Event] = ()
        if self._answers is not None:
            answers = self._answers.recent(rollout.workspace_id, deployment=rollout.deployment_id, limit=LOOKED_AT)
        stable = [one for one in answers if one.variant == rollout.stable and not one.error and not one.shadow]
        profile = None
        if self._trained is not None:
            ctx = acting_for(rollout)
            variant = next((one for one in self._serving.history(ctx, rollout.deployment) if one.id == rollout.stable), None)
            profile = self._trained.known(ctx, variant) if variant is not None else None
        return learned((Seen(one.wrong, one.form, one.said) for one in stable), profile)

    def _act(self, book: Book, judgement: Judgement, passed_ms: float) -> bool:
        rollout = book.rollout
        name, back = rollout.deployment, f"drivetrain rollout rollback {rollout.deployment}"
        if judgement.action is Action.roll_back:
            again = f"drivetrain rollout start {name} {self._source(rollout)}"
            return self._change(
                rollout, action="rolled_back", why=judgement.why, undo=again, evidence=judgement.evidence, state=State.rolled_back
            )
        if judgement.action is Action.pause:
            resume = f"drivetrain rollout resume {name}"
            return self._change(rollout, action="paused", why=judgement.why, undo=resume, evidence=judgement.evidence, state=State.paused)
        if judgement.action is Action.advance:
            step = rollout.step + 1
            return self._change(rollout, action="advanced", why=judgement.why, undo=back, evidence=judgement.evidence, step=step)
        if judgement.action is Action.promote:
            step = min(rollout.step + 1, len(rollout.plan.steps) - 1)
            return self._change(
                rollout, action="promoted", why=judgement.why, undo=back, evidence=judgement.evidence, state=State.promoted, step=step
            )
        self._hold(rollout, judgement, passed_ms)
        return False

    def _hold(self, rollout: Rollout, judgement: Judgement, passed_ms: float) -> None:
        """Say what it waits for; once in the list of decisions when something other than time and units keeps a step from its end."""
        if rollout.state is not State.running:
            return
        lasts = self._lasts(rollout, judgement, passed_ms)
        # Not more often than time is written down: the words change with every unit.
        if not lasts and (judgement.why == rollout.why or self._passed.get(rollout.id, 0.0) > KEEP_MS / 4):
            return
        with self._db.write() as c:
            mine = t.rollouts.c.id == rollout.id, t.rollouts.c.revision == rollout.revision
            if not c.execute(sa.update(t.rollouts).where(*mine).values(why=judgement.why)).rowcount or not lasts:
                return
            query = sa.select(t.decisions.c.action, t.decisions.c.step).where(t.decisions.c.rollout_id == rollout.id)
            before = c.execute(query.order_by(t.decisions.c.id.desc()).limit(1)).one_or_none()
            if before is None or (before.action, before.step) != ("held", rollout.step):
                further = rollout.step + 2 < len(rollout.plan.steps)
                undo = f"drivetrain rollout promote {rollout.deployment}" + (f" --step {rollout.step + 2}" if further else "")
                ledger.note(c, rollout, action="held", actor=DRIVETRAIN, why=judgement.why, undo=undo, evidence=judgement.evidence)

    def _lasts(self, rollout: Rollout, judgement: Judgement, passed_ms: float) -> bool:
        """Whether a hold has lasted long enough to be told of; true once."""
        if not judgement.ripe:
            self._ripe.pop(rollout.id, None)
            return False
        ripe = self._ripe.get(rollout.id)
        if ripe is None or ripe.phase != rollout.phase:
            ripe = self._ripe[rollout.id] = Ripe(rollout.phase)
        ripe.passed += passed_ms
        if ripe.noted or ripe.passed < HELD_MS:
            return False
        ripe.noted = True
        return True

    def _forget(self, rollout_id: str) -> None:
        for kept in (self._passed, self._tried, self._ripe, self._silent):
            kept.pop(rollout_id, None)

    def _failed(self, rollout: Rollout, standing: Standing) -> bool:
        why = f"{rollout.canary_name} has no replica that stays ready: {standing.failed}"
        again = f"drivetrain rollout start {rollout.deployment} {self._source(rollout)}"
        return self._change(rollout, action="rolled_back", why=why, undo=again, state=State.rolled_back)

    def _close(self, rollout: Rollout) -> bool:
        minutes = rollout.plan.warm_seconds / 60
        why = f"{rollout.canary_name} has had all traffic for {minutes:.3g} min: {rollout.stable_name} is not kept ready any more."
        return self._change(rollout, action="closed", why=why, undo=f"drivetrain rollout start {rollout.deployment} …", state=State.closed)

    def _given_up(self, rollout: Rollout) -> bool:
        """The deployment was deleted, or given another version after the promotion."""
        done = rollout.state is State.promoted
        why = f"The deployment {rollout.deployment!r} was deleted or given another version: {_STOPPED}."
        return self._change(rollout, action="closed" if done else "aborted", why=why, state=State.closed if done else State.aborted)

    def _change(self, rollout: Rollout, *, action: str, why: str, **more: Any) -> bool:
        with self._db.write() as c:
            ledger.change(c, self._serving, rollout, action=action, actor=DRIVETRAIN, why=why, **more)
        self._forget(rollout.id)
        log.info("rollout %s of %s: %s: %s", rollout.id, rollout.deployment, action, why)
        return True

    def _timed(self, rollout: Rollout, standing: Standing, passed_ms: float) -> Rollout:
        """The rollout with the time summed up in which it ran; written down now and then, else with the next decision."""
        runs = rollout.state is State.promoted or (rollout.state in (State.starting, State.running) and standing.ready > 0)
        passed = self._passed.get(rollout.id, 0.0) + (passed_ms if runs else 0.0)
        timed = msgspec.structs.replace(rollout, elapsed_ms=rollout.elapsed_ms + int(passed))
        if passed >= KEEP_MS:
            with self._db.write() as c:
                mine = t.rollouts.c.id == rollout.id, t.rollouts.c.revision == rollout.revision
                c.execute(sa.update(t.rollouts).where(*mine).values(elapsed_ms=timed.elapsed_ms))
            passed -= int(passed)
        self._passed[rollout.id] = passed
        return timed

    def _said(self, rollout: Rollout) -> Callable[[str], bool]:
        return lambda name: self._feedback.said(rollout.deployment_id, name)

    def _source(self, rollout: Rollout) -> str:
        with self._db.read() as c:
            return self._serving.source(c, rollout.canary)


def whole(c: sa.Connection, serving: Serving, rollout_id: str, waiting: Sequence[tuple[Opinion, int]]) -> Book:
    """All that is known of a rollout, with what is said and not counted yet (see `Feedback.waiting`)."""
    book = ledger.read(c, rollout_id)
    left = unheard(read_rules(c, rollout_id), waiting) if waiting else {}
    return msgspec.structs.replace(book, unheard=left, source=serving.source(c, book.rollout.canary))


def acting_for(rollout: Rollout) -> Context:
    """Who looks things up for a rollout: it may read in its workspace."""
    return Context(
        user_id="",
        user_name=DRIVETRAIN,
        workspace_id=rollout.workspace_id,
        workspace=rollout.workspace,
        scopes=frozenset({Scope.read}),
    )


def _measure(name: str) -> Measure | None:
    try:
        return parse(name)
    except Invalid:
        return None  # the judge says so


def _step_words(rollout: Rollout, step: int) -> str:
    at = rollout.plan.steps[step]
    if at.share == 0:
        return f"{at.shadow / 100:g} % of the requests are repeated on it; nobody gets its answers."
    return f"{at.share / 100:g} % of the traffic."
