"""From the command to the first page, and what the idle server weighs; beside `mlflow server`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.common import alternate, answers, free_port, report, until


def weight(process: psutil.Process) -> float:
    """Resident memory, MB."""
    return float(process.memory_info().rss / 1e6)


def drivetrain() -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="dt-bench-"))
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "drivetrain.cli.main", "up", "--home", str(folder / "home"), "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/"))
        first = time.perf_counter() - began
        supervisor = psutil.Process(process.pid)
        time.sleep(3)  # let it settle: this measures an idle server
        children = supervisor.children(recursive=True)
        return {
            "first page, s": first,
            "web process, MB": max(weight(child) for child in children),
            "supervisor, MB": weight(supervisor),
            "all processes, MB": weight(supervisor) + sum(weight(child) for child in children),
        }
    finally:
        process.terminate()
        process.wait(60)


def mlflow(*arguments: str) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="mlflow-bench-"))
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
               "--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port), *arguments]  # fmt: skip
    began = time.perf_counter()
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ, start_new_session=True)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/"))
        first = time.perf_counter() - began
        time.sleep(3)
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        return {"first page, s": first, "all processes, MB": sum(weight(one) for one in tree)}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def main() -> None:
    contenders = {"drivetrain": drivetrain, "mlflow server (default)": mlflow, "mlflow server, 1 worker": lambda: mlflow("--workers", "1")}
    samples = alternate(contenders)
    notes = "SQLite, an empty store each time, warm file cache; memory is the sum of resident sets 3 s after the first page."
    report("startup", "Start and idle weight", samples, packages=("mlflow",), notes=notes)


if __name__ == "__main__":
    main()
