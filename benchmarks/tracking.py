"""Tracking over HTTP, beside `mlflow server` with its default workers and with one, all on SQLite: writing, searching, reading, files.

`python -m benchmarks.tracking [--quick]`. The client is one bare connection (or 16), the same for all, with bodies made beforehand.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.common import alternate, console, number, report
from benchmarks.fixtures.trackers import Client, Tracker, batch, fill_runs, fill_series, mlflow_server, our_server

DRIVETRAIN, DEFAULT, ONE = "drivetrain", "mlflow server", "mlflow server, 1 worker"
KEYS = [f"layer{n}/norm" for n in range(10)]
WRITERS = 16
SEARCH = {"filter": "metrics.loss < 0.5 and params.rate = '3'", "order_by": ["metrics.loss ASC"], "max_results": 100}
PAGE = 25_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; `peer`: how much of it a peer does where time allows no more."""

    repeats: int = 3
    batches: int = 60
    peer_batches: int = 6
    calls: int = 400
    peer_calls: int = 60
    searches: int = 10
    runs: int = 5_000
    many_runs: int = 100_000
    history: int = 100_000
    chart: int = 1_000_000
    file_mb: int = 200
    files: int = 500


QUICK = Size(1, 10, 2, 50, 20, 3, 500, 2_000, 20_000, 50_000, 20, 50)


@dataclass(frozen=True, slots=True)
class Filled:
    """A server and what was put there before."""

    tracker: Tracker
    few: str
    many: str | None
    history: str
    chart: str


def fill(tracker: Tracker, size: Size) -> Filled:
    few = fill_runs(tracker, "few", size.runs)
    many = fill_runs(tracker, "many", size.many_runs) if tracker.ours else None
    return Filled(tracker, few, many, fill_series(tracker, size.history), fill_series(tracker, size.chart))


def measure(at: Filled, others: Sequence[Tracker], size: Size, folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    with ExitStack() as stack:
        for other in others:
            stack.enter_context(other.held())
        for part in (writing, writers, searching, reading, files):
            os.sync()  # what the one before left to the disk is not for this one to wait for
            found |= part(at, size, folder)
    return found


def bodies(run: str, count: int, first: int = 0) -> list[bytes]:
    """Batches of 1000 points, as a training run sends them: 100 steps of ten metrics."""
    now = time.time_ns() // 1_000_000
    return [
        batch(run, [(key, step, now + step, 0.001 * step) for step in range(n * 100, n * 100 + 100) for key in KEYS])
        for n in range(first, first + count)
    ]


def writing(at: Filled, size: Size, _: Path) -> dict[str, float]:
    client = Client(at.tracker)
    run = str(client.run()["run_id"])
    count = size.batches if at.tracker.ours else size.peer_batches
    raw = bodies(run, count + 1)
    log_batch = "/api/2.0/mlflow/runs/log-batch"
    client.send("POST", log_batch, raw[0])
    used, took = at.tracker.cpu(), timed(lambda: [client.send("POST", log_batch, one) for one in raw[1:]])
    used = at.tracker.cpu() - used
    calls = size.calls if at.tracker.ours else size.peer_calls
    now = time.time_ns() // 1_000_000
    singles = [
        f'{{"run_id": "{run}", "key": "loss", "value": {n / 1000}, "timestamp": {now + n}, "step": {n}}}'.encode() for n in range(calls + 1)
    ]
    log_metric = "/api/2.0/mlflow/runs/log-metric"
    client.send("POST", log_metric, singles[0])
    one_used, one_took = at.tracker.cpu(), timed(lambda: [client.send("POST", log_metric, one) for one in singles[1:]])
    one_used = at.tracker.cpu() - one_used
    client.close()
    return {
        "log_batch of 1000, points/s": count * 1000 / took,
        "log_batch, server's CPU a point, µs": used / count / 1000 * 1e6,
        "log_metric, calls/s": calls / one_took,
        "log_metric, server's CPU a call, µs": one_used / calls * 1e6,
    }


def writers(at: Filled, size: Size, _: Path) -> dict[str, float]:
    """16 connections at once, each with a run of its own; every point is looked for afterwards."""
    count = max(1, (size.batches if at.tracker.ours else size.peer_batches) // 4)
    clients = [Client(at.tracker) for _ in range(WRITERS)]
    runs = [str(client.run()["run_id"]) for client in clients]
    work = [bodies(run, count) for run in runs]
    failed: list[str] = []

    def write(client: Client, raw: list[bytes]) -> None:
        for one in raw:
            try:
                client.send("POST", "/api/2.0/mlflow/runs/log-batch", one)
            except RuntimeError as error:
                failed.append(str(error))

    with ThreadPoolExecutor(WRITERS) as pool:
        took = timed(lambda: list(pool.map(write, clients, work)))
    kept = 0
    for run in runs:
        for key in KEYS:
            kept += len(clients[0].get(f"metrics/get-history?run_id={run}&metric_key={key}&max_results={PAGE}").get("metrics", ()))
    for client in clients:
        client.close()
    for one in failed[:3]:
        console.print(f"  [red]{one}[/]")
    return {
        f"{WRITERS} writers of log_batch, points/s": WRITERS * count * 1000 / took,
        f"{WRITERS} writers: requests that failed": len(failed),
        f"{WRITERS} writers: points lost": WRITERS * count * 1000 - kept,
    }


def searching(at: Filled, size: Size, _: Path) -> dict[str, float]:
    client = Client(at.tracker)
    found: dict[str, float] = {}
    for experiment, runs in ((at.few, size.runs), (at.many, size.many_runs)):
        if experiment is not None:
            query = {**SEARCH, "experiment_ids": [experiment]}
            assert len(client.call("runs/search", query)["runs"]) == min(100, runs // 20)
            name = f"search {runs:,} runs by metric and param, a page of 100, ms"
            found[name] = middle(partial(client.call, "runs/search", query), size.searches)
    client.close()
    return found


def reading(at: Filled, size: Size, _: Path) -> dict[str, float]:
    client = Client(at.tracker)

    def history() -> None:
        count, token = 0, ""
        while True:
            page = client.get(
                f"metrics/get-history?run_id={at.history}&metric_key=loss&max_results={PAGE}" + (f"&page_token={token}" if token else "")
            )
            count += len(page["metrics"])
            if not (token := page.get("next_page_token", "")):
                break
        assert count == size.history, count

    chart = f"/api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids={at.chart}&metric_key=loss&max_results=1000"
    found = {
        f"history of {size.history:,} points, ms": timed(history) * 1000,
        f"chart of {size.chart:,} points, ms": timed(lambda: client.send("GET", chart)) * 1000,
    }
    client.close()
    return found


def files(at: Filled, size: Size, folder: Path) -> dict[str, float]:
    client = Client(at.tracker)
    root = str(client.run()["artifact_uri"]).removeprefix("mlflow-artifacts:/")
    base = f"/api/2.0/mlflow-artifacts/artifacts/{root}"
    kind = "application/octet-stream"
    big = os.urandom(1 << 20) * size.file_mb
    big = os.urandom(64) + big[64:]
    up = timed(lambda: client.send("PUT", f"{base}/big.bin", big, kind))
    back = b""

    def download() -> None:
        nonlocal back
        back = client.send("GET", f"{base}/big.bin")

    down = timed(download)
    assert back == big
    small = [os.urandom(2000) for _ in range(size.files)]
    many = timed(lambda: [client.send("PUT", f"{base}/few/{n}.bin", one, kind) for n, one in enumerate(small)])
    client.close()
    return {
        f"file of {size.file_mb} MiB up, MB/s": len(big) / up / 1e6,
        f"file of {size.file_mb} MiB down, MB/s": len(big) / down / 1e6,
        f"{size.files} files of 2 kB up, files/s": size.files / many,
    }


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def middle(work: Callable[[], object], times: int) -> float:
    """The median of some calls, ms."""
    return statistics.median(timed(work) for _ in range(times)) * 1000


def transposed(samples: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """A row for each measure; the ratios of the medians at its end: how many times better drivetrain is."""
    rows: dict[str, dict[str, list[float]]] = {}
    for who, measures in samples.items():
        for name, values in measures.items():
            rows.setdefault(name, {})[who] = values
    for name, row in rows.items():
        mine = statistics.median(row[DRIVETRAIN])
        for peer, column in ((DEFAULT, "× mlflow"), (ONE, "× mlflow, 1 worker")):
            if peer in row and mine and (theirs := statistics.median(row[peer])):
                row[column] = [mine / theirs if name.endswith("/s") else theirs / mine]
    return rows


def main() -> None:
    size = QUICK if "--quick" in sys.argv else Size()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dt-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        trackers = {
            DRIVETRAIN: stack.enter_context(our_server(folder / "ours")),
            DEFAULT: stack.enter_context(mlflow_server(folder / "default")),
            ONE: stack.enter_context(mlflow_server(folder / "one", "--workers", "1")),
        }
        journals = {who: tracker.journal() for who, tracker in trackers.items()}
        filled = {who: fill(tracker, size) for who, tracker in trackers.items()}
        console.print(f"  [dim]filled after {time.perf_counter() - began:.0f} s[/]")
        contenders = {
            who: partial(measure, at, [one for one in trackers.values() if one is not at.tracker], size, folder)
            for who, at in filled.items()
        }
        samples = alternate(contenders, repeats=size.repeats)
    notes = (
        f"SQLite with synchronous=FULL for all, so a commit waits for the disk; journal: {journals[DRIVETRAIN]} for drivetrain, "
        f"{journals[DEFAULT]} for mlflow, both as they come. One bare HTTP connection, bodies made beforehand; client and server share the "
        f"machine. A batch is 100 steps of 10 metrics; a search asks for {SEARCH['filter']!r}, ordered by the metric. "
        f"mlflow writes files without waiting for the disk, drivetrain waits. While one is measured, the others' processes are stopped: "
        f"idle, mlflow's use two thirds of a core. Histories are read in pages of {PAGE:,}, charts as 1,000 points of "
        "get-history-bulk-interval."
    )
    rows = transposed(samples)
    if "--quick" in sys.argv:
        for measure_, row in rows.items():
            console.print(f"  {measure_}: " + ", ".join(f"{who} {number(statistics.median(values))}" for who, values in row.items()))
    else:
        report("tracking", "Tracking over HTTP, beside mlflow's server", rows, packages=("mlflow",), notes=notes)
    console.print(f"[dim]{time.perf_counter() - began:.0f} s[/]")


if __name__ == "__main__":
    main()
