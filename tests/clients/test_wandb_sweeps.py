"""Sweeps with the unmodified wandb client: `wandb.sweep` and `wandb.agent` with a function, and both command lines."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.scripts import cli
from tests.clients.wandb_script import HEAD as PLAIN
from tests.clients.wandb_script import command, script
from tests.conftest import Server

pytestmark = pytest.mark.slow

HEAD = (
    PLAIN
    + """
from wandb.agents.pyagent import Agent
Agent.HEARTBEAT_SLEEP_SECONDS = 0.2  # the client's own knob for tests: it is 5
"""
)


def wandb(server: Server, text: str, folder: Path, *, interrupted: bool = False) -> Any:
    return script(server, text, folder, head=HEAD, interrupted=interrupted)


def test_a_function_goes_through_a_grid_and_the_api_finds_the_best(server: Server, tmp_path: Path) -> None:
    told = wandb(
        server,
        """
        space = {"lr": {"values": [0.1, 0.2]}, "net": {"parameters": {"depth": {"values": [1, 2]}}}, "fixed": {"value": "x"}}
        sweep = wandb.sweep({"method": "grid", "name": "first", "metric": {"name": "loss", "goal": "minimize"}, "parameters": space})
        seen = []
        def train():
            with wandb.init() as run:
                seen.append([run.config.lr, run.config.net["depth"], run.config.fixed, run.sweep_id])
                for step in range(3):
                    run.log({"loss": run.config.lr * run.config.net["depth"] / (step + 1)})
        wandb.agent(sweep, train)
        api = wandb.Api()  # the agent has torn down what was there before
        found = api.sweep(f"{os.environ['WANDB_PROJECT']}/{sweep}")
        best = found.best_run()
        done(sweep=sweep, seen=seen, state=found.state, name=found.name, runs=len(found.runs), expected=found.expected_run_count,
             method=found.config["method"], best=dict(best.config), loss=best.summary["loss"],
             states=sorted({run.state for run in found.runs}), sweeps=[one.id for one in api.project(os.environ["WANDB_PROJECT"]).sweeps()],
             agents=[one.total_runs for one in found.agents()], of=[run.sweep_name for run in found.runs])
        """,
        tmp_path,
    )
    assert sorted(told["seen"]) == [[lr, depth, "x", told["sweep"]] for lr in (0.1, 0.2) for depth in (1, 2)]
    assert (told["state"], told["name"], told["method"]) == ("FINISHED", "first", "grid")
    assert (told["runs"], told["expected"], told["states"]) == (4, 4, ["finished"])
    assert told["best"]["lr"] == 0.1 and told["best"]["net"] == {"depth": 1} and told["loss"] == pytest.approx(0.1 / 3)
    assert told["sweeps"] == [told["sweep"]] and told["agents"] == [4] and set(told["of"]) == {told["sweep"]}

    shown = json.loads(cli(server, "sweep", "show", told["sweep"], "--json"))
    assert shown["best"]["args"]["lr"] == 0.1 and len(shown["runs"]) == 4 and shown["state"] == "FINISHED"
    assert {one["name"] for one in shown["importance"]} == {"lr", "net.depth"}
    assert told["sweep"] in cli(server, "sweep", "list") and "net.depth" in cli(server, "sweep", "show", told["sweep"])


def test_random_and_bayesian_search_with_a_count(server: Server, tmp_path: Path) -> None:
    told = wandb(
        server,
        """
        seen = {}
        for method in ("random", "bayes"):
            space = {"x": {"min": -5.0, "max": 5.0}, "n": {"min": 1, "max": 4}}
            sweep = wandb.sweep({"method": method, "metric": {"name": "score", "goal": "maximize"}, "parameters": space})
            mine = seen[method] = []
            def train():
                with wandb.init() as run:
                    mine.append([run.config.x, run.config.n])
                    run.log({"score": -abs(run.config.x)})
            wandb.agent(sweep, train, count=3)
        api = wandb.Api()  # the agent has torn down what was there before
        found = api.sweep(f"{os.environ['WANDB_PROJECT']}/{sweep}")
        done(**seen, state=found.state, best=found.best_run().summary["score"])
        """,
        tmp_path,
    )
    for method in ("random", "bayes"):
        assert len({x for x, _ in told[method]}) == 3
        assert all(-5 <= x <= 5 and n in (1, 2, 3, 4) for x, n in told[method])
    assert told["state"] == "RUNNING"
    assert told["best"] == pytest.approx(max(-abs(x) for x, _ in told["bayes"]))


def test_hyperband_stops_a_run_that_is_worse(server: Server, tmp_path: Path) -> None:
    told = wandb(
        server,
        """
        early = {"type": "hyperband", "min_iter": 2, "eta": 3}
        sweep = wandb.sweep({"method": "grid", "metric": {"name": "loss", "goal": "minimize"}, "early_terminate": early,
                             "parameters": {"level": {"values": [1, 2]}}})
        steps = {}
        def train():
            with wandb.init() as run:
                level = run.config.level
                steps[level] = 0
                for step in range(4 if level == 1 else 600):
                    run.log({"loss": float(level)})
                    steps[level] = step + 1
                    time.sleep(0.1 if level == 2 else 0)
        wandb.agent(sweep, train)
        done(sweep=sweep, steps=steps)
        """,
        tmp_path,
        interrupted=True,
    )
    assert told["steps"]["1"] == 4 and 2 <= told["steps"]["2"] < 600
    shown = json.loads(cli(server, "sweep", "show", told["sweep"], "--json"))
    assert [(one["args"]["level"], one["stopped"]) for one in shown["runs"]] == [(1, False), (2, True)]


def test_both_command_lines(server: Server, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import sys, wandb\nwith wandb.init() as run:\n"
        "    assert '--lr=' in sys.argv[1], sys.argv\n    run.log({'loss': run.config.lr * run.config.lr})\n"
    )
    (tmp_path / "sweep.yaml").write_text(
        "program: train.py\nmethod: grid\nmetric:\n  name: loss\n  goal: minimize\nparameters:\n  lr:\n    values: [3, 1, 2]\n"
        'command: ["${interpreter}", "${program}", "${args}"]\n'
    )

    def run(*arguments: str) -> str:
        # The agent starts its runs by the `python` that it finds.
        return command(server, tmp_path, *arguments, PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    said = run("sweep", "sweep.yaml")
    path = next(line.split("wandb agent ")[1].strip() for line in said.splitlines() if "wandb agent " in line)
    worked = run("agent", path)
    sweep = path.rpartition("/")[2]
    shown = json.loads(cli(server, "sweep", "show", sweep, "--json"))
    assert sorted(one["args"]["lr"] for one in shown["runs"]) == [1, 2, 3], worked
    assert (shown["state"], shown["best"]["value"]) == ("FINISHED", 1.0)
    assert {one["state"] for one in shown["runs"]} == {"finished"}

    run("sweep", "--resume", path)
    assert json.loads(cli(server, "sweep", "show", sweep, "--json"))["state"] == "RUNNING"
    run("sweep", "--pause", path)
    assert json.loads(cli(server, "sweep", "show", sweep, "--json"))["state"] == "PAUSED"
    cli(server, "sweep", "resume", sweep)
    run("sweep", "--stop", path)
    assert json.loads(cli(server, "sweep", "show", sweep, "--json"))["state"] == "FINISHED"


def test_a_bad_configuration_is_refused_with_advice(server: Server, tmp_path: Path) -> None:
    told = wandb(
        server,
        """
        try:
            wandb.sweep({"method": "grid", "parameters": {"lr": {"min": 0.0, "max": 1.0}}})
        except Exception as error:
            done(said=str(error))
        """,
        tmp_path,
    )
    assert "list its values" in told["said"]
