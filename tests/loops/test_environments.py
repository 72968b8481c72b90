"""A model that pins what is not installed here: a job builds its environment, and its replica runs in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import Server, wait_for
from tests.engines.test_environments import wheel

pytestmark = pytest.mark.slow

MODEL = """
import sys, mlflow, numpy as np
from mlflow.models import infer_signature

class Teller(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import tinydep
        return np.array([tinydep.VERSION] * len(model_input))

mlflow.pyfunc.save_model(
    sys.argv[1], python_model=Teller(), pip_requirements=[sys.argv[2]], signature=infer_signature(np.zeros((2, 3)), np.array(["a", "b"]))
)
"""


def saved(folder: Path, requirement: str) -> Path:
    environ = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MODEL, str(folder), requirement], capture_output=True, env=environ)
    assert done.returncode == 0, done.stderr.decode()
    return folder


def drivetrain(server: Server, *arguments: str) -> str:
    environ = {**os.environ, "DRIVETRAIN_HOME": str(server.home), "DRIVETRAIN_URL": server.url}
    done = subprocess.run([sys.executable, "-m", "drivetrain.cli.main", *arguments], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_pinned_package_is_installed_for_its_model_alone(new_server: Callable[..., Server], tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "tinydep", "2.0")
    home = tmp_path / "home"
    home.mkdir()
    (home / "drivetrain.toml").write_text(f'pip_args = ["--no-index", "--find-links", "{tmp_path}/wheels"]\n')
    server = new_server(home=home)
    drivetrain(server, "pull", str(saved(tmp_path / "good", "tinydep==2.0")), "--name", "good")
    drivetrain(server, "pull", str(saved(tmp_path / "bad", "tinydep==3.0")), "--name", "bad")
    drivetrain(server, "deploy", "bad", "bad")
    drivetrain(server, "deploy", "good", "good")

    def answer() -> httpx.Response | None:
        got = httpx.post(f"{server.url}/invoke/good/invocations", json={"inputs": [[1.0, 2.0, 3.0]]}, timeout=90)
        return got if got.status_code != 503 else None

    told = wait_for(answer, seconds=180, what="an answer of the model")
    assert told.status_code == 200, told.text
    assert told.json()["predictions"] == ["2.0"]

    def problem() -> str | None:
        deployment = httpx.get(f"{server.url}/api/v1/deployments/bad", timeout=30).json()
        return next((replica["message"] for replica in deployment["replicas"] if replica["state"] == "failed"), None)

    assert "tinydep==3.0" in wait_for(problem, seconds=120, what="why the other one cannot be served")
    kinds = {(job["kind"], job["state"]) for job in httpx.get(f"{server.url}/api/v1/jobs", timeout=30).json()["jobs"]}
    assert kinds == {("environment", "succeeded"), ("environment", "failed")}
