"""Runs a script of the unmodified wandb client in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from tests.conftest import Server

KEY = "dt-" + "0" * 40
HEAD = """
import json, math, os, sys, time
import wandb

def done(**told):
    print(json.dumps(told, default=dict))
"""


def environment(server: Server, folder: Path, **more: str) -> dict[str, str]:
    """The server, and folders of its own: what the client has cached elsewhere is no proof that the server has it. The project is named
    as the folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DRIVETRAIN_", "WANDB_", "MLFLOW_"))}
    own = {
        "WANDB_BASE_URL": f"{server.url}/wandb",
        "WANDB_API_KEY": KEY,
        "WANDB_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder / "cache"),
        "WANDB_CONFIG_DIR": str(folder / "config"),
        "WANDB_DATA_DIR": str(folder / "data"),
        "WANDB_PROJECT": folder.name,
        "WANDB_CONSOLE": "off",
        "WANDB_SILENT": "true",
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_TRACKING_URI": f"{server.url}/mlflow",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    return clean | own | more


def script(
    server: Server, text: str, folder: Path, *, head: str = HEAD, timeout: float = 200, interrupted: bool = False, **environ: str
) -> Any:
    """Run the script; the last line it prints, as JSON. Warnings, retries and tracebacks fail the test; a run that is `interrupted` by its
    agent prints a traceback."""
    code = head + textwrap.dedent(text)
    surroundings = environment(server, folder, **environ)
    done = subprocess.run([sys.executable, "-c", code], env=surroundings, cwd=folder, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for word in () if interrupted else ("Traceback", "retrying", "WARNING", "ERROR"):
        assert word not in done.stderr, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def command(server: Server, folder: Path, *arguments: str, **environ: str) -> str:
    """wandb's command line; what it prints on both streams."""
    surroundings = environment(server, folder, WANDB_SILENT="false", **environ)
    done = subprocess.run(
        [sys.executable, "-m", "wandb", *arguments], env=surroundings, cwd=folder, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr
