"""From the first `log()` until all is stored: drivetrain with a server, trackio and aim, which write into local files.

trackio and aim are installed into environments of their own, thrown away afterwards; one that cannot be had is left out, and why is said.
`python -m benchmarks local`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.common import alternate, console, drivetrain, report

STEPS = 5_000
TIMED = """
import json, os, sys, time
count = int(sys.argv[1])
{begin}
taken, began = [], time.perf_counter()
for step in range(count):
    at = time.perf_counter_ns()
    log({{"loss": 1 / (step + 1), "accuracy": 0.25}}, step)
    taken.append(time.perf_counter_ns() - at)
{end}
took = time.perf_counter() - began
taken.sort()
found = {{"a call, p50 µs": taken[count // 2] / 1e3, "a call, p99 µs": taken[int(count * 0.99)] / 1e3}}
found["points/s until stored"] = 2 * count / took
print("\\n" + json.dumps(found))
"""
BEGINS = {
    "drivetrain": "import drivetrain\nrun = drivetrain.init('local')\ndef log(values, step): run.log(values, step=step)",
    "trackio": "import trackio\ntrackio.init(project='local')\ndef log(values, step): trackio.log(values, step=step)",
    "aim": (
        "import aim\nrun = aim.Run(repo=os.getcwd(), system_tracking_interval=None, log_system_params=False, capture_terminal_logs=False)\n"
        "def log(values, step): run.track(values, step=step)"
    ),
}
ENDS = {"drivetrain": "run.finish()", "trackio": "trackio.finish()", "aim": "run.close()"}


def install(folder: Path, package: str) -> tuple[str, str] | str:
    """An interpreter that has the package, and its version; or why there is none."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run([python, "-m", "pip", "install", "-q", package], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        return f"{package} could not be installed: {done.stdout.strip().splitlines()[-1][:200]}"
    code = f"import importlib.metadata; print(importlib.metadata.version({package!r}))"
    return python, subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def contender(name: str, python: str, environ: Mapping[str, str]) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory(prefix="dt-bench-") as folder:
        code = TIMED.format(begin=BEGINS[name], end=ENDS[name])
        own = {"HOME": folder, "TRACKIO_DIR": f"{folder}/trackio", "HF_HUB_OFFLINE": "1", **environ}
        command = [python, "-c", code, str(STEPS)]
        done = subprocess.run(
            command, env=os.environ | own, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return found


def main() -> None:
    notes = [f"{STEPS:,} calls with two numbers each, one process. aim and trackio write into local files, drivetrain to a server."]
    more: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="dt-bench-") as name:
        folder = Path(name)
        with drivetrain(folder / "home") as url:
            here = {"DRIVETRAIN_URL": url}
            contenders: dict[str, Callable[[], Mapping[str, float]]] = {
                "drivetrain": partial(contender, "drivetrain", sys.executable, here)
            }
            for package in ("trackio", "aim"):
                found = install(folder / package, package)
                if isinstance(found, str):
                    notes.append(found)
                    console.print(f"  [dim]{found}[/]")
                else:
                    contenders[package] = partial(contender, package, found[0], {})
                    more[package] = found[1]
            samples = alternate(contenders)
    notes.append(", ".join(f"{package} {version}" for package, version in more.items()))
    report("local", "From log() until all is stored, beside local trackers", samples, notes=" ".join(notes))


if __name__ == "__main__":
    main()
