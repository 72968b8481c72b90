"""What drivetrain does about retraining by itself: see when one is due, begin it, give it its job, and see it to its end.

Nothing here is decided by a wall clock: times are summed from what the caller saw pass on its monotonic clock, and stored. Each step can
be interrupted anywhere and taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, NotFound
from drivetrain.feedback.service import Feedback
from drivetrain.jobs.kinds import Retrain
from drivetrain.jobs.model import CANCELLED, FAILED, SUCCEEDED
from drivetrain.jobs.service import Jobs
from drivetrain.monitoring.model import Alert
from drivetrain.retraining import ledger
from drivetrain.retraining import tables as t
from drivetrain.retraining.due import Labels, began_ms, judge, wanted
from drivetrain.retraining.model import LEAST_ROWS, Policy, Retraining, State, held_out
from drivetrain.retraining.service import Retrainings
from drivetrain.rollout.model import State as Rolling
from drivetrain.rollout.service import Rollouts
from drivetrain.serving.model import Deployment
from drivetrain.serving.service import Serving
from drivetrain.store.sql import Database


class Watch:
    """The automatic side of retraining on one database; one process at a time calls it."""

    def __init__(
        self, db: Database, retrainings: Retrainings, serving: Serving, feedback: Feedback, rollouts: Rollouts, jobs: Jobs
    ) -> None:
        self._db = db
        self._retrainings = retrainings
        self._serving = serving
        self._feedback = feedback
        self._rollouts = rollouts
        self._jobs = jobs

    def policies(self) -> list[Policy]:
        """All policies, of all workspaces."""
        with self._db.read() as c:
            return [ledger.policy_of(row) for row in c.execute(sa.select(t.policies).order_by(t.policies.c.id))]

    def open(self) -> list[Retraining]:
        """The retrainings that have not ended, of all workspaces."""
        with self._db.read() as c:
            rows = c.execute(sa.select(t.retrainings).where(t.retrainings.c.ended_ms.is_(None)).order_by(t.retrainings.c.id)).all()
            return ledger.with_stages(c, [*rows])

    def passed(self, policy_id: str, passed_ms: float, *, alarmed: bool) -> None:
        """So much time went by for a policy; `alarmed`: with an alert of its trigger."""
        p = t.policies.c
        more = int(passed_ms)
        values = {"rested_ms": p.rested_ms + more, "waited_ms": p.waited_ms + more, "alarmed_ms": p.alarmed_ms + more if alarmed else 0}
        with self._db.write() as c:
            c.execute(sa.update(t.policies).where(p.id == policy_id).values(**values))

    def look(self, policy_id: str, alerts: Sequence[Alert]) -> Retraining | None:
        """Begin a retraining if its policy calls for one, in view of the alerts that last for its deployment."""
        with self._db.read() as c:
            row = c.execute(sa.select(t.policies).where(t.policies.c.id == policy_id)).one_or_none()
        if row is None or row.paused:
            return None
        ctx = ledger.acting_for(row)
        try:
            target = self._serving.get(ctx, row.deployment)
        except NotFound:
            target = None
        if target is None or target.id != row.deployment_id:
            self._say(row, "Its deployment was deleted.")
            return None
        rollout = self._rollouts.current(ctx, row.deployment)
        rolling = rollout is not None and rollout.state is not Rolling.promoted
        found: list[Labels] = []

        def labels() -> Labels:
            found.append(self._labels(row, alerts, target))
            return found[0]

        due = judge(row, alerts, labels=labels, rolling=rolling)
        if not due.begin:
            self._say(row, due.words)
            return None
        try:
            with self._db.write() as c:
                now = c.execute(sa.select(t.policies).where(t.policies.c.id == policy_id).with_for_update()).one_or_none()
                if now is None or now.paused:
                    return None
                identity = ledger.begin(
                    c,
                    now,
                    cause=due.cause,
                    why=due.words,
                    actor=ledger.DRIVETRAIN,
                    trigger=due.trigger,
                    labels=found[0].all,
                    from_ms=target.created_ms,
                )
                c.execute(sa.update(t.policies).where(t.policies.c.id == policy_id).values(words=""))
        except (Conflict, sa.exc.IntegrityError):
            return None  # somebody was faster
        return self._retrainings.get(ctx, identity)

    def follow(self, one: Retraining) -> None:
        """See that an open retraining has its job; that it ends when its job could not do it; and that one that waits is rolled out."""
        with self._db.read() as c:
            row = c.execute(sa.select(t.retrainings).where(t.retrainings.c.id == one.id)).one_or_none()
        if row is None or row.ended_ms is not None:
            return
        ctx = ledger.acting_for(row, user_name=self._owner(row.policy_id))
        if one.state is State.waiting:
            rollout = self._rollouts.current(ctx, one.deployment)
            if rollout is None:
                self._retrainings.roll_out(ctx, one.id)
            return
        if row.job_id is None:
            # The same key gives the same job, should this be interrupted between the two.
            job = self._jobs.submit(ctx, "retrain", Retrain(retraining=one.id), key=f"retraining:{one.id}")
            with self._db.write() as c:
                c.execute(sa.update(t.retrainings).where(t.retrainings.c.id == one.id).values(job_id=job.id))
            return
        job = self._jobs.get(ctx, row.job_id)
        if job.state in (FAILED, CANCELLED, SUCCEEDED):
            with self._db.write() as c:
                now = ledger.find(c, one.id, hold=True)
                if now.ended_ms is None and now.state is not State.waiting:
                    state = State.cancelled if job.state == CANCELLED else State.failed
                    ledger.change(c, now, state, job.error or f"Its job ended ({job.state}) before it was done.")

    def untold(self) -> list[Retraining]:
        """Retrainings of which somebody should hear, and that `told` was not called for."""
        with self._db.read() as c:
            rows = c.execute(sa.select(t.retrainings).where(~t.retrainings.c.told).order_by(t.retrainings.c.id).limit(100)).all()
            return ledger.with_stages(c, [*rows])

    def told(self, one: Retraining) -> None:
        """Unless there is more to tell by now."""
        mine = t.retrainings.c.id == one.id, t.retrainings.c.state == one.state.value
        with self._db.write() as c:
            c.execute(sa.update(t.retrainings).where(*mine).values(told=True))

    def failures(self, one: Retraining) -> int:
        """How many attempts of its policy have failed in a row."""
        with self._db.read() as c:
            return c.execute(sa.select(t.policies.c.failures).where(t.policies.c.id == one.policy_id)).scalar_one_or_none() or 0

    def _labels(self, row: sa.Row[Any], alerts: Sequence[Alert], target: Deployment) -> Labels:
        policy = ledger.policy_of(row)
        mine, name = (row.workspace_id, row.deployment_id), row.label or None
        lasting = wanted(policy, alerts)
        since = self._feedback.count_labels(*mine, name=name, since_ms=began_ms(lasting)) if lasting else None
        seen: set[str] = set()
        kept = held = 0
        for request in self._feedback.labelled(*mine, name=name, since_ms=ledger.oldest_ms(row, target.created_ms)):
            if request in seen:
                continue
            seen.add(request)
            if held_out(request, policy.gate.held_out):
                held += 1
            else:
                kept += 1
            if held >= policy.gate.min_rows and kept >= LEAST_ROWS:
                break
        return Labels(self._feedback.count_labels(*mine, name=name), since, kept, held)

    def _say(self, row: sa.Row[Any], words: str) -> None:
        if row.words != words:
            with self._db.write() as c:
                c.execute(sa.update(t.policies).where(t.policies.c.id == row.id, ~t.policies.c.paused).values(words=words))

    def _owner(self, policy_id: str) -> str | None:
        with self._db.read() as c:
            return c.execute(sa.select(t.policies.c.created_by).where(t.policies.c.id == policy_id)).scalar_one_or_none()
