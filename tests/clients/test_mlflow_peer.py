"""Long scripts, once against `mlflow server` and once against this one: what the client sees is the same."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.test_mlflow import mlflow
from tests.conftest import Server, free_port, wait_for

pytestmark = pytest.mark.slow

SCRIPT = (Path(__file__).parent / "mlflow_script.py").read_text()
FLUENT = (Path(__file__).parent / "mlflow_fluent.py").read_text()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `mlflow server` with SQLite and one worker."""
    home, port = tmp_path_factory.mktemp("peer"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "files")]
    environ = os.environ | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=home, start_new_session=True)
    url = f"http://127.0.0.1:{port}"

    def healthy() -> bool:
        assert process.poll() is None, (home / "log").read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    try:
        wait_for(healthy, seconds=120, what="mlflow server")
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


@pytest.fixture(scope="module")
def theirs(peer: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("theirs")
    return mlflow(Server(folder, url=peer), SCRIPT, cwd=folder, uri=peer)


def test_the_client_sees_the_same(either_server: Server, theirs: Any, tmp_path: Path) -> None:
    assert mlflow(either_server, SCRIPT, cwd=tmp_path) == theirs


def test_a_training_script_sees_the_same(server: Server, peer: str, tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours = mlflow(server, FLUENT, cwd=tmp_path / "ours")
    assert ours == mlflow(Server(tmp_path, url=peer), FLUENT, cwd=tmp_path / "theirs", uri=peer)
