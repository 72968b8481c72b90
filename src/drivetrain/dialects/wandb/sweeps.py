"""Sweeps: what `wandb.sweep`, `wandb.agent` and `wandb.Api` ask of them.

The clients of an agent read the first of several commands only, and end by `exit`; one that is told of an error asks again for ever.
"""

from __future__ import annotations

import json

from drivetrain.dialects.wandb.call import Call, Json, Resolvers, connection, project, when
from drivetrain.dialects.wandb.runs import project_object, run_object
from drivetrain.errors import Invalid, NotFound
from drivetrain.identity.model import Context
from drivetrain.store.ids import now_ms
from drivetrain.tracking.model import Experiment, Run
from drivetrain.training.sweeps.model import Agent, State, Sweep

_STATES = {
    "RUNNING": State.running,
    "PENDING": State.running,
    "PAUSED": State.paused,
    "FINISHED": State.finished,
    "STOPPED": State.finished,
    "CANCELED": State.canceled,
    "CANCELLED": State.canceled,
}
ALIVE_MS = 60_000


def mutations(s: Call, ctx: Context) -> Resolvers:
    return {
        "upsertSweep": lambda args: upsert(s, ctx, _given(args)),
        "createAgent": lambda args: join(s, ctx, _given(args)),
        "agentHeartbeat": lambda args: heartbeat(s, ctx, _given(args)),
    }


def project_fields(s: Call, ctx: Context, experiment: Experiment) -> Resolvers:
    def one(args: Json) -> Json | None:
        try:
            found = s.platform.sweeps.get(ctx, str(args.get("sweepName") or args.get("name") or args.get("id") or ""))
        except NotFound:
            return None
        return sweep_object(s, ctx, experiment, found) if found.experiment_id == experiment.id else None

    def some(args: Json) -> Json:
        found = s.platform.sweeps.list(ctx, experiment_id=experiment.id, limit=1000)
        return connection([sweep_object(s, ctx, experiment, each) for each in found], args=args)

    return {"sweep": one, "sweeps": some, "totalSweeps": lambda _: s.platform.sweeps.count(ctx, experiment.id)}


def run_fields(s: Call, ctx: Context, _: Experiment, run: Run) -> Resolvers:
    def sweep(_: Json) -> Json | None:
        name = s.platform.tracking.reports.get(ctx, run.id).sweep
        if name is None:
            return None
        try:
            found = s.platform.sweeps.get(ctx, name)
        except NotFound:  # it was deleted: the run still says what it was of
            return None
        return sweep_object(s, ctx, s.platform.tracking.experiments.get(ctx, found.experiment_id), found)

    return {"sweep": sweep}


def upsert(s: Call, ctx: Context, given: Json) -> Json:
    """`upsertSweep`: without an id a new sweep; with one, change its configuration or state."""
    config = given.get("config")
    title, description = str(given.get("displayName") or ""), str(given.get("description") or "")
    if sweep_id := given.get("id"):
        found = s.platform.sweeps.change(ctx, str(sweep_id), config=config or None, title=title, description=description)
        if state := given.get("state"):
            found = s.platform.sweeps.set_state(ctx, found.id, _state(str(state)))
    else:
        if not config:
            raise Invalid("A new sweep needs a configuration: method and parameters.", param="config")
        experiment = project(s, ctx, given.get("projectName"), make=True)
        found = s.platform.sweeps.create(ctx, experiment.id, str(config), title=title, description=description)
    warnings = list(s.platform.sweeps.plan(found).warnings)
    if given.get("priorRunsFilters"):
        warnings.append("Runs from before the sweep are not considered by its search.")
    experiment = s.platform.tracking.experiments.get(ctx, found.experiment_id)
    return {"sweep": sweep_object(s, ctx, experiment, found), "configValidationWarnings": warnings}


def join(s: Call, ctx: Context, given: Json) -> Json:
    sweep = s.platform.sweeps.get(ctx, str(given.get("sweep") or ""))
    return {"agent": agent_object(s.platform.sweeps.join(ctx, sweep.id, str(given.get("host") or "")))}


def heartbeat(s: Call, ctx: Context, given: Json) -> Json:
    agent = str(given.get("id") or "")
    try:
        states = json.loads(given.get("runState") or "{}")
    except ValueError:
        raise Invalid("runState is no JSON.", param="runState") from None
    running = [str(run) for run, on in states.items() if on] if isinstance(states, dict) else []
    try:
        commands = s.platform.sweeps.heartbeat(ctx, agent, running)
    except NotFound:
        # The sweep was deleted: let the agent end what it is on, and leave.
        commands = [] if running else [{"type": "exit"}]
    return {"agent": {"id": agent}, "commands": json.dumps(commands)}


def sweep_object(s: Call, ctx: Context, experiment: Experiment, found: Sweep) -> Json:
    def best(_: Json) -> float | None:
        run = s.platform.sweeps.best(ctx, found.id)
        return run.value if run is not None else None

    def agents(args: Json) -> Json:
        return connection([agent_object(one) for one in s.platform.sweeps.agents(ctx, found.id)], args=args)

    def agent(args: Json) -> Json | None:
        wanted = str(args.get("agentName") or "")
        return next((agent_object(one) for one in s.platform.sweeps.agents(ctx, found.id) if one.id == wanted), None)

    return {
        "__typename": "Sweep",
        "id": found.id,
        "name": found.name,
        "displayName": found.title or None,
        "method": found.method,
        "state": found.state.value,
        "description": found.description or None,
        "bestLoss": best,
        "config": found.config,
        "createdAt": when(found.created_ms),
        "updatedAt": when(found.updated_ms),
        "heartbeatAt": when(found.updated_ms),
        "runCount": found.runs,
        "runCountExpected": found.expected,
        "earlyStopJobRunning": False,
        "controller": None,
        "scheduler": None,
        "project": lambda _: project_object(s, ctx, experiment),
        "runs": lambda args: runs(s, ctx, experiment, found, args),
        "agents": agents,
        "agent": agent,
    }


def runs(s: Call, ctx: Context, experiment: Experiment, found: Sweep, args: Json) -> Json:
    nodes = [
        run_object(s, ctx, experiment, run, details)
        | {
            "exitcode": details.exit_code,
            "shouldStop": details.stop_requested,
            "failed": details.state in ("failed", "crashed"),
            "running": details.state == "running",
        }
        for details in s.platform.tracking.reports.get_many(ctx, s.platform.tracking.reports.runs_of_sweep(ctx, found.name)).values()
        for run in [details.run]
    ]
    return connection(nodes, args=args)


def agent_object(one: Agent) -> Json:
    return {
        "__typename": "Agent",
        "id": one.id,
        "name": one.id,
        "host": one.host,
        "state": "RUNNING" if now_ms() - one.heartbeat_ms < ALIVE_MS else "STOPPED",
        "totalRuns": one.runs,
        "createdAt": when(one.created_ms),
        "heartbeatAt": when(one.heartbeat_ms),
    }


def _given(args: Json) -> Json:
    found = args.get("input")
    return found if isinstance(found, dict) else args


def _state(text: str) -> State:
    state = _STATES.get(text.upper())
    if state is None:
        raise Invalid(f"A sweep cannot become {text[:40]!r}: use RUNNING, PAUSED, FINISHED or CANCELED.", param="state")
    return state
