"""What one call of `log()` costs the training, beside wandb's offline mode and mlflow's log_metric into a SQLite file.

Each contender logs in a process of its own; nothing needs a server. Only the calls are timed, one by one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping

from benchmarks.common import alternate, report

HEAD = """
import json, sys, time
folder, count = sys.argv[1], int(sys.argv[2])
"""
TIMED = """
taken = []
for step in range(count):
    began = time.perf_counter_ns()
    log(step)
    taken.append(time.perf_counter_ns() - began)
    if step % 100 == 0:
        time.sleep(0.001)
taken.sort()
found = {"p50 (µs)": taken[len(taken) // 2] / 1e3, "p99 (µs)": taken[int(0.99 * len(taken))] / 1e3}
"""
NATIVE = """
import drivetrain
run = drivetrain.init("benchmark", mode="offline")
def log(step): run.log({"loss": 0.5, "accuracy": 0.25}, step=step)
"""
WANDB = """
import wandb
run = wandb.init(project="benchmark", mode="offline", dir=folder, settings=wandb.Settings(silent=True))
def log(step): run.log({"loss": 0.5, "accuracy": 0.25}, step=step)
"""
MLFLOW = """
import mlflow
mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
run = mlflow.start_run()
def log(step): mlflow.log_metric("loss", 0.5, step=step)
"""
ENDS = {"drivetrain": "run.finish()", "wandb offline": "run.finish()", "mlflow, SQLite": "mlflow.end_run()"}
COUNTS = {"drivetrain": 20_000, "wandb offline": 20_000, "mlflow, SQLite": 100}
BEGINS = {"drivetrain": NATIVE, "wandb offline": WANDB, "mlflow, SQLite": MLFLOW}


def contender(name: str) -> Callable[[], Mapping[str, float]]:
    def run() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            code = f"{HEAD}{BEGINS[name]}{TIMED}{ENDS[name]}\nprint('\\n' + json.dumps(found))\n"
            environ = {**os.environ, "DRIVETRAIN_HOME": folder, "MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}
            command = [sys.executable, "-c", code, folder, str(COUNTS[name])]
            done = subprocess.run(
                command, env=environ, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
            return found

    return run


def main() -> None:
    report(
        "sdk",
        "What one call of log() costs the training",
        alternate({name: contender(name) for name in BEGINS}),
        packages=("wandb", "mlflow"),
        notes="Two numbers a call (mlflow's log_metric takes one); 20,000 calls, 100 of mlflow's.",
    )
