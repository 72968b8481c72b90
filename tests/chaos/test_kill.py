"""`kill -9` in the middle of work: after the restart nothing that was acknowledged is missing, and no process is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.common import alive, ask_digits, deploy_digits, web_processes
from tests.clients.wandb_script import environment
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow

LOGGING = """
import mlflow
mlflow.set_experiment("killed")
with mlflow.start_run() as run:
    print("run", run.info.run_id, flush=True)
    for step in range(100_000):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
        print("acked", step, flush=True)
"""
REGISTERING = """
from mlflow import MlflowClient
client = MlflowClient()
for i in range(100_000):
    client.create_registered_model(f"model-{i}", description="kept")
    print("acked", i, flush=True)
"""
ROWS = """
import os, time, wandb
retries = dict(x_file_stream_retry_wait_min_seconds=0.2, x_file_stream_retry_wait_max_seconds=1)
settings = wandb.Settings(x_file_stream_transmit_interval=0.5, **retries)
run = wandb.init(project="killed", id="long", settings=settings)
step = 0
while not os.path.exists("end"):
    run.log({"loss": 1 / (step + 1), "word": str(step)})
    print("logged", step, flush=True)
    step += 1
    time.sleep(0.01)
run.finish()
print("finished", step, flush=True)
time.sleep(600)
"""
UPLOADING = """
import hashlib, os, pathlib, tempfile
import mlflow
folder = pathlib.Path(tempfile.mkdtemp())
with mlflow.start_run() as run:
    print("run", run.info.run_id, flush=True)
    for i in range(100_000):
        data = os.urandom(3_000_000)
        file = folder / f"file-{i}.bin"
        file.write_bytes(data)
        mlflow.log_artifact(str(file), "uploads")
        file.unlink()
        print("acked", i, hashlib.sha256(data).hexdigest(), flush=True)
"""


def client_environ(server: Server) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DRIVETRAIN_", "MLFLOW_"))}
    return clean | {
        "MLFLOW_TRACKING_URI": f"{server.url}/mlflow",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "10",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }


class Script:
    """A client in its own process whose printed lines are what the server acknowledged to it."""

    def __init__(self, code: str, environ: dict[str, str], cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=cwd
        )
        self.lines: list[list[str]] = []
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # the last line of a process that is killed may be half a line
                self.lines.append(line.split())
                self._news.put(None)

    def said(self, word: str) -> list[list[str]]:
        return [line[1:] for line in list(self.lines) if line[0] == word]

    def acked(self) -> list[list[str]]:
        return self.said("acked")

    def wait_for(self, count: int, word: str = "acked") -> None:
        def enough() -> bool:
            assert self.process.poll() is None, self.process.stderr.read() if self.process.stderr else ""
            return len(self.said(word)) >= count

        wait_for(enough, seconds=120, what=f"{count} times {word!r}")

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self._reader.join(30)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def script(code: str, server: Server, folder: Path | None = None) -> Iterator[Script]:
    it = Script(code, environment(server, folder) if folder else client_environ(server), folder)
    try:
        yield it
    finally:
        it.end()


def kill_supervisor(server: Server) -> None:
    """The supervisor dies; everything it started must be gone by itself, then it is started again."""
    family = server.family()
    assert family
    server.kill()
    wait_for(lambda: not [p for p in family if alive(p)], seconds=15, what="the end of every child")
    server.start()


def kill_web(server: Server) -> None:
    """A web process dies; the supervisor puts another in its place."""
    web = web_processes(server)
    assert web
    web[0].send_signal(signal.SIGKILL)

    def replaced() -> bool:
        now = [p.pid for p in web_processes(server)]
        try:
            return web[0].pid not in now and len(now) == len(web) and httpx.get(f"{server.url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(replaced, what="another web process")


@pytest.fixture(params=[kill_supervisor, kill_web], ids=["supervisor", "web"])
def kill(request: pytest.FixtureRequest) -> Callable[[Server], None]:
    chosen: Callable[[Server], None] = request.param
    return chosen


def test_while_logging(new_server: Callable[..., Server], kill: Callable[[Server], None]) -> None:
    server = new_server()
    with script(LOGGING, server) as client:
        for more in (30, 30):
            client.wait_for(len(client.acked()) + more)
            kill(server)
        client.wait_for(len(client.acked()) + 10)
    run_id = client.lines[0][1]
    answer = httpx.get(
        f"{server.url}/mlflow/api/2.0/mlflow/metrics/get-history",
        params={"run_id": run_id, "metric_key": "loss", "max_results": 25_000},
    )
    steps = [point["step"] for point in answer.json()["metrics"]]
    assert len(steps) == len(set(steps)), "a retried point was stored twice"
    assert {int(step) for (step,) in client.acked()} <= set(steps)


def test_while_wandb_logs(new_server: Callable[..., Server], kill: Callable[[Server], None], tmp_path: Path) -> None:
    """Its client keeps what was not acknowledged and sends it again: at the end every row is there, once."""
    server = new_server()
    work = tmp_path / "work"
    work.mkdir()
    with script(ROWS, server, work) as client:
        for _ in range(3):
            client.wait_for(len(client.said("logged")) + 100, "logged")
            wait_for(lambda: wandb_rows(server), what="rows at the server")
            kill(server)
        client.wait_for(len(client.said("logged")) + 50, "logged")
        (work / "end").touch()
        client.wait_for(1, "finished")
        count = int(client.said("finished")[0][0])
    rows = wandb_rows(server, count + 10)
    assert [(row["_step"], row["loss"], row["word"]) for row in rows] == [(step, 1 / (step + 1), str(step)) for step in range(count)]


def wandb_rows(server: Server, most: int = 10) -> list[dict[str, Any]]:
    query = 'query Q($most: Int) { project(name: "killed") { run(name: "long") { history(minStep: 0, maxStep: $most) } } }'
    found = httpx.post(f"{server.url}/wandb/graphql", json={"query": query, "variables": {"most": most}}).json()["data"]["project"]
    return [json.loads(text) for text in found["run"]["history"]] if found and found["run"] else []


def test_while_registering(new_server: Callable[..., Server], kill: Callable[[Server], None]) -> None:
    server = new_server()
    with script(REGISTERING, server) as client:
        client.wait_for(20)
        # A retry of a creation that was committed but not acknowledged is a conflict, as it is with MLflow's own server.
        kill(server)
    for (i,) in client.acked():
        answer = httpx.get(f"{server.url}/mlflow/api/2.0/mlflow/registered-models/get", params={"name": f"model-{i}"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["registered_model"]["description"] == "kept"


def test_while_uploading(new_server: Callable[..., Server], kill: Callable[[Server], None]) -> None:
    server = new_server()
    with script(UPLOADING, server) as client:
        client.wait_for(4)
        kill(server)
        client.wait_for(len(client.acked()) + 2)
    run_id = client.lines[0][1]
    run = httpx.get(f"{server.url}/mlflow/api/2.0/mlflow/runs/get", params={"run_id": run_id}).json()["run"]
    root = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    for i, digest in client.acked():
        data = httpx.get(f"{server.url}/mlflow/api/2.0/mlflow-artifacts/artifacts/{root}/uploads/file-{i}.bin").content
        assert hashlib.sha256(data).hexdigest() == digest


def test_while_serving(new_server: Callable[..., Server], kill: Callable[[Server], None], digits_model: Path) -> None:
    """Answers that arrived have their events; replicas come back; nothing is counted twice."""
    server = new_server()
    deploy_digits(server, digits_model)
    answered: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            while not stop.is_set():
                try:
                    answer = ask_digits(http)
                except httpx.HTTPError:
                    continue
                if answer.status_code == 200:
                    answered.append(answer.headers["x-request-id"])

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        wait_for(lambda: len(answered) > 50)
        kill(server)
        before = len(answered)
        wait_for(lambda: len(answered) > before + 50, seconds=120, what="answers after the restart")
    finally:
        stop.set()
        asker.join(90)
    assert len(answered) == len(set(answered))
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for request_id in answered[::7]:
            lineage = http.get(f"/api/v1/requests/{request_id}/lineage")
            assert lineage.status_code == 200, f"an answered request has no event: {lineage.text}"
