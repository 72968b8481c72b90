"""Sweeps: searching for parameters by many runs. The server chooses what to try; agents ask for it and do it.

A run is handed out in three steps, each durable: its position is taken, its arguments are chosen, the run is made. Whatever dies in
between, the next one who asks goes on where that ended, and no position is given to two.
"""

from __future__ import annotations

import builtins
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from drivetrain.errors import NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database
from drivetrain.tracking.model import RunReport
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps import early_stop, grid
from drivetrain.training.sweeps import tables_sweeps as t
from drivetrain.training.sweeps.model import Importance, State, Sweep, Trial
from drivetrain.training.sweeps.plan import Plan
from drivetrain.training.sweeps.records import SweepRecords, short_id
from drivetrain.training.sweeps.search import Result, Search

AGENT_GONE_MS = 120_000
"""An agent speaks every five seconds; one that has not for so long has left what it had not begun to others."""
MOST_TRIES = 2
STOP_AGAIN_MS = 30_000
OPEN = frozenset({"pending", "running", "preempting"})
MOST_HISTORY = 25_000
Command = dict[str, Any]

_s, _a, _n = t.sweeps.c, t.agents.c, t.trials.c


class Sweeps(SweepRecords):
    """Sweeps, their agents and runs. Thread-safe."""

    def __init__(self, db: Database, tracking: Tracking) -> None:
        super().__init__(db, tracking)
        self._search = Search()

    def heartbeat(self, ctx: Context, agent: str, running: Sequence[str]) -> builtins.list[Command]:
        """What the agent is to do now: run, stop, exit, or (nothing) wait. `running`: the client's ids of the runs that it is on.

        Raises `NotFound` if the sweep is gone.
        """
        ctx.require(Scope.write)
        with self._db.write() as c:
            query = sa.select(_a.sweep_id).join(t.sweeps, _s.id == _a.sweep_id).where(_a.id == agent, _s.workspace_id == ctx.workspace_id)
            sweep_id = c.scalar(query)
            if sweep_id is None:
                raise NotFound("The sweep of this agent was deleted.", param="id")
            c.execute(t.agents.update().where(_a.id == agent).values(heartbeat_ms=now_ms()))
            if running:
                mine = (_n.sweep_id == sweep_id) & _n.client_id.in_(list(running)[:500])
                c.execute(t.trials.update().where(mine, ~_n.seen).values(seen=True))
        sweep = self.get(ctx, sweep_id)
        if sweep.state is State.canceled:
            return [{"type": "exit"}]
        plan = self.plan(sweep)
        states = self._observe(ctx, sweep, plan)
        if running:
            return self._stops(ctx, sweep, plan, running) if plan.early is not None else []
        if sweep.state is State.finished:
            return [{"type": "exit"}]
        return self._hand_out(ctx, sweep, plan, agent, states) if sweep.state is State.running else []

    def trials(self, ctx: Context, sweep: str) -> builtins.list[Trial]:
        """The runs that were handed out, in their order, as they stand now. Deleted runs are left out."""
        found = self.get(ctx, sweep)
        rows = self._rows(found.id)
        details = self._tracking.reports.get_many(ctx, [row.run_id for row in rows if row.run_id is not None])
        return [_trial(row, details.get(row.run_id or ""), found.metric) for row in rows if not _deleted(row, details)]

    def best(self, ctx: Context, sweep: str) -> Trial | None:
        """The run with the best metric so far; None before there is one."""
        found = self.get(ctx, sweep)
        return best_of(self.trials(ctx, found.id), maximize=found.maximize)

    def importance(self, ctx: Context, sweep: str) -> builtins.list[Importance]:
        """How much each parameter matters for the metric, by the runs that have ended."""
        found = self.get(ctx, sweep)
        plan = self.plan(found)
        done = [(one.args, one.value) for one in self.trials(ctx, found.id) if one.state not in OPEN and one.args]
        return self._search.importance(plan, done) if found.metric is not None else []

    # --- handing out

    def _hand_out(self, ctx: Context, sweep: Sweep, plan: Plan, agent: str, states: Mapping[int, str]) -> builtins.list[Command]:
        row = self._left_over(sweep, agent, states) or self._take(sweep, plan, agent)
        if row is None:
            return [{"type": "exit"}]
        args = json.loads(row.args) if row.args is not None else self._choose(sweep, plan, row.position)
        made, _ = self._tracking.reports.begin(ctx, sweep.experiment_id, row.client_id, state="pending", sweep=sweep.name, config=args)
        with self._db.write() as c:
            mine = (_n.sweep_id == sweep.id) & (_n.position == row.position)
            c.execute(t.trials.update().where(mine).values(run_id=made.id))
        command: Command = {"type": "run", "run_id": row.client_id, "args": {key: {"value": value} for key, value in args.items()}}
        return [command | ({"program": plan.program} if plan.program else {})]

    def _left_over(self, sweep: Sweep, agent: str, states: Mapping[int, str]) -> sa.Row[Any] | None:
        """A run that was handed out and never begun: its agent did not hear of it, or has gone."""
        gone = now_ms() - AGENT_GONE_MS
        with self._db.write() as c:
            alive = set(c.scalars(sa.select(_a.id).where(_a.sweep_id == sweep.id, _a.heartbeat_ms > gone, _a.id != agent)))
            open_ = sa.select(t.trials).where(_n.sweep_id == sweep.id, ~_n.ended).order_by(_n.position)
            for row in c.execute(open_.with_for_update()).all():
                if row.agent_id in alive or states.get(row.position, "pending") != "pending":
                    continue
                mine = (_n.sweep_id == sweep.id) & (_n.position == row.position)
                if row.run_id is not None and (row.tries >= MOST_TRIES or (row.seen and row.agent_id == agent)):
                    # It was begun and said nothing of itself, or is begun again and again: it will not come to anything.
                    c.execute(t.trials.update().where(mine).values(ended=True))
                    continue
                c.execute(t.trials.update().where(mine).values(agent_id=agent, tries=row.tries + 1, seen=False))
                return row
        return None

    def _take(self, sweep: Sweep, plan: Plan, agent: str) -> sa.Row[Any] | None:
        """A position that nobody has; None, and the sweep is finished, if there is none left."""
        enough = plan.target is not None and self._reached(sweep, plan)
        with self._db.write() as c:
            # One at a time: whoever comes second sees what the first has taken.
            state = c.scalar(sa.select(_s.state).where(_s.id == sweep.id).with_for_update())
            if state is None:
                raise NotFound("The sweep of this agent was deleted.", param="id")
            taken, last = c.execute(sa.select(sa.func.count(), sa.func.max(_n.position)).where(_n.sweep_id == sweep.id)).one()
            if enough or (plan.expected is not None and taken >= plan.expected):
                c.execute(t.sweeps.update().where(_s.id == sweep.id).values(state=State.finished.value, updated_ms=now_ms()))
                return None
            position = 0 if last is None else last + 1
            if plan.method == "grid" and taken < position:
                # Runs were deleted for good: their places in the grid are free again.
                there = set(c.scalars(sa.select(_n.position).where(_n.sweep_id == sweep.id)))
                position = next(n for n in range(position) if n not in there)
            values: dict[str, Any] = {
                "sweep_id": sweep.id,
                "position": position,
                "client_id": short_id(),
                "agent_id": agent,
                "tries": 1,
                "seen": False,
                "ended": False,
                "brackets": "{}",
                "created_ms": now_ms(),
            }
            if plan.method == "grid":
                values["args"] = json.dumps(grid.at(plan.parameters, position))
            c.execute(t.trials.insert().values(**values))
            return c.execute(sa.select(t.trials).where(_n.sweep_id == sweep.id, _n.position == position)).one()

    def _choose(self, sweep: Sweep, plan: Plan, position: int) -> dict[str, Any]:
        results: builtins.list[Result] = []
        if plan.method == "bayes":
            # Runs that have ended without a value teach nothing; those on their way are told, so that nobody tries the same at once.
            rows = [row for row in self._rows(sweep.id) if row.args is not None and row.position != position]
            results = [(json.loads(row.args), row.value) for row in rows if row.value is not None or not row.ended]
        args = self._search.next(plan, sweep.id, position, results)
        with self._db.write() as c:
            mine = (_n.sweep_id == sweep.id) & (_n.position == position)
            c.execute(t.trials.update().where(mine, _n.args.is_(None)).values(args=json.dumps(args)))
            kept: dict[str, Any] = json.loads(c.execute(sa.select(_n.args).where(mine)).scalar_one())
            return kept

    def _reached(self, sweep: Sweep, plan: Plan) -> bool:
        assert plan.target is not None
        extreme = sa.func.max(_n.value) if plan.maximize else sa.func.min(_n.value)
        with self._db.read() as c:
            best = c.scalar(sa.select(extreme).where(_n.sweep_id == sweep.id))
        return best is not None and (best >= plan.target if plan.maximize else best <= plan.target)

    # --- watching

    def _observe(self, ctx: Context, sweep: Sweep, plan: Plan) -> dict[int, str]:
        """Write down what the open runs have come to; their states by position."""
        rows = [row for row in self._rows(sweep.id, open_only=True) if row.run_id is not None]
        details = self._tracking.reports.get_many(ctx, [row.run_id for row in rows])
        states: dict[int, str] = {}
        changes: builtins.list[dict[str, Any]] = []
        for row in rows:
            if (found := details.get(row.run_id)) is None:
                continue  # deleted for good at this moment, and its row here too
            states[row.position] = found.state
            brackets = row.brackets
            if plan.early is not None and plan.metric is not None and found.state != "pending":
                history = self._losses(ctx, row.run_id, plan.metric)
                brackets = json.dumps(early_stop.measured(plan.early, history, maximize=plan.maximize))
            over = found.state not in OPEN or found.run.lifecycle != "active"
            # What was stopped early counts with what it had reached; what broke does not.
            counts = over and (found.state == "finished" or row.stopped_ms is not None) and found.run.lifecycle == "active"
            if over or brackets != row.brackets:
                value = objective(found, plan.metric) if counts else None
                changes.append({"at": row.position, "ended": over, "value": value, "brackets": brackets})
        if changes:
            one = t.trials.update().where(_n.sweep_id == sweep.id, _n.position == sa.bindparam("at"))
            with self._db.write() as c:
                c.execute(one.values({name: sa.bindparam(name) for name in ("ended", "value", "brackets")}), changes)
        return states

    def _stops(self, ctx: Context, sweep: Sweep, plan: Plan, running: Sequence[str]) -> builtins.list[Command]:
        assert plan.early is not None and plan.metric is not None
        rows = self._rows(sweep.id)
        others = [{int(band): float(loss) for band, loss in json.loads(row.brackets).items()} for row in rows]
        now = now_ms()
        found: builtins.list[Command] = []
        for row in rows:
            told = row.stopped_ms
            if row.client_id not in running or row.ended or row.run_id is None or (told is not None and now - told < STOP_AGAIN_MS):
                continue
            if told is None and not early_stop.to_stop(
                plan.early, self._losses(ctx, row.run_id, plan.metric), others, maximize=plan.maximize
            ):
                continue
            with self._db.write() as c:
                mine = (_n.sweep_id == sweep.id) & (_n.position == row.position)
                c.execute(t.trials.update().where(mine).values(stopped_ms=now))
            found.append({"type": "stop", "run_id": row.client_id})
        return found

    def _losses(self, ctx: Context, run_id: str, metric: str) -> builtins.list[float]:
        points = self._tracking.metrics.history(ctx, run_id, metric, limit=MOST_HISTORY).items
        return [point.value for point in points if math.isfinite(point.value)]

    def _rows(self, sweep_id: str, *, open_only: bool = False) -> Sequence[sa.Row[Any]]:
        query = sa.select(t.trials).where(_n.sweep_id == sweep_id).order_by(_n.position)
        with self._db.read() as c:
            return c.execute(query.where(~_n.ended) if open_only else query).all()


def objective(found: RunReport, metric: str | None) -> float | None:
    """The metric as the run's summary has it; a name with dots may lead into it. None if it is no finite number."""
    if metric is None:
        return None
    value: Any = found.summary.get(metric)
    if value is None:
        value = found.summary
        for part in metric.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def best_of(trials: Sequence[Trial], *, maximize: bool) -> Trial | None:
    valued = [(one.value, one) for one in trials if one.value is not None]
    if not valued:
        return None
    sign = -1 if maximize else 1
    return min(valued, key=lambda pair: (sign * pair[0], pair[1].position))[1]


def _deleted(row: sa.Row[Any], details: Mapping[str, RunReport]) -> bool:
    return row.run_id in details and details[row.run_id].run.lifecycle != "active"


def _trial(row: sa.Row[Any], found: RunReport | None, metric: str | None) -> Trial:
    return Trial(
        position=row.position,
        client_id=row.client_id,
        run_id=row.run_id,
        args=json.loads(row.args) if row.args is not None else {},
        state=found.state if found is not None else "pending",
        value=objective(found, metric) if found is not None else None,
        stopped=row.stopped_ms is not None,
        created_ms=row.created_ms,
    )
