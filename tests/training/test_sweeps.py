"""Sweeps by their verbs, on both databases: what is handed out, to whom, and when it ends."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from drivetrain.errors import Conflict, Forbidden, Invalid, NotFound
from drivetrain.identity.model import Context, Scope
from drivetrain.store.sql import Database
from drivetrain.tracking.service import Tracking
from drivetrain.training.sweeps import tables_sweeps as t
from drivetrain.training.sweeps.model import State
from drivetrain.training.sweeps.plan import parse
from drivetrain.training.sweeps.search import Result, Search
from drivetrain.training.sweeps.service import AGENT_GONE_MS, Sweeps

LOSS = {"name": "loss", "goal": "minimize"}


def config(method: str, parameters: Mapping[str, Any], **more: Any) -> str:
    return json.dumps({"method": method, "parameters": parameters, **more})


def values(command: Mapping[str, Any]) -> dict[str, Any]:
    assert command["type"] == "run", command
    return {key: one["value"] for key, one in command["args"].items()}


class Worker:
    """What an agent does: asks, runs, logs, ends."""

    def __init__(self, sweeps: Sweeps, tracking: Tracking, ctx: Context, sweep: str) -> None:
        self.sweeps, self.tracking, self.ctx, self.sweep = sweeps, tracking, ctx, sweep
        self.id = sweeps.join(ctx, sweep, "here").id

    def ask(self, *running: str) -> list[dict[str, Any]]:
        return self.sweeps.heartbeat(self.ctx, self.id, running)

    def take(self) -> dict[str, Any]:
        (command,) = self.ask()
        return command

    def log(self, client_id: str, rows: list[float], *, end: bool = True) -> None:
        experiment = self.sweeps.get(self.ctx, self.sweep).experiment_id
        run = self.tracking.reports.find(self.ctx, experiment, client_id)
        texts = [json.dumps({"_step": step, "_timestamp": 1e9 + step, "loss": value}) for step, value in enumerate(rows)]
        state = "finished" if end else "running"
        self.tracking.reports.append(self.ctx, run.id, rows=texts, summary=json.dumps({"loss": rows[-1]}), state=state)

    def work(self, objective: Callable[[dict[str, Any]], float], *, most: int = 1000) -> list[dict[str, Any]]:
        done = []
        for _ in range(most):
            command = self.take()
            if command["type"] == "exit":
                break
            done.append(values(command))
            self.log(command["run_id"], [objective(done[-1])])
        return done


@pytest.fixture
def worker(sweeps: Sweeps, tracking: Tracking, ctx: Context) -> Callable[[str], Worker]:
    return lambda sweep: Worker(sweeps, tracking, ctx, sweep)


def test_a_grid_is_every_combination_once_and_then_the_agent_is_told_to_leave(
    sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]
) -> None:
    grid = {
        "lr": {"values": [0.1, 0.01]},
        "depth": {"min": 1, "max": 3},
        "q": {"distribution": "q_uniform", "min": 0, "max": 0.5, "q": 0.25},
        "net": {"parameters": {"act": {"values": ["relu", "tanh"]}, "bias": {"value": True}}},
    }
    sweep = sweeps.create(ctx, "0", config("grid", grid, metric=LOSS))
    assert (sweep.expected, sweep.state, sweep.runs) == (36, State.running, 0)
    done = worker(sweep.name).work(lambda args: args["lr"] * args["depth"] + args["q"])
    seen = {(a["lr"], a["depth"], a["q"], a["net"]["act"], a["net"]["bias"]) for a in done}
    assert len(done) == len(seen) == 36
    assert {q for _, _, q, _, _ in seen} == {0, 0.25, 0.5}
    after = sweeps.get(ctx, sweep.name)
    assert (after.state, after.runs) == (State.finished, 36)
    best = sweeps.best(ctx, sweep.id)
    assert best is not None and best.args["lr"] == 0.01 and best.args["depth"] == 1 and best.value == 0.01
    assert worker(sweep.name).take() == {"type": "exit"}


def test_agents_that_ask_at_once_never_get_the_same(sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]) -> None:
    sweep = sweeps.create(ctx, "0", config("grid", {"a": {"values": list(range(6))}, "b": {"values": list(range(4))}}, metric=LOSS))
    workers = [worker(sweep.name) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(lambda one: one.work(lambda args: float(args["a"])), workers))
    done = [(one["a"], one["b"]) for share in shares for one in share]
    assert sorted(done) == [(a, b) for a in range(6) for b in range(4)]


@pytest.mark.slow
def test_random_search_is_the_same_for_the_same_sweep_and_keeps_to_its_distributions(
    sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]
) -> None:
    space = {
        "uniform": {"min": 0.0, "max": 1.0},
        "integer": {"min": 2, "max": 5},
        "exponent": {"distribution": "log_uniform", "min": -5, "max": 0},
        "log": {"distribution": "log_uniform_values", "min": "1e-4", "max": 0.1},
        "inverse": {"distribution": "inv_log_uniform_values", "min": 0.01, "max": 1.0},
        "steps": {"distribution": "q_log_uniform_values", "min": 8, "max": 256, "q": 8},
        "normal": {"distribution": "normal", "mu": 3, "sigma": 0.5},
        "rounded": {"distribution": "q_normal", "mu": 0, "sigma": 10, "q": 5},
        "beta": {"distribution": "beta", "a": 2, "b": 2},
        "rare": {"values": ["never", "always"], "probabilities": [0.0, 1.0]},
        "fixed": {"value": None},
    }
    sweep = sweeps.create(ctx, "0", config("random", space, run_cap=40, metric=LOSS))
    done = worker(sweep.name).work(lambda args: args["uniform"])
    assert len(done) == sweep.expected == 40
    assert all(0 <= one["uniform"] <= 1 and one["integer"] in (2, 3, 4, 5) and isinstance(one["integer"], int) for one in done)
    assert all(math.exp(-5) <= one["exponent"] <= 1 and 1e-4 <= one["log"] <= 0.1 and 0.01 <= one["inverse"] <= 1.0 for one in done)
    assert all(one["steps"] % 8 == 0 and 8 <= one["steps"] <= 256 and one["rounded"] % 5 == 0 for one in done)
    assert all(0 < one["normal"] < 6 and 0 <= one["beta"] <= 1 and one["rare"] == "always" and one["fixed"] is None for one in done)
    assert len({one["uniform"] for one in done}) == 40 and {one["integer"] for one in done} == {2, 3, 4, 5}
    assert min(one["log"] for one in done) < 1e-3 < 1e-2 < max(one["log"] for one in done)


@pytest.mark.slow
def test_bayesian_search_learns_from_the_runs_before(sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]) -> None:
    space = {"x": {"min": -10.0, "max": 10.0}, "kind": {"values": ["good", "bad"]}, "fixed": {"value": 7}}
    sweep = sweeps.create(ctx, "0", config("bayes", space, run_cap=9, metric=LOSS))
    one = worker(sweep.name)
    other = worker(sweep.name).take()  # on its way all the time: it is told, too
    done = one.work(lambda args: abs(args["x"]) + (1000 if args["kind"] == "bad" else 0))
    assert len(done) == 8 and all(one["fixed"] == 7 and -10 <= one["x"] <= 10 for one in [*done, values(other)])
    assert len({one["x"] for one in done}) == 8
    matters = sweeps.importance(ctx, sweep.name)
    assert {one.name for one in matters} == {"kind", "x"}
    assert sum(one.importance or 0 for one in matters) == pytest.approx(1)


@pytest.mark.slow
def test_bayesian_search_goes_where_it_is_good() -> None:
    plan = parse(config("bayes", {"x": {"min": -10.0, "max": 10.0}, "kind": {"values": ["good", "bad"]}}, metric=LOSS))
    rng = random.Random(7)
    results: list[Result] = []
    for _ in range(40):
        x, kind = rng.uniform(-10, 10), rng.choice(["good", "bad"])
        results.append(({"x": x, "kind": kind}, (x - 2) ** 2 + (1000 if kind == "bad" else 0)))
    search = Search()
    found = [search.next(plan, "a sweep", position, results) for position in range(40, 46)]
    assert [one["kind"] for one in found] == ["good"] * 6
    assert sum(abs(one["x"] - 2) < 4 for one in found) >= 5
    assert found[0] == search.next(plan, "a sweep", 40, results)
    assert [one.name for one in search.importance(plan, results)] == ["kind", "x"]


def test_what_was_handed_out_and_not_heard_is_handed_out_again(
    sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker], database: Database
) -> None:
    sweep = sweeps.create(ctx, "0", config("grid", {"a": {"values": [1, 2]}}, metric=LOSS))
    first, second = worker(sweep.name), worker(sweep.name)
    lost = first.take()
    assert first.take() == lost, "its answer did not arrive: it asks again as if nothing had been"
    assert first.ask(lost["run_id"]) == []
    other = second.take()
    assert values(other) != values(lost)
    # The second agent dies before it has begun; somebody else takes over after a while.
    with database.write() as c:
        gone = t.agents.update().where(t.agents.c.id == second.id)
        c.execute(gone.values(heartbeat_ms=t.agents.c.heartbeat_ms - AGENT_GONE_MS - 1000))
    first.log(lost["run_id"], [1.0])
    assert first.take() == other
    # A script that is begun and never says a word is not begun for ever.
    assert first.ask(other["run_id"]) == []
    assert first.take() == {"type": "exit"}
    assert [one.state for one in sweeps.trials(ctx, sweep.name)] == ["finished", "pending"]


def test_a_run_is_made_when_it_is_handed_out(
    sweeps: Sweeps, tracking: Tracking, ctx: Context, worker: Callable[[str], Worker], database: Database
) -> None:
    sweep = sweeps.create(ctx, "0", config("random", {"net": {"parameters": {"lr": {"min": 0.0, "max": 1.0}}}}))
    command = worker(sweep.name).take()
    run = tracking.reports.find(ctx, "0", command["run_id"])
    details = tracking.reports.get(ctx, run.id)
    assert (run.status, details.state, details.sweep, details.private) == ("SCHEDULED", "pending", sweep.name, {})
    assert run.params == {"net.lr": str(values(command)["net"]["lr"])}
    assert tracking.reports.runs_of_sweep(ctx, sweep.name) == [run.id]
    with database.read() as c:
        assert c.execute(sa.select(t.trials.c.run_id)).scalars().all() == [run.id]


def test_paused_agents_wait_stopped_ones_leave_after_their_run_cancelled_ones_at_once(
    sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]
) -> None:
    sweep = sweeps.create(ctx, "0", config("random", {"a": {"min": 0.0, "max": 1.0}}, metric=LOSS))
    one = worker(sweep.name)
    run = one.take()["run_id"]
    sweeps.set_state(ctx, sweep.name, State.paused)
    assert one.ask(run) == []
    one.log(run, [0.5])
    assert one.ask() == []
    sweeps.set_state(ctx, sweep.name, State.running)
    run = one.take()["run_id"]
    sweeps.set_state(ctx, sweep.name, State.finished)
    assert one.ask(run) == []
    one.log(run, [0.4])
    assert one.ask() == [{"type": "exit"}]
    with pytest.raises(Conflict, match="FINISHED"):
        sweeps.set_state(ctx, sweep.name, State.paused)
    sweeps.set_state(ctx, sweep.name, State.running)
    run = one.take()["run_id"]
    sweeps.set_state(ctx, sweep.name, State.canceled)
    assert one.ask(run) == [{"type": "exit"}]


def test_hyperband_stops_what_is_worse_at_the_bracket(sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]) -> None:
    early = {"type": "hyperband", "min_iter": 3, "eta": 2}
    sweep = sweeps.create(ctx, "0", config("random", {"a": {"min": 0.0, "max": 1.0}}, metric=LOSS, early_terminate=early))
    first, second, third = (worker(sweep.name) for _ in range(3))
    good, bad, new = (one.take()["run_id"] for one in (first, second, third))
    first.log(good, [1.0, 0.5, 0.2, 0.1])
    second.log(bad, [1.0, 0.9], end=False)
    assert second.ask(bad) == [], "it has not come to the first bracket"
    assert first.ask() != []  # what the first had at the bracket is written down
    second.log(bad, [1.0, 0.9, 0.9, 0.9], end=False)
    third.log(new, [1.0, 0.5, 0.1], end=False)
    assert third.ask(new) == []
    assert second.ask(bad) == [{"type": "stop", "run_id": bad}]
    assert second.ask(bad) == [], "it was told"
    stopped = [one.client_id for one in sweeps.trials(ctx, sweep.name) if one.stopped]
    assert stopped == [bad]


def test_a_target_that_is_reached_ends_the_sweep(sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]) -> None:
    metric = {"name": "loss", "goal": "maximize", "target": 0.9}
    sweep = sweeps.create(ctx, "0", config("random", {"a": {"min": 0.0, "max": 1.0}}, metric=metric))
    one = worker(sweep.name)
    scores = iter([0.1, 0.95, 0.2])
    assert len(one.work(lambda _: next(scores))) == 2
    best = sweeps.best(ctx, sweep.name)
    assert best is not None and best.value == 0.95
    assert sweeps.get(ctx, sweep.name).state is State.finished


@pytest.mark.slow
def test_correlation_says_which_way(sweeps: Sweeps, ctx: Context, worker: Callable[[str], Worker]) -> None:
    space = {"up": {"values": [1, 2, 3, 4]}, "none": {"values": [0, 1]}}
    sweep = sweeps.create(ctx, "0", config("grid", space, metric=LOSS))
    worker(sweep.name).work(lambda args: float(args["up"]))
    found = {one.name: one for one in sweeps.importance(ctx, sweep.name)}
    assert found["up"].correlation == pytest.approx(1) and found["none"].correlation == pytest.approx(0)
    assert (found["up"].importance or 0) > (found["none"].importance or 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method: [", "no YAML"),
        ("just text", "must be a mapping"),
        (config("magic", {"a": {"value": 1}}), "grid, random, bayes"),
        ('{"method": "random"}', "has no parameters"),
        (config("random", {"a": 3}), "described by 3"),
        (config("random", {"a": {}}), "needs a value"),
        (config("random", {"a": {"min": 2, "max": 1}}), "greater than its max"),
        (config("random", {"a": {"min": 0, "max": 1, "distribution": "gauss"}}), "unknown distribution"),
        (config("random", {"a": {"distribution": "log_uniform_values", "min": 0, "max": 1}}), "greater than 0"),
        (config("random", {"a": {"distribution": "log_uniform", "min": 1, "max": 1000}}), "log_uniform_values"),
        (config("random", {"a": {"values": [1, 2], "probabilities": [0.5, 0.1]}}), "add up to 1"),
        (config("random", {"a": {"value": 1, "valeus": 2}}), "unknown key 'valeus'"),
        (config("random", {"a.b": {"value": 1}, "a": {"parameters": {"b": {"value": 1}}}}), "Two parameters"),
        (config("grid", {"a": {"min": 0.0, "max": 1.0}}), "random search"),
        (config("bayes", {"a": {"min": 0.0, "max": 1.0}}), "needs the metric"),
        (config("bayes", {"a": {"distribution": "beta"}}, metric=LOSS), "beta"),
        (config("random", {"a": {"value": 1}}, run_cap=0), "run_cap"),
        (config("random", {"a": {"value": 1}}, metric={"name": "x", "goal": "up"}), "minimize or maximize"),
        (config("random", {"a": {"value": 1}}, metric=LOSS, early_terminate={"type": "median"}), "hyperband"),
        (config("random", {"a": {"value": 1}}, metric=LOSS, early_terminate={"type": "hyperband"}), "min_iter"),
        (config("random", {"a": {"value": 1}}, early_terminate={"type": "hyperband", "min_iter": 3}), "judges runs by the metric"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_advice(sweeps: Sweeps, ctx: Context, text: str, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        sweeps.create(ctx, "0", text)
    assert sweeps.list(ctx) == []


def test_sweeps_belong_to_their_workspace(sweeps: Sweeps, ctx: Context, stranger: Context) -> None:
    sweep = sweeps.create(ctx, "0", config("random", {"a": {"value": 1}}, name="first"))
    agent = sweeps.join(ctx, sweep.name, "here").id
    assert [one.title for one in sweeps.list(ctx, experiment_id="0")] == ["first"] and sweeps.list(stranger) == []
    for ask in (
        lambda: sweeps.get(stranger, sweep.name),
        lambda: sweeps.trials(stranger, sweep.id),
        lambda: sweeps.join(stranger, sweep.name, "there"),
        lambda: sweeps.set_state(stranger, sweep.name, State.paused),
        lambda: sweeps.heartbeat(stranger, agent, []),
    ):
        with pytest.raises(NotFound):
            ask()
    reader = Context("u1", "ann", "w1", "red", scopes=frozenset({Scope.read}))
    with pytest.raises(Forbidden):
        sweeps.heartbeat(reader, agent, [])
    sweeps.delete(ctx, sweep.name)
    with pytest.raises(NotFound):
        sweeps.heartbeat(ctx, agent, [])
