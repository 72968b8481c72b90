"""What the demo stands on: a server of its own, commands, and a few ways to say what happens."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
from rich.console import Console
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from drivetrain.answers.rollouts import WatchedRollout

DRIVETRAIN = str(Path(sys.executable).with_name("drivetrain"))
HERE = Path(__file__).parent
BEGAN = time.monotonic()
console = Console(highlight=False)
T = TypeVar("T")


def start_server(home: Path) -> subprocess.Popen[bytes]:
    """A server on an empty home and a free port; the usual clients of this process point at it afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    log = home.parent / "server.log"
    with log.open("wb") as file:
        command = [DRIVETRAIN, "up", "--home", str(home), "--port", "0"]
        server = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)

    def ready() -> str | None:
        if server.poll() is not None:
            raise SystemExit(f"drivetrain up ended:\n{log.read_text()}")
        try:
            url = str(json.loads((home / "server.json").read_text())["url"])
            return url if httpx.get(f"{url}/health", timeout=2).status_code == 200 else None
        except (OSError, ValueError, httpx.HTTPError):
            return None

    url = until(ready, "the server answers")
    console.print(f"  Answers at {url} after {time.monotonic() - began:.1f} s.")
    # What `eval "$(drivetrain env)"` does in a shell: the usual variables of the usual clients.
    exports = json.loads(run("env", "--json", DRIVETRAIN_URL=url))
    os.environ.update(exports)
    os.environ.update({"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"})
    return server


def stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGTERM)
    server.wait(60)


def say(title: str, more: str = "") -> None:
    passed = time.monotonic() - BEGAN
    console.print(f"\n[bold]{title}[/]   [dim]{passed // 60:.0f}:{passed % 60:02.0f}[/]")
    if more:
        console.print(f"[dim]{more}[/]", soft_wrap=True)


def tell(text: str) -> None:
    console.print(f"  {text}", soft_wrap=True)


def run(*arguments: str, **environ: str) -> str:
    """What a drivetrain command prints."""
    done = subprocess.run([DRIVETRAIN, *arguments], env={**os.environ, **environ}, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"drivetrain {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def show(*arguments: str) -> None:
    """Run a drivetrain command before the audience's eyes; whatever it ends with."""
    console.print(f"[dim]$ drivetrain {' '.join(arguments)}[/]", soft_wrap=True)
    subprocess.run([DRIVETRAIN, *arguments])


def until(condition: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise SystemExit(f"Not within {seconds:.0f} s: {what}")


def spinner(text: str) -> Progress:
    progress = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True)
    progress.add_task(text)
    return progress


def follow(look: Callable[[], WatchedRollout], asked: Callable[[], int], ends: set[str], seconds: float = 240) -> WatchedRollout:
    """Show a rollout while it goes, until its state is one of `ends`."""
    end = time.monotonic() + seconds
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        while (now := look()).state not in ends:
            if time.monotonic() > end:
                raise SystemExit(f"The rollout did not come to an end within {seconds:.0f} s; it is {now.state}: {now.why}")
            live.update(_rollout(now, asked()))
            time.sleep(0.25)
    return now


def _rollout(now: WatchedRollout, asked: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(f"  {now.canary_name} has [bold]{now.share / 100:g} %[/] of the traffic", f"{asked:,} pictures", now.state)
    for one in now.evidence:
        if one.value is not None and one.threshold is not None and one.measure != "assignment":
            full = math.log1p(max(0.0, one.value)) / math.log1p(one.threshold)
            bar = "█" * round(min(1.0, full) * 24)
            arms = [
                f"{getattr(now, f'{arm}_name')} {getattr(one, f'{arm}_bad'):.0f} of {getattr(one, f'{arm}_units')}"
                for arm in ("canary", "stable")
            ]
            value = f"{one.value:.3g} of {one.threshold:.0f}"
            table.add_row(f"  {one.measure}", f"[red]{bar:24}[/] {value}", f"[dim]bad: {arms[0]}, {arms[1]}[/]")
    return table
