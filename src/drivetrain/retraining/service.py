"""The verbs of retraining: policies, and what people and jobs do to single retrainings. What starts them is in `watch.py`."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from drivetrain.errors import Conflict, DrivetrainError, Invalid, NotFound
from drivetrain.feedback.model import Scalar
from drivetrain.feedback.service import Feedback
from drivetrain.identity.model import Context, Scope
from drivetrain.jobs import ledger as stages
from drivetrain.jobs.model import Done
from drivetrain.jobs.service import Jobs
from drivetrain.lineage import service as lineage
from drivetrain.lineage.model import Thing
from drivetrain.registry.service import Registry
from drivetrain.retraining import ledger
from drivetrain.retraining import tables as t
from drivetrain.retraining.model import (
    LONGEST_SECONDS,
    OPEN,
    STAGES,
    TIME_LIMIT_SECONDS,
    Gate,
    Labelled,
    Policy,
    Retraining,
    Stage,
    State,
    TrainingSet,
    Trigger,
    held_out,
)
from drivetrain.retraining.progress import doing
from drivetrain.rollout.planning.plans import parse_plan
from drivetrain.rollout.service import Rollouts
from drivetrain.serving.model import Deployment
from drivetrain.serving.service import Serving
from drivetrain.store.events.lookup import Events
from drivetrain.store.events.model import Event
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database
from drivetrain.tracking.model import Owner
from drivetrain.tracking.service import Tracking

MOST_LISTED = 500
PIECE = 1 << 17
_RUN = re.compile(r"runs:/([0-9a-f]{32})/(.+)")


class Retrainings:
    """Policies and retrainings of one database. `nudge` tells the supervisor that there is something to do."""

    def __init__(
        self,
        db: Database,
        registry: Registry,
        tracking: Tracking,
        serving: Serving,
        feedback: Feedback,
        rollouts: Rollouts,
        jobs: Jobs,
        events: Events,
        nudge: Callable[[str], None],
    ) -> None:
        self._db = db
        self._registry = registry
        self._tracking = tracking
        self._serving = serving
        self._feedback = feedback
        self._rollouts = rollouts
        self._jobs = jobs
        self._events = events
        self._nudge = nudge

    # Policies.

    def set_policy(
        self,
        ctx: Context,
        deployment: str,
        *,
        script: str,
        entry: str = "",
        model: str = "",
        base: str = "",
        label: str = "",
        days: float | None = None,
        trigger: Trigger | None = None,
        gate: Gate | None = None,
        plan: str | Mapping[str, Any] | None = None,
        time_limit: float = TIME_LIMIT_SECONDS,
    ) -> Policy:
        """Say how a deployment is trained again; what was said before is replaced. Without a `model`, the one that serves now gets the
        versions. Raises `Invalid` or `NotFound` for what could not be run."""
        ctx.require(Scope.write)
        target = self._serving.get(ctx, deployment)
        script, entry = self._script(ctx, script, entry)
        if base:
            base = self._base(ctx, base)
        if len(label) > 250:
            raise Invalid("The name of labels has up to 250 characters.", param="label")
        if days is not None and not days > 0:
            raise Invalid("days is a positive number.", param="days")
        if plan is not None:
            parse_plan(plan)
        if not 1 <= time_limit <= LONGEST_SECONDS:
            raise Invalid(f"time_limit is in seconds, from 1 to {LONGEST_SECONDS:,.0f}.", param="time_limit")
        values = {
            "deployment": target.name,
            "script": script,
            "entry": entry,
            "model": self._registry.get_repo(ctx, model).slug if model else _model(target),
            "base": base,
            "label": label,
            "days": days,
            "trigger": msgspec.to_builtins(_checked_trigger(trigger or Trigger())),
            "gate": msgspec.to_builtins(_checked_gate(gate or Gate())),
            "plan": plan if plan is None or isinstance(plan, str) else dict(plan),
            "time_limit": time_limit,
            **ledger.FRESH_START,
            "paused": False,
            "words": "",
            "created_ms": now_ms(),
            "created_by": ctx.user_name,
            "user_id": ctx.user_id,
        }
        owner = {"workspace_id": ctx.workspace_id, "workspace": ctx.workspace, "deployment_id": target.id}
        start = {"rested_ms": 0, "alarmed_ms": 0, "fresh": True, "labels": 0}
        with self._db.write() as c:
            if c.execute(sa.update(t.policies).where(t.policies.c.deployment_id == target.id).values(**values)).rowcount == 0:
                c.execute(sa.insert(t.policies).values(id=uuid7(), **owner, **start, **values))
        self._nudge("retraining")
        return self.policy(ctx, deployment)

    def policy(self, ctx: Context, deployment: str) -> Policy:
        """How a deployment is trained again. Raises `NotFound`."""
        ctx.require(Scope.read)
        with self._db.read() as c:
            return ledger.policy_of(self._policy(c, ctx, deployment))

    def policies(self, ctx: Context) -> builtins.list[Policy]:
        """All policies of the workspace, by their deployments' names."""
        ctx.require(Scope.read)
        query = sa.select(t.policies).where(t.policies.c.workspace_id == ctx.workspace_id).order_by(t.policies.c.deployment)
        with self._db.read() as c:
            return [ledger.policy_of(row) for row in c.execute(query)]

    def pause(self, ctx: Context, deployment: str) -> Policy:
        """Start nothing by itself until somebody resumes. What runs goes on."""
        return self._set_paused(ctx, deployment, True)

    def resume(self, ctx: Context, deployment: str) -> Policy:
        """Start by itself again, also after failures that had ended that."""
        return self._set_paused(ctx, deployment, False)

    def delete_policy(self, ctx: Context, deployment: str) -> None:
        """Never again by itself. Raises `Conflict` while it is being trained again."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            row = self._policy(c, ctx, deployment)
            if c.execute(
                sa.select(t.retrainings.c.id).where(t.retrainings.c.policy_id == row.id, t.retrainings.c.ended_ms.is_(None))
            ).first():
                raise Conflict(f"{deployment!r} is being trained again. End that first: drivetrain retrain list {deployment}")
            c.execute(sa.delete(t.policies).where(t.policies.c.id == row.id))

    # Retrainings.

    def start(self, ctx: Context, deployment: str, *, why: str = "") -> Retraining:
        """Train again now, whatever the trigger says. Raises `Conflict` while that is being done already."""
        ctx.require(Scope.write)
        with self._db.read() as c:
            row = self._policy(c, ctx, deployment)
        target = self._serving.get(ctx, deployment)
        labels = self._feedback.count_labels(ctx.workspace_id, target.id, name=row.label or None)
        reason = why or f"{ctx.user_name} asked for it"
        try:
            with self._db.write() as c:
                row = self._policy(c, ctx, deployment)
                identity = ledger.begin(
                    c, row, cause=ctx.user_name, why=reason, actor=ctx.user_name, trigger={}, labels=labels, from_ms=target.created_ms
                )
        except sa.exc.IntegrityError as error:
            raise Conflict(f"{deployment!r} has just begun to be trained again. See: drivetrain retrain list {deployment}") from error
        self._nudge("retraining")
        return self.get(ctx, identity)

    def list(self, ctx: Context, *, deployment: str | None = None, limit: int = 50) -> builtins.list[Retraining]:
        """The newest retrainings of the workspace, or of one deployment (by name)."""
        ctx.require(Scope.read)
        query = sa.select(t.retrainings).where(t.retrainings.c.workspace_id == ctx.workspace_id).order_by(t.retrainings.c.id.desc())
        if deployment is not None:
            query = query.where(t.retrainings.c.deployment == deployment)
        with self._db.read() as c:
            found = ledger.with_stages(c, [*c.execute(query.limit(max(1, min(limit, MOST_LISTED))))])
        return [self._doing(ctx, one) for one in found]

    def get(self, ctx: Context, retraining_id: str) -> Retraining:
        """One retraining, by its id. Raises `NotFound`."""
        ctx.require(Scope.read)
        with self._db.read() as c:
            found = ledger.find(c, retraining_id, workspace_id=ctx.workspace_id)
        return self._doing(ctx, found)

    def recipe(self, ctx: Context, retraining_id: str) -> Policy:
        """The policy as it was when the retraining began."""
        ctx.require(Scope.read)
        with self._db.read() as c:
            mine = t.retrainings.c.id == retraining_id, t.retrainings.c.workspace_id == ctx.workspace_id
            found = c.execute(sa.select(t.retrainings.c.policy).where(*mine)).scalar_one_or_none()
        if found is None:
            raise NotFound(f"There is no retraining {retraining_id[:40]!r} in this workspace. See: drivetrain retrain list")
        return msgspec.convert(found, Policy)

    def cancel(self, ctx: Context, retraining_id: str, *, why: str = "") -> Retraining:
        """End it; a version that it has registered stays, and gets no traffic by it. One that has ended stays as it is."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            one = ledger.find(c, retraining_id, workspace_id=ctx.workspace_id, hold=True)
            if one.ended_ms is None:
                ledger.change(c, one, State.cancelled, why or f"{ctx.user_name} cancelled it")
        if one.ended_ms is None and one.job_id is not None:
            self._jobs.cancel(ctx, one.job_id)
        self._nudge("retraining")
        return self.get(ctx, retraining_id)

    # What the job asks and says.

    def labelled(self, ctx: Context, retraining_id: str) -> Iterator[bytes]:
        """What the query of its training set finds, in pieces: one JSON line (`Labelled`) for each labelled answer, those held out too."""
        query = self.get(ctx, retraining_id).training_set
        assert query is not None
        said = self._feedback.labels_of(ctx, query.deployment_id, name=query.label or None, upto_ms=query.to_ms)
        return _pieces(_found(self._events.lines(ctx.workspace_id, query.deployment_id, since_ms=query.from_ms), query, said))

    def advance(
        self, ctx: Context, retraining_id: str, stage: Stage, *, words: str, facts: Mapping[str, Any], undo: str = ""
    ) -> Retraining:
        """Write down that a stage was done; said again, it stays as it was said first. A gate that was not passed ends the retraining.
        Raises `Conflict` when it has ended already, as when somebody cancelled it, or when the stage is not the next."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            one = ledger.find(c, retraining_id, workspace_id=ctx.workspace_id, hold=True)
            if stage not in {before.stage for before in one.stages}:
                _refuse_ended(one)
                stages.advance(c, one.id, STAGES, stage, Done(words=words, facts=dict(facts), undo=undo))
                if (made := self._made(c, ctx, one, stage, facts)) is not None:
                    lineage.link(c, ctx, Thing("retraining", one.id), "made", made)
                if stage is Stage.gate and not facts["passed"]:
                    ledger.change(c, one, State.refused, words)
                elif one.state is State.queued:
                    ledger.change(c, one, State.running, one.why, tell=False)
        return self.get(ctx, retraining_id)

    def roll_out(self, ctx: Context, retraining_id: str) -> Retraining:
        """Begin the rollout of a version that passed the gate. While another rollout of the deployment is open, it waits for that.
        Asked again, it is the same rollout."""
        ctx.require(Scope.write)
        one = self.get(ctx, retraining_id)
        if one.rollout_id is not None:
            return one
        _refuse_ended(one)
        if one.gate is None or not one.gate.passed or one.version is None:
            raise Conflict("Its version has not passed the gate.")
        source = f"models:/{one.model}/{one.version}"
        plan = self._plan(ctx, self.recipe(ctx, retraining_id))
        try:
            rollout = self._rollouts.start(
                ctx,
                one.deployment,
                source,
                plan,
                key=f"retraining:{one.id}",
                origin={"retraining": one.id, "version": source},
                why=one.gate.words,
            )
        except Conflict as error:
            return self._wait(ctx, one, error)
        told = f"{source} is rolled out to {one.deployment} by the plan {plan.name}, with its guardrails"
        with self._db.write() as c:
            done = Done(words=told, facts={"rollout_id": rollout.id}, undo=f"drivetrain rollout abort {one.deployment}")
            stages.write(c, one.id, Stage.rollout, done)
            if ledger.find(c, one.id, hold=True).ended_ms is None:
                ledger.change(c, one, State.rolled_out, told)
        self._nudge("retraining")
        return self.get(ctx, retraining_id)

    def _made(self, c: sa.Connection, ctx: Context, one: Retraining, stage: Stage, facts: Mapping[str, Any]) -> Thing | None:
        """The run or the version that the stage has made."""
        if stage is Stage.run:
            return Thing("run", facts["run_id"])
        if stage is Stage.version and (version := self._registry.version_id(c, ctx, one.model, facts["version"])) is not None:
            return Thing("version", version)
        return None

    def _doing(self, ctx: Context, one: Retraining) -> Retraining:
        if one.state not in OPEN:
            return one
        job = self._jobs.get(ctx, one.job_id) if one.job_id is not None else None
        return msgspec.structs.replace(one, doing=doing(one, job, now_ms()))

    def _wait(self, ctx: Context, one: Retraining, error: DrivetrainError) -> Retraining:
        told = f"It waits to be rolled out: {error.message}"
        with self._db.write() as c:
            now = ledger.find(c, one.id, hold=True)
            if now.ended_ms is None and (now.state, now.why) != (State.waiting, told):
                ledger.change(c, now, State.waiting, told, tell=now.state is not State.waiting)
        return self.get(ctx, one.id)

    def _plan(self, ctx: Context, policy: Policy) -> Any:
        if policy.plan is not None:
            return parse_plan(policy.plan)
        last = self._rollouts.list(ctx, deployment=policy.deployment, limit=1)
        return last[0].plan if last else parse_plan("safe")

    def _policy(self, c: sa.Connection, ctx: Context, deployment: str) -> sa.Row[Any]:
        target = self._serving.get(ctx, deployment)
        row = c.execute(sa.select(t.policies).where(t.policies.c.deployment_id == target.id).with_for_update()).one_or_none()
        if row is None:
            raise NotFound(
                f"{deployment!r} has no policy of retraining. Give it one: drivetrain retrain policy {deployment} --script train.py"
            )
        return row

    def _set_paused(self, ctx: Context, deployment: str, paused: bool) -> Policy:
        ctx.require(Scope.write)
        with self._db.write() as c:
            row = self._policy(c, ctx, deployment)
            values: dict[str, Any] = {"paused": paused, "words": f"{ctx.user_name} paused it" if paused else "", "alarmed_ms": 0}
            if not paused:
                values |= ledger.FRESH_START
            c.execute(sa.update(t.policies).where(t.policies.c.id == row.id).values(**values))
        self._nudge("retraining")
        return self.policy(ctx, deployment)

    def _script(self, ctx: Context, script: str, entry: str) -> tuple[str, str]:
        found = self._registry.resolve(ctx, script, kind="artifact")
        files = self._registry.files(found.commit_id)
        if not entry:
            programs = [path for path in files if path.endswith(".py")]
            entry = programs[0] if len(programs) == 1 else "train.py"
        if entry not in files:
            raise Invalid(f"{script} has no file {entry!r}; it has: {', '.join(sorted(files)[:10])}. Name the one to run.", param="entry")
        return f"{found.repo.slug}@{found.commit_id}", entry

    def _base(self, ctx: Context, base: str) -> str:
        if (run := _RUN.fullmatch(base)) is not None:
            if not self._tracking.artifacts.manifest(ctx, Owner.run, run[1], run[2]):
                raise NotFound(f"The run {run[1]} has no artifact {run[2]!r}.", param="base")
            return base
        found = self._registry.resolve(ctx, base, kind="dataset")
        return f"{found.repo.slug}@{found.commit_id}"


def _found(lines: Iterable[bytes], query: TrainingSet, said: Mapping[str, tuple[Scalar, int]]) -> Iterator[bytes]:
    decoder, encoder = msgspec.json.Decoder(Event), msgspec.json.Encoder()
    left = {id_.encode() for id_ in said}
    for line in lines:
        # Most answers have no label, and to find that out their ids are enough: `{"id":"…",`
        if line[7:39] not in left:
            continue
        event = decoder.decode(line)
        at_ms = event.t // 1_000_000
        if event.deployment != query.deployment_id or event.error or event.shadow or not event.input:
            continue
        if not query.from_ms <= at_ms <= query.to_ms:
            continue
        left.discard(line[7:39])  # it may come twice
        one = Labelled(
            id=event.id,
            at_ms=at_ms,
            label=said[event.id][0],
            task=event.task,
            input=event.input,
            output=event.output,
            variant=event.variant,
            held_out=held_out(event.id, query.held_out),
        )
        yield encoder.encode(one) + b"\n"


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces that are worth sending."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _model(deployment: Deployment) -> str:
    live = [variant for variant in deployment.variants if variant.retired_ms is None]
    serving = max(live, key=lambda variant: variant.weight, default=None)
    if serving is None:
        raise Invalid("The deployment serves nothing: say which model gets the new versions.", param="model")
    return serving.repo.rpartition("/")[2]


def _refuse_ended(one: Retraining) -> None:
    if one.ended_ms is not None:
        raise Conflict(f"This retraining has ended ({one.state.value.replace('_', ' ')}): {one.why}")


def _checked_trigger(trigger: Trigger) -> Trigger:
    times = (trigger.sustained_seconds, trigger.cool_down_seconds, trigger.every_seconds or 0.0)
    if any(value < 0 for value in times) or trigger.min_labels < 0:
        raise Invalid("Times and the number of labels of a trigger are not negative.", param="trigger")
    if not trigger.alerts and trigger.every_seconds is None:
        raise Invalid("The trigger needs alerts, or every so many seconds; to start by hand only, pause the policy.", param="trigger")
    return trigger


def _checked_gate(gate: Gate) -> Gate:
    if not 0.01 <= gate.held_out <= 0.9:
        raise Invalid("held_out is a share between 0.01 and 0.9.", param="gate")
    if gate.min_rows < 10 or gate.recent < gate.min_rows:
        raise Invalid("The gate needs at least 10 rows, and recent is no fewer than min_rows.", param="gate")
    if not 0 <= gate.margin < 1 or not 0 <= gate.allowed_loss <= 1 or not 1e-6 <= gate.alpha <= 0.5:
        raise Invalid("margin and allowed_loss are shares; alpha is between 0.000001 and 0.5.", param="gate")
    return gate
