"""What the chaos tests share: the command line on a server, and a deployed classifier."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.conftest import Server


def drivetrain(server: Server, *arguments: str) -> str:
    """Run the command line against the server; its standard output."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DRIVETRAIN_")}
    environ |= {"DRIVETRAIN_URL": server.url, "DRIVETRAIN_API_KEY": server.token}
    done = subprocess.run(
        [sys.executable, "-m", "drivetrain.cli.main", *arguments], env=environ, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"drivetrain {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
    return done.stdout


def deploy_digits(server: Server, model: Path, *options: str) -> None:
    drivetrain(server, "pull", str(model), "--name", "digits")
    drivetrain(server, "deploy", "digits", "digits", "--wait", *options)


def ask_digits(http: httpx.Client) -> httpx.Response:
    return http.post("/invoke/digits/invocations", json={"inputs": [[0.0] * 64]})


def replicas(server: Server, deployment: str) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = json.loads(drivetrain(server, "ps", "--json"))
    return [replica for one in shown if one["name"] == deployment for replica in one["replicas"]]


def web_processes(server: Server) -> list[psutil.Process]:
    return [p for p in server.family() if alive(p) and "drivetrain.webserver" in command(p)]


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
