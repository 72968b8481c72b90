"""Runs a piece of Python in a process of its own, with the environment that `drivetrain env` gives; what it prints last is JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.conftest import Server


def environment(url: str, key: str = "anything") -> dict[str, str]:
    """What clients need to find the server, and nothing of ours."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DRIVETRAIN_", "OPENAI_", "OLLAMA_", "MLFLOW_"))}
    return clean | {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": key,
        "OLLAMA_HOST": f"{url}/ollama",
        "KSERVE_HOST": url.removeprefix("http://") + "/kserve",
        "SERVER_URL": url,
    }


def run(url: str, script: str, *, key: str = "anything", timeout: float = 180) -> Any:
    """The last line that the script prints, as JSON. A script that fails fails the test, with what it said."""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(url, key), capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def cli(server: Server, *arguments: str) -> str:
    """Run the command line against the server; its standard output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIVETRAIN_")}
    clean |= {"DRIVETRAIN_URL": server.url, "DRIVETRAIN_API_KEY": server.token}
    done = subprocess.run(
        [sys.executable, "-m", "drivetrain.cli.main", *arguments], env=clean, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"drivetrain {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
    return done.stdout
