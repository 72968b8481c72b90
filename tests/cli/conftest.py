"""The real command in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from drivetrain.cli.main import app


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout: a second one, or text beside it, is an error."""
        return json.loads(self.out)

    def ok(self) -> Said:
        assert self.code == 0, f"ended with {self.code}\n{self.out}\n{self.err}"
        assert "Traceback" not in self.err
        return self


@cache
def program() -> Any:
    """All commands, with what typer knows of them; putting them together takes a while."""
    return typer.main.get_command(app)


Drivetrain = Callable[..., Said]


def run(*arguments: str | Path, stdin: str | None = None, **environ: str) -> Said:
    """Run `drivetrain …` with a clean environment and these variables."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DRIVETRAIN_")} | {"COLUMNS": "200"} | environ
    done = subprocess.run(
        [sys.executable, "-m", "drivetrain.cli.main", *map(str, arguments)],
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
        input=stdin or "",
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivetrain]:
    """The command where no server runs: a home that is not there, and an address where nothing listens."""
    environ = {"DRIVETRAIN_HOME": str(tmp_path_factory.mktemp("nowhere") / "none")}
    with socket.socket() as held:  # while it is bound and does not listen, nobody else can
        held.bind(("127.0.0.1", 0))
        environ["DRIVETRAIN_URL"] = f"http://127.0.0.1:{held.getsockname()[1]}"
        yield lambda *arguments, **more: run(*arguments, **environ | more)
