"""A classifier of scikit-learn's digits behind drivetrain's gateway, `mlflow models serve`, and bare FastAPI on uvicorn.

All get the same body in MLflow's scoring protocol over HTTP/1.1 keep-alive from the same client. drivetrain has everything on: the door,
assignment, and an event with input and output in the spool for each request.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import msgspec

from benchmarks import common
from benchmarks.common import ROOT, alternate, answers, console, free_port, quantile, report, until
from benchmarks.gateway import Client

ALONE = 300
SECONDS = 5.0
CONNECTIONS = 16
BATCH = 100
SAVE = """
import sys, mlflow
from mlflow.models import infer_signature
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
x, y = load_digits(return_X_y=True)
model = LogisticRegression(C=0.01, max_iter=5000, tol=0.01, random_state=7).fit(x[:1200], y[:1200])
mlflow.sklearn.save_model(model, sys.argv[1], signature=infer_signature(x, y), pip_requirements=["scikit-learn"])
"""


def digits() -> list[list[float]]:
    from sklearn.datasets import load_digits

    rows: list[list[float]] = load_digits().data[1200:].tolist()
    return rows


def request(url: str, rows: list[list[float]]) -> bytes:
    parts = urlsplit(url)
    body = msgspec.json.encode({"inputs": rows})
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def measure(url: str) -> dict[str, float]:
    rows = digits()
    port = urlsplit(url).port
    assert port is not None
    loop = asyncio.get_running_loop()

    async def connect() -> Client:
        return (await loop.create_connection(Client, "127.0.0.1", port))[1]

    singles = [request(url, [row]) for row in rows[:100]]
    batch = request(url, rows[:BATCH])
    client = await connect()
    for i in range(50):
        await client.ask(singles[i % 100])
    alone = [await client.ask(singles[i % 100]) * 1e3 for i in range(ALONE)]
    out = {"1 client: p50, ms": quantile(alone, 0.5), "p99, ms": quantile(alone, 0.99)}
    many = [await client.ask(batch) * 1e3 for _ in range(30)]
    out[f"{BATCH} rows: p50, ms"] = quantile(many, 0.5)
    client.transport.close()

    clients = [await connect() for _ in range(CONNECTIONS)]
    end = time.perf_counter() + SECONDS
    done = 0

    async def ask(one: Client, number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await one.ask(singles[(number + done) % 100])
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(ask(one, i) for i, one in enumerate(clients)))
    out[f"{CONNECTIONS} clients: requests/s"] = done / (time.perf_counter() - began)
    for one in clients:
        one.transport.close()
    return out


def run(url: str) -> dict[str, float]:
    return asyncio.run(measure(url))


@contextmanager
def process(command: list[str], health: str, log: Path) -> Iterator[None]:
    # mlflow looks for uvicorn on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path}
    with log.open("wb") as out:
        it = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environ, start_new_session=True)
    try:
        until(lambda: answers(health))
        yield
    finally:
        os.killpg(it.pid, signal.SIGTERM)
        it.wait(60)


def through(folder: Path) -> dict[str, float]:
    home = folder / f"home-{time.time_ns()}"
    with common.drivetrain(home) as url:
        environ = {**os.environ, "DRIVETRAIN_HOME": str(home), "DRIVETRAIN_URL": url}
        for arguments in (["pull", str(folder / "digits"), "--name", "digits"], ["deploy", "digits", "digits", "--wait"]):
            subprocess.run([sys.executable, "-m", "drivetrain.cli.main", *arguments], check=True, env=environ, stdout=subprocess.DEVNULL)
        target = f"{url}/invoke/digits/invocations"
        check(target)
        return run(target)


def mlflow(folder: Path) -> dict[str, float]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder / "digits"), "-p", str(port), "-h", "127.0.0.1"]
    command += ["--env-manager", "local", "--workers", "1"]
    with process(command, f"http://127.0.0.1:{port}/ping", folder / "mlflow.log"):
        target = f"http://127.0.0.1:{port}/invocations"
        check(target)
        return run(target)


def bare(folder: Path) -> dict[str, float]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.fixtures.bare", str(folder / "digits"), str(port)]
    with process(command, f"http://127.0.0.1:{port}/ping", folder / "bare.log"):
        target = f"http://127.0.0.1:{port}/invocations"
        check(target)
        return run(target)


def check(url: str) -> None:
    """Whoever is measured must be right."""
    rows = digits()[:100]
    answer = httpx.post(url, json={"inputs": rows}, timeout=60)
    answer.raise_for_status()
    assert len(answer.json()["predictions"]) == len(rows), answer.text[:200]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="dtc-") as name:
        folder = Path(name)
        console.print("  [dim]training[/]")
        environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        subprocess.run([sys.executable, "-W", "ignore", "-c", SAVE, str(folder / "digits")], check=True, env=environ, capture_output=True)
        contenders: dict[str, Callable[[], dict[str, float]]] = {
            "drivetrain's gateway": lambda: through(folder),
            "mlflow models serve": lambda: mlflow(folder),
            "bare FastAPI": lambda: bare(folder),
        }
        samples = alternate(contenders)
    notes = (
        f"Logistic regression on 64 numbers; one row a request; {ALONE} requests one at a time, {SECONDS:g} s over {CONNECTIONS} "
        "connections; one server process each (drivetrain: one web process and one replica). Client and servers share all cores. "
        "drivetrain writes an event with input and output for each request."
    )
    packages = ("mlflow", "scikit-learn", "fastapi", "uvicorn", "httptools", "msgspec")
    report("classic", "A classifier behind the gateway, MLflow's server and bare FastAPI", samples, packages=packages, notes=notes)


if __name__ == "__main__":
    main()
