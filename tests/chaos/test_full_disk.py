"""A whole server on a full disk: clear errors, nothing half-written, and it works again when there is space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 96 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, new_server: Callable[..., Server]) -> None:
    server = new_server(home=small_disk / "home", environ={"DRIVETRAIN_MIN_FREE_DISK_BYTES": str(8 * MIB)})
    with httpx.Client(base_url=f"{server.url}/mlflow/api/2.0", timeout=60) as http:

        def call(path: str, **body: Any) -> httpx.Response:
            return http.post(f"/mlflow/{path}", json=body)

        run = call("runs/create", experiment_id="0", run_name="r").json()["run"]["info"]
        root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")

        def upload(name: str, size: int) -> httpx.Response:
            return http.put(f"/mlflow-artifacts/artifacts/{root}/{name}", content=os.urandom(size))

        assert upload("kept.bin", 10 * MIB).status_code == 200
        kept = http.get(f"/mlflow-artifacts/artifacts/{root}/kept.bin").content

        # More than fits: refused with advice, and nothing of it stays.
        refused = upload("big.bin", 120 * MIB)
        assert refused.status_code in (507, 500, 413), refused.text
        assert "full" in refused.json()["message"] or "free" in refused.json()["message"]
        assert "big.bin" not in http.get("/mlflow-artifacts/artifacts", params={"path": root}).text

        # Not a byte is left, not even for the database.
        filler = small_disk / "filler"
        with filler.open("wb") as file, pytest.raises(OSError):
            while True:
                file.write(b"\0" * (1 << 16))
        statuses = set()
        for step in range(2000):
            answer = call("runs/log-metric", run_id=run["run_id"], key="m", value=1.0, timestamp=step, step=step)
            statuses.add(answer.status_code)
            if answer.status_code != 200:
                assert "full" in answer.json()["message"], answer.text
                break
        assert statuses - {200}, "the database went on writing on a full disk"
        assert http.get("/mlflow/runs/get", params={"run_id": run["run_id"]}).status_code == 200, "reading needs no space"

        # Space again: everything works, what was acknowledged is there, what was refused is not.
        filler.unlink()
        assert wait_for(
            lambda: call("runs/log-metric", run_id=run["run_id"], key="m", value=2.0, timestamp=9, step=9999).status_code == 200
        )
        assert http.get(f"/mlflow-artifacts/artifacts/{root}/kept.bin").content == kept
        history = http.get("/mlflow/metrics/get-history", params={"run_id": run["run_id"], "metric_key": "m", "max_results": 25_000}).json()
        assert {point["step"] for point in history["metrics"]} == {9999, *range(step)}
    server.restart()
    assert httpx.get(f"{server.url}/mlflow/api/2.0/mlflow/runs/get", params={"run_id": run["run_id"]}).status_code == 200
