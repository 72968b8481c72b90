"""Sweeps in the database: found by the caller's workspace, made and changed."""

from __future__ import annotations

import builtins
import secrets
import string
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import Conflict, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps import search
from drivetrain.training.sweeps import tables_sweeps as t
from drivetrain.training.sweeps.model import Agent, State, Sweep
from drivetrain.training.sweeps.plan import Plan, parse

MOST = 1000
_LETTERS = string.ascii_lowercase + string.digits
_ALLOWED: Mapping[State, frozenset[State]] = {
    State.running: frozenset(State),
    State.paused: frozenset({State.running, State.paused}),
    State.finished: frozenset({State.running, State.paused, State.finished}),
    State.canceled: frozenset({State.running, State.paused, State.canceled}),
}
"""To which state a sweep may go from which."""

_s, _a, _n = t.sweeps.c, t.agents.c, t.trials.c


class SweepRecords:
    """What is written down of sweeps and their agents."""

    def __init__(self, db: Database, tracking: Tracking) -> None:
        self._db = db
        self._tracking = tracking

    def create(self, ctx: Context, experiment_id: str, config: str, *, title: str = "", description: str = "") -> Sweep:
        """Begin a sweep of the experiment; agents may ask for runs at once. `config` is YAML. Raises `Invalid`."""
        ctx.require(Scope.write)
        plan = parse(config)
        search.check(plan)
        experiment = self._tracking.experiments.get(ctx, experiment_id)
        if experiment.lifecycle != "active":
            raise Invalid(f"The experiment {experiment.name!r} is deleted: restore it before searching in it.")
        now = now_ms()
        row = {
            "id": uuid7(),
            "workspace_id": ctx.workspace_id,
            "experiment_uid": experiment.uid,
            "experiment_id": experiment.id,
            "name": short_id(),
            "title": (title or plan.title)[:250],
            "description": (description or plan.description)[:10_000],
            "state": State.running.value,
            "config": config,
            "user_name": ctx.user_name[:256],
            "created_ms": now,
            "updated_ms": now,
        }
        with self._db.write() as c:
            c.execute(t.sweeps.insert().values(**row))
            return _sweep(c, self._row(c, ctx, str(row["id"])))

    def change(self, ctx: Context, sweep: str, *, config: str | None = None, title: str = "", description: str = "") -> Sweep:
        """Search in another way from now on. What was handed out stays."""
        ctx.require(Scope.write)
        values: dict[str, Any] = {"updated_ms": now_ms()}
        if config is not None:
            search.check(parse(config))
            values["config"] = config
        if title:
            values["title"] = title[:250]
        if description:
            values["description"] = description[:10_000]
        with self._db.write() as c:
            row = self._row(c, ctx, sweep)
            c.execute(t.sweeps.update().where(_s.id == row.id).values(**values))
            return _sweep(c, self._row(c, ctx, row.id))

    def set_state(self, ctx: Context, sweep: str, state: State) -> Sweep:
        """Pause, stop, cancel or resume it. Raises `Conflict` where that makes no sense."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            row = self._row(c, ctx, sweep)
            if State(row.state) not in _ALLOWED[state]:
                raise Conflict(f"The sweep {row.name} is {row.state} and cannot become {state.value}: resume it first.", param="state")
            c.execute(t.sweeps.update().where(_s.id == row.id).values(state=state.value, updated_ms=now_ms()))
            return _sweep(c, self._row(c, ctx, row.id))

    def get(self, ctx: Context, sweep: str) -> Sweep:
        """By its name or id. Raises `NotFound`."""
        ctx.require(Scope.read)
        with self._db.read() as c:
            return _sweep(c, self._row(c, ctx, sweep))

    def list(self, ctx: Context, *, experiment_id: str | None = None, limit: int = 50, before: str | None = None) -> builtins.list[Sweep]:
        """The newest first; `before`: those that are older than the sweep of this id."""
        ctx.require(Scope.read)
        query = sa.select(t.sweeps).where(_s.workspace_id == ctx.workspace_id)
        if experiment_id is not None:
            query = query.where(_s.experiment_uid == self._tracking.experiments.get(ctx, experiment_id).uid)
        if before is not None:
            query = query.where(_s.id < before)
        with self._db.read() as c:
            return [_sweep(c, row) for row in c.execute(query.order_by(_s.id.desc()).limit(max(1, min(limit, MOST)))).all()]

    def count(self, ctx: Context, experiment_id: str) -> int:
        ctx.require(Scope.read)
        uid = self._tracking.experiments.get(ctx, experiment_id).uid
        with self._db.read() as c:
            return int(c.scalar(sa.select(sa.func.count()).select_from(t.sweeps).where(_s.experiment_uid == uid)) or 0)

    def delete(self, ctx: Context, sweep: str) -> None:
        """Forget a sweep; its runs stay, and its agents end."""
        ctx.require(Scope.write)
        with self._db.write() as c:
            c.execute(t.sweeps.delete().where(_s.id == self._row(c, ctx, sweep).id))

    def plan(self, sweep: Sweep) -> Plan:
        """Its configuration as it is understood."""
        return parse(sweep.config)

    def join(self, ctx: Context, sweep: str, host: str) -> Agent:
        """Work for the sweep: the agent that `heartbeat` is asked for."""
        ctx.require(Scope.write)
        now = now_ms()
        with self._db.write() as c:
            values = {"id": uuid7(), "sweep_id": self._row(c, ctx, sweep).id, "host": host[:250], "created_ms": now, "heartbeat_ms": now}
            c.execute(t.agents.insert().values(**values))
        return Agent(id=str(values["id"]), host=host[:250], created_ms=now, heartbeat_ms=now, runs=0)

    def agents(self, ctx: Context, sweep: str) -> builtins.list[Agent]:
        """Who has worked for the sweep, the oldest first."""
        ctx.require(Scope.read)
        with self._db.read() as c:
            row = self._row(c, ctx, sweep)
            done = sa.select(_n.agent_id, sa.func.count()).where(_n.sweep_id == row.id).group_by(_n.agent_id)
            counts = {agent: int(number) for agent, number in c.execute(done)}
            found = c.execute(sa.select(t.agents).where(_a.sweep_id == row.id).order_by(_a.id))
            return [Agent(one.id, one.host, one.created_ms, one.heartbeat_ms, counts.get(one.id, 0)) for one in found]

    def _row(self, c: sa.Connection, ctx: Context, sweep: str) -> sa.Row[Any]:
        mine = (_s.workspace_id == ctx.workspace_id) & ((_s.name == sweep) | (_s.id == sweep))
        row = c.execute(sa.select(t.sweeps).where(mine)).first()
        if row is None:
            raise NotFound(f"There is no sweep {sweep[:80]!r} in this workspace. List them: drivetrain sweep list", param="sweep")
        return row


def short_id() -> str:
    """As clients of runs and sweeps name them: 8 letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))


def _sweep(c: sa.Connection, row: sa.Row[Any]) -> Sweep:
    plan = parse(row.config)
    runs = c.scalar(sa.select(sa.func.count()).select_from(t.trials).where(_n.sweep_id == row.id, _n.run_id.is_not(None)))
    return Sweep(
        id=row.id,
        experiment_id=row.experiment_id,
        name=row.name,
        title=row.title,
        description=row.description,
        state=State(row.state),
        method=plan.method,
        metric=plan.metric,
        maximize=plan.maximize,
        config=row.config,
        user=row.user_name,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        runs=int(runs or 0),
        expected=plan.expected,
    )
