"""The verbs of rollouts: what people (and programs in their name) do to them. What drivetrain does by itself is in `steps.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context, Scope
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import MAX_ID, Thing
from drivetrain.rollout import ledger
from drivetrain.rollout import tables as t
from drivetrain.rollout.counting.measures import parse
from drivetrain.rollout.judging.case import evidence
from drivetrain.rollout.judging.curves import curves
from drivetrain.rollout.model import OPEN, CurvePoint, Decision, Evidence, Forecast, People, Phase, Plan, Rollout, State, Verdict
from drivetrain.rollout.planning.planner import people_of, plan_rollout
from drivetrain.rollout.steps import Answers, whole
from drivetrain.serving.gateway.outputs import LOOKED_AT
from drivetrain.serving.model import Deployment, Variant
from drivetrain.serving.service import WHOLE, Serving
from drivetrain.store.events.counters import total
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database

MOST_LISTED = 500
HOUR_MS = 3_600_000
ENOUGH = 100
"""Requests that tell how many come."""
TELLING = 5_000
"""Newest requests that tell who asks."""
ASSUMED_RATE, ASSUMED_BASE = 10.0, 0.01


class Rollouts:
    """Rollouts of one database. `nudge` tells the supervisor that traffic is to move; `answers` tells forecasts who asks."""

    def __init__(
        self, db: Database, serving: Serving, feedback: Feedback, nudge: Callable[[str], None], answers: Answers | None = None
    ) -> None:
        self._answers = answers
        self._db = db
        self._serving = serving
        self._feedback = feedback
        self._nudge = nudge

    def start(
        self,
        ctx: Context,
        deployment: str,
        source: str,
        plan: Plan,
        *,
        key: str | None = None,
        origin: Mapping[str, Any] | None = None,
        why: str = "",
        **variant: Any,
    ) -> Rollout:
        """Begin to move the traffic of a deployment to the version that `source` names. `variant`: engine, options, min_replicas,
        max_replicas and prices, as of `Serving.prepare_variant`. The same `key` again gives the same rollout.

        Raises `Conflict` while another rollout of the deployment is open, or nothing serves that it could be compared with.
        """
        ctx.require(Scope.write)
        key = f"{ctx.workspace_id}:{key}" if key else None
        if key is not None and (known := self._by_key(key)) is not None:
            return known
        target = self._serving.get(ctx, deployment)
        stable = _comparable(target)
        values = self._serving.prepare_variant(ctx, target, source, **variant)
        identity = uuid7()
        try:
            with self._db.write() as c:
                held = self._serving.held(c, target.id)
                if held is None:
                    raise NotFound(f"The deployment {deployment!r} has just been deleted.")
                if held.rollout is not None:
                    raise Conflict(
                        f"{deployment!r} is in a rollout already. Look at it: drivetrain rollout status {deployment}. A version that has "
                        f"all traffic: drivetrain rollout close {deployment}. Otherwise end it: drivetrain rollout abort {deployment}."
                    )
                canary = self._serving.insert_variant(c, ctx, target.id, values)
                words = why or f"{canary.name} ({canary.repo}) against {stable.name}, by the plan {plan.name}"
                rollout = Rollout(
                    id=identity,
                    workspace_id=ctx.workspace_id,
                    workspace=ctx.workspace,
                    deployment_id=target.id,
                    deployment=target.name,
                    stable=stable.id,
                    canary=canary.id,
                    stable_name=stable.name,
                    canary_name=canary.name,
                    plan=_fitting(plan, target, stable),
                    state=State.starting,
                    step=0,
                    phase=0,
                    elapsed_ms=0,
                    revision=1,
                    why=f"{canary.name} is starting; it gets traffic when it is ready",
                    created_ms=now_ms(),
                    created_by=ctx.user_name,
                    origin=dict(origin or {}),
                )
                c.execute(sa.insert(t.rollouts).values(**_row(rollout), key=key))
                lineage.link(c, ctx, Thing("rollout", identity), "brought", Thing("variant", canary.id))
                if isinstance(began_by := rollout.origin.get("retraining"), str) and len(began_by) <= MAX_ID:
                    lineage.link(c, ctx, Thing("retraining", began_by), "began", Thing("rollout", identity))
                self._serving.move(c, target.id, weights={stable.id: WHOLE}, rollout=identity, phase=0, stable=stable.id, canary=canary.id)
                undo = f"drivetrain rollout abort {target.name}"
                ledger.note(c, rollout, action="started", actor=ctx.user_name, why=words, undo=undo)
        except sa.exc.IntegrityError as error:
            if key is not None and (known := self._by_key(key)) is not None:
                return known
            raise Conflict(f"Somebody else changed {deployment!r} at the same moment. Look at it, then try again.") from error
        self._nudge("deployments")
        return rollout

    def get(self, ctx: Context, rollout_id: str) -> Rollout:
        ctx.require(Scope.read)
        with self._db.read() as c:
            return ledger.find(c, rollout_id, workspace_id=ctx.workspace_id)

    def list(self, ctx: Context, *, deployment: str | None = None, open_only: bool = False, limit: int = 50) -> Sequence[Rollout]:
        """The newest rollouts of the workspace, or of one deployment (by name; of earlier ones of this name too)."""
        ctx.require(Scope.read)
        query = sa.select(t.rollouts).where(t.rollouts.c.workspace_id == ctx.workspace_id).order_by(t.rollouts.c.id.desc())
        if deployment is not None:
            query = query.where(t.rollouts.c.deployment == deployment)
        if open_only:
            query = query.where(t.rollouts.c.state.in_([state.value for state in OPEN]))
        with self._db.read() as c:
            return [ledger.rollout_of(row) for row in c.execute(query.limit(min(limit, MOST_LISTED)))]

    def current(self, ctx: Context, deployment: str) -> Rollout | None:
        """The open rollout of a deployment, if there is one."""
        found = self.list(ctx, deployment=deployment, open_only=True, limit=1)
        return found[0] if found else None

    def decisions(self, ctx: Context, rollout_id: str) -> Sequence[Decision]:
        """What was done to it, the oldest first."""
        self.get(ctx, rollout_id)
        with self._db.read() as c:
            return ledger.decisions(c, rollout_id)

    def phases(self, ctx: Context, rollout_id: str) -> Sequence[Phase]:
        self.get(ctx, rollout_id)
        with self._db.read() as c:
            return ledger.phases(c, rollout_id)

    def book(self, ctx: Context, rollout_id: str) -> ledger.Book:
        """All that is written down of it: phases, guardrails' lines, counts."""
        self.get(ctx, rollout_id)
        with self._db.read() as c:
            return ledger.read(c, rollout_id)

    def evidence(self, ctx: Context, rollout_id: str) -> Sequence[Evidence]:
        """Each guardrail's case now, in the plan's order, and last the assignment's; of one that has ended, as it was then."""
        rollout = self.get(ctx, rollout_id)
        with self._db.read() as c:
            if rollout.state not in OPEN and (last := ledger.decisions(c, rollout_id)[-1].evidence):
                return last
            return self._judged(c, rollout)

    def curves(self, ctx: Context, rollout_id: str) -> Sequence[CurvePoint]:
        """The evidence over time, thinned."""
        self.get(ctx, rollout_id)
        with self._db.read() as c:
            return curves(c, rollout_id)

    def forecast(
        self,
        ctx: Context,
        plan: Plan,
        *,
        deployment: str | None = None,
        units_per_second: float | None = None,
        base_rate: float | None = None,
        ratio: float = 2.0,
    ) -> Forecast:
        """What to expect of a plan. What is not said is taken from the deployment's last day: its requests, and its share of errors."""
        ctx.require(Scope.read)
        if ratio <= 1.0 or (base_rate is not None and not 0.0 <= base_rate <= 1.0) or (units_per_second or 0.0) < 0.0:
            raise Invalid("A ratio is above 1, a base rate between 0 and 1, and units a second are not negative.", param="ratio")
        people, own = self._pace(ctx, deployment) if deployment is not None else (People(fresh=ASSUMED_RATE), ASSUMED_BASE)
        if units_per_second is not None:
            people = People(fresh=units_per_second)
        base = base_rate if base_rate is not None else own
        of = {"known": people.known, "requests_per_second": people.requests}
        return plan_rollout(plan, units_per_second=people.fresh, base_rate=base, ratio=ratio, **of)

    def _pace(self, ctx: Context, deployment: str) -> tuple[People, float]:
        """Who asks, and the share of errors (where there was none: one in a hundred is assumed)."""
        target = self._serving.get(ctx, deployment)
        for length in (HOUR_MS, 24 * HOUR_MS):
            seen = total(self._db, [target.id], since_ms=now_ms() - length, until_ms=now_ms() + HOUR_MS)
            if seen.requests >= ENOUGH:
                newest = self._answers.recent(ctx.workspace_id, deployment=target.id, limit=TELLING) if self._answers is not None else ()
                units = [one.unit for one in newest if not one.shadow] or [""]
                people = people_of(units, seen.requests / (length / 1000), by_request=target.unit == "request")
                return people, seen.errors / seen.requests or ASSUMED_BASE
        raise Invalid(
            f"{deployment!r} has had too little traffic to plan with. Say what is to come: units_per_second and base_rate "
            f"(drivetrain rollout plan {deployment} --rate 10 --base 0.01).",
            param="units_per_second",
        )

    def pause(self, ctx: Context, rollout_id: str, *, why: str = "") -> Rollout:
        """Leave the traffic as it is until somebody resumes. A guardrail's harm still takes the rollout back."""
        return self._act(ctx, rollout_id, "paused", (State.running,), State.paused, why, undo="drivetrain rollout resume {}")

    def resume(self, ctx: Context, rollout_id: str, *, why: str = "") -> Rollout:
        """Go on. Signals that paused it are overruled: they do not pause it again."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            rollout = self._held(c, ctx, rollout_id, (State.paused,), "resumed")
            found = self._judged(c, rollout)
            _refuse_mismatch(rollout, found)
            overruled = [number for number, one in enumerate(found) if one.verdict is Verdict.harm]
            after = ledger.change(
                c,
                self._serving,
                rollout,
                action="resumed",
                actor=ctx.user_name,
                why=why or f"{ctx.user_name} resumed it",
                undo=f"drivetrain rollout pause {rollout.deployment}",
                evidence=found,
                state=State.running,
                overruled=overruled,
            )
        self._nudge("deployments")
        return after

    def promote(self, ctx: Context, rollout_id: str, *, step: int | None = None, why: str = "") -> Rollout:
        """Skip ahead: to a step (counted from 1), or to all traffic. Raises `Conflict` while the arms cannot be compared."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            rollout = self._held(c, ctx, rollout_id, (State.running, State.paused), "promoted")
            found = self._judged(c, rollout)
            _refuse_mismatch(rollout, found)
            to = _step(rollout, step)
            whole = to >= len(rollout.plan.steps) or rollout.plan.steps[to].share == WHOLE
            after = ledger.change(
                c,
                self._serving,
                rollout,
                action="promoted" if whole else "advanced",
                actor=ctx.user_name,
                why=why or (f"{ctx.user_name} gave it all traffic" if whole else f"{ctx.user_name} skipped ahead to step {to + 1}"),
                undo=f"drivetrain rollout rollback {rollout.deployment}",
                evidence=found,
                state=State.promoted if whole else State.running,
                step=min(to, len(rollout.plan.steps) - 1),
            )
        self._nudge("deployments")
        return after

    def abort(self, ctx: Context, rollout_id: str, *, why: str = "") -> Rollout:
        """Stop it before its version has all traffic: the version before gets everything back."""
        before = (State.starting, State.running, State.paused)
        return self._act(ctx, rollout_id, "aborted", before, State.aborted, why, undo="drivetrain rollout start {} {}")

    def rollback(self, ctx: Context, rollout_id: str, *, why: str = "") -> Rollout:
        """Give all traffic back to the version before: it is still running, so that only the route table changes."""
        return self._act(ctx, rollout_id, "rolled_back", OPEN, State.rolled_back, why, undo="drivetrain rollout start {} {}")

    def close(self, ctx: Context, rollout_id: str, *, why: str = "") -> Rollout:
        """Let go of the version before, which is kept ready after a promotion."""
        return self._act(ctx, rollout_id, "closed", (State.promoted,), State.closed, why, undo="drivetrain rollout start {} {stable}")

    def _act(self, ctx: Context, rollout_id: str, action: str, of: Sequence[State], to: State, why: str, *, undo: str) -> Rollout:
        ctx.require(Scope.write)
        with self._db.write() as c:
            rollout = self._held(c, ctx, rollout_id, of, action)
            words = why or f"{ctx.user_name} {_SAID[action]}"
            source = self._serving.source(c, rollout.stable if action == "closed" else rollout.canary)
            told = undo.replace("{stable}", "{}").format(*(rollout.deployment, source)[: undo.count("{")])
            evidence = self._judged(c, rollout)
            after = ledger.change(
                c, self._serving, rollout, action=action, actor=ctx.user_name, why=words, undo=told, evidence=evidence, state=to
            )
        self._nudge("deployments")
        return after

    def _held(self, c: sa.Connection, ctx: Context, rollout_id: str, of: Sequence[State], what: str) -> Rollout:
        rollout = ledger.find(c, rollout_id, workspace_id=ctx.workspace_id, hold=True)
        if rollout.state not in of:
            allowed = " or ".join(state.value.replace("_", " ") for state in of)
            raise Conflict(
                f"This rollout of {rollout.deployment!r} is {rollout.state.value.replace('_', ' ')}; only one that is {allowed} can be "
                f"{what.replace('_', ' ')}. {_ADVICE.get(rollout.state, '').format(rollout.deployment)}".rstrip()
            )
        return rollout

    def _judged(self, c: sa.Connection, rollout: Rollout) -> tuple[Evidence, ...]:
        waiting = self._feedback.waiting(c, rollout.id) if rollout.state in OPEN else ()
        book = whole(c, self._serving, rollout.id, waiting)
        return evidence(book, lambda name: self._feedback.said(rollout.deployment_id, name))

    def _by_key(self, key: str) -> Rollout | None:
        with self._db.read() as c:
            row = c.execute(sa.select(t.rollouts).where(t.rollouts.c.key == key)).one_or_none()
        return ledger.rollout_of(row) if row is not None else None


_SAID = {"paused": "paused it", "aborted": "aborted it", "rolled_back": "took it back", "closed": "closed it"}
_ADVICE = {
    State.starting: "Its version is not ready yet; to stop it: drivetrain rollout abort {0}",
    State.running: "It moves by itself; to hold it: drivetrain rollout pause {0}",
    State.paused: "To go on: drivetrain rollout resume {0}; to go back: drivetrain rollout abort {0}",
    State.promoted: "To go back to the version before: drivetrain rollout rollback {0}; to let go of that: drivetrain rollout close {0}",
    State.closed: "It has ended: what serves now can be replaced by another rollout.",
    State.rolled_back: "It has ended: the version before has all traffic.",
    State.aborted: "It has ended: the version before has all traffic.",
}


def _row(rollout: Rollout) -> dict[str, Any]:
    values = msgspec.structs.asdict(rollout)
    return {**values, "plan": msgspec.to_builtins(rollout.plan), "state": rollout.state.value}


def _comparable(deployment: Deployment) -> Variant:
    """The variant that serves now."""
    if deployment.implicit:
        raise Conflict(
            f"{deployment.name!r} was made by calling a model by its name. Make a deployment of it first: drivetrain deploy NAME SOURCE"
        )
    stable = max((one for one in deployment.variants if one.retired_ms is None), key=lambda one: one.weight, default=None)
    if stable is None or stable.ready_ms is None:
        raise Conflict(
            f"{deployment.name!r} has no version that has served yet, so there is nothing to compare another with. Give it the new "
            f"version at once: drivetrain deploy {deployment.name} SOURCE"
        )
    return stable


def _fitting(plan: Plan, target: Deployment, stable: Variant) -> Plan:
    """The plan for this deployment: by its units; and without guardrails on outputs where there are only vectors, which nobody looks at."""
    guardrails = plan.guardrails
    if not set(stable.tasks) & LOOKED_AT:
        guardrails = tuple(one for one in guardrails if not parse(one.measure).looks_at_outputs)
    if not guardrails:
        raise Invalid(f"{target.name!r} answers with vectors, and these guardrails look at text and predictions.", param="guardrails")
    return msgspec.structs.replace(plan, by=target.unit, guardrails=guardrails)


def _step(rollout: Rollout, number: int | None) -> int:
    """The index of the step to go to; the number of steps means: all traffic."""
    steps = rollout.plan.steps
    if number is None:
        return len(steps)
    if not rollout.step + 1 < number <= len(steps):
        raise Invalid(
            f"The rollout is at step {rollout.step + 1} of {len(steps)}: skip ahead to a later step, or to all traffic (without a step). "
            f"To go back: drivetrain rollout abort {rollout.deployment}",
            param="step",
        )
    return number - 1


def _refuse_mismatch(rollout: Rollout, found: Sequence[Evidence]) -> None:
    for one in found:
        if one.verdict is Verdict.mismatch:
            raise Conflict(
                f"The versions cannot be compared, so this rollout cannot go on: {one.words} Find out why, then: drivetrain rollout abort "
                f"{rollout.deployment}, and start anew. To give the version all traffic unjudged: drivetrain deploy."
            )
