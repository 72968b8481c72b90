"""Does the control plane stall token streams? Gaps between chunks, quiet, and while a 100,000-run search and a 1 GB upload run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from benchmarks.common import alternate, answers, quantile, report, until

RUNS = 100_000
UPLOAD = 1_000_000_000
STREAMS = 2
SECONDS = 6.0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="dt-bench-") as name:
        folder = Path(name)
        replica = str(folder / "instant.sock")
        big = folder / "big.bin"
        block = os.urandom(1 << 20)
        with big.open("wb") as file:
            for i in range(UPLOAD >> 20):
                file.write(i.to_bytes(4) + block[4:])
        processes = [
            subprocess.Popen([sys.executable, "-m", "benchmarks.fixtures.instant", replica]),
            subprocess.Popen([sys.executable, "-m", "benchmarks.fixtures.whole", str(folder), replica, str(RUNS)]),
        ]
        try:
            url = f"http://127.0.0.1:{until(lambda: (folder / 'port').exists() and (folder / 'port').read_text())}"
            until(lambda: answers(f"{url}/health"))
            samples = alternate(
                {
                    "quiet": lambda: asyncio.run(measure(url, nothing)),
                    "search over 100,000 runs": lambda: asyncio.run(measure(url, search)),
                    "upload of 1 GB": lambda: asyncio.run(measure(url, lambda url: upload(url, big))),
                    "both": lambda: asyncio.run(measure(url, lambda url: both(url, big))),
                }
            )
        finally:
            for process in processes:
                process.terminate()
                process.wait(60)
    notes = (
        f"{STREAMS} streams of chunks 1 ms apart at the replica, through one web process on SQLite; gaps at the client. Client, upload, "
        "replica and server share two cores. A search is a page of 1,000 runs by a metric and a parameter, one after the other."
    )
    report("gaps", "Gaps in a token stream while the control plane works", samples, notes=notes)


async def measure(url: str, disturb: Callable[[str], Awaitable[float]]) -> dict[str, float]:
    """Stream and disturb; the gaps (ms) that fell into the disturbance."""
    done = asyncio.Event()
    gaps: list[float] = []

    async def stream() -> None:
        body = {"model": "llm", "stream": True, "messages": [{"role": "user", "content": "tick"}], "max_tokens": 500}
        async with httpx.AsyncClient(base_url=url, timeout=120) as http:
            while not done.is_set():
                async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                    assert answer.status_code == 200
                    last = 0.0
                    async for _ in answer.aiter_raw():
                        now = time.perf_counter()
                        if last:
                            gaps.append((now - last) * 1000)
                        last = now

    streams = [asyncio.create_task(stream()) for _ in range(STREAMS)]
    took = await disturb(url)
    done.set()
    await asyncio.gather(*streams)
    return {"gap p50, ms": quantile(gaps, 0.5), "gap p99, ms": quantile(gaps, 0.99), "greatest, ms": max(gaps), "took, s": took}


async def nothing(_: str) -> float:
    await asyncio.sleep(SECONDS)
    return SECONDS


async def search(url: str) -> float:
    """Page after page; the seconds of one."""
    query = {
        "experiment_ids": ["77"],
        "filter": "metrics.loss < 0.5 and params.rate = '3'",
        "order_by": ["metrics.loss ASC"],
        "max_results": 1000,
    }
    began, count = time.perf_counter(), 0
    async with httpx.AsyncClient(base_url=f"{url}/mlflow/api/2.0/mlflow", timeout=120) as http:
        while time.perf_counter() - began < SECONDS:
            answer = await http.post("/runs/search", json=query)
            assert len(answer.json()["runs"]) == 1000
            count += 1
    return (time.perf_counter() - began) / count


async def upload(url: str, big: Path) -> float:
    """One upload, by a process of its own; its seconds."""
    run = httpx.post(f"{url}/mlflow/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}).json()["run"]
    root = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    target = f"{url}/mlflow/api/2.0/mlflow-artifacts/artifacts/{root}/big.bin"
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec("curl", "-sfS", "-T", str(big), target, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0
    return time.perf_counter() - began


async def both(url: str, big: Path) -> float:
    return max(await asyncio.gather(search(url), upload(url, big)))


if __name__ == "__main__":
    main()
