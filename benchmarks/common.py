"""What every benchmark shares: contenders in alternating order, raw samples kept, medians and ratios printed.

A benchmark compares contenders in the same run on the same machine. Its result is a JSON file in benchmarks/results with every
raw sample, the versions and the machine; the tables in benchmarks/README.md are made from those files. Nothing is asserted.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
console = Console()
Samples = dict[str, list[float]]


def machine() -> dict[str, Any]:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def versions(*packages: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("drivetrain", *packages)}


def alternate(contenders: Mapping[str, Callable[[], Mapping[str, float]]], *, repeats: int = 3) -> dict[str, Samples]:
    """Run every contender `repeats` times, in an order that turns around each time: {contender: {measure: samples}}."""
    samples: dict[str, Samples] = {name: {} for name in contenders}
    for i in range(repeats):
        order = list(contenders) if i % 2 == 0 else list(reversed(contenders))
        for name in order:
            console.print(f"  [dim]{i + 1}/{repeats} {name}[/]")
            for measure, value in contenders[name]().items():
                samples[name].setdefault(measure, []).append(value)
    return samples


def report(name: str, title: str, samples: Mapping[str, Samples], *, packages: Sequence[str] = (), notes: str = "", **more: Any) -> None:
    """Print medians (with the range) and write benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "title": title,
        "when": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": versions(*packages),
        "notes": notes,
        **more,
        "samples": samples,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def show(result: Mapping[str, Any]) -> None:
    table = Table(title=result["title"], title_justify="left")
    measures = list(dict.fromkeys(m for s in result["samples"].values() for m in s))
    table.add_column("")
    for measure in measures:
        table.add_column(measure, justify="right")
    for contender, values in result["samples"].items():
        table.add_row(contender, *(cell(values.get(m, [])) for m in measures))
    console.print(table)
    if result["notes"]:
        console.print(f"[dim]{result['notes']}[/]")


def cell(values: Sequence[float]) -> str:
    """median (least–most)."""
    if not values:
        return ""
    middle = statistics.median(values)
    return f"{number(middle)} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def drivetrain(home: Path, *arguments: str, **environ: str) -> Iterator[str]:
    """A server on `home`; its address."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DRIVETRAIN_")} | environ
    command = [sys.executable, "-m", "drivetrain.cli.main", "up", "--home", str(home), "--port", "0", *arguments]
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{home.name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=clean, start_new_session=True)
    try:
        yield str(until(lambda: _address(home)))
    finally:
        process.terminate()
        process.wait(60)


def _address(home: Path) -> str | None:
    try:
        url = str(json.loads((home / "server.json").read_text())["url"])
    except (OSError, ValueError):
        return None
    return url if answers(f"{url}/health") else None


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(condition: Callable[[], Any], *, seconds: float = 180) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.005)
    raise TimeoutError(f"not within {seconds} s")
