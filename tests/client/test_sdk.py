"""Runs logged with `drivetrain.init`: processes are killed, servers are gone, and nothing that reached the folder is lost or doubled."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from drivetrain.sdk import spool
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow

TRAIN = """
import os, sys, time
import drivetrain as dt
run = dt.init("sdk", config={"lr": 0.1, "net": {"layers": 2}}, tags=["first"], mode=sys.argv[1])
print(run.id, flush=True)
run.log({"bad": "text", "worse": object(), "nan": float("nan")})
run.log(None)
run.log({"huge": 10**5000, "large": 10**30}, step=0)
run.log({"loss": 1}, step=10**5000)
if os.fork() == 0:
    run.log({"loss": -1}, step=0)
    sys.exit(0)
os.wait()
for step in range(500):
    run.log({"loss": step}, step=step)
if sys.argv[2] == "hang":
    time.sleep(0.5)
    print("logged", flush=True)
    time.sleep(600)
run.summary["best"] = 7
run.finish()
"""


def environ(home: Path, url: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DRIVETRAIN_")}
    return clean | {"DRIVETRAIN_HOME": str(home), "DRIVETRAIN_URL": url}


def train(home: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", TRAIN, *arguments], env=environ(home, url), stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def steps(url: str, run: str) -> list[float]:
    answer = httpx.get(f"{url}/api/v1/runs/{run}/metrics/loss")
    return [point[2] for point in answer.json()["points"]] if answer.status_code == 200 else []


def sync(home: Path, url: str) -> None:
    subprocess.run([sys.executable, "-m", "drivetrain.cli.main", "runs", "sync"], env=environ(home, url), check=True, capture_output=True)


def test_a_run_is_logged(server: Server, tmp_path: Path) -> None:
    with train(tmp_path, server.url, "online", "end") as process:
        run = first_line(process)
        assert process.wait(60) == 0
    wait_for(lambda: not spool.folders(tmp_path / "outbox"))
    shown = httpx.get(f"{server.url}/api/v1/runs/{run}").json()
    assert shown["status"] == "FINISHED" and shown["params"] == {"lr": "0.1", "net.layers": "2"}
    assert shown["metrics"]["nan"] == "NaN" and not {"bad", "huge"} & shown["metrics"].keys() and shown["metrics"]["large"] == 1e30
    assert shown["metrics"]["best"] == 7
    assert "wandb.tag.first" in shown["tags"] and shown["tags"]["drivetrain.python"]
    assert steps(server.url, run) == list(range(500))
    again = httpx.put(f"{server.url}/api/v1/runs/{run}", json={"experiment": "sdk"})
    assert again.json()["id"] == run and httpx.put(f"{server.url}/api/v1/runs/x", json={}).status_code == 400


def test_a_killed_training_is_shown_as_failed(server: Server, tmp_path: Path) -> None:
    with train(tmp_path, server.url, "online", "hang") as process:
        run = first_line(process)
        assert first_line(process) == "logged"
        process.kill()
    wait_for(lambda: httpx.get(f"{server.url}/api/v1/runs/{run}").json().get("status") == "FAILED")
    assert steps(server.url, run) == list(range(500))


def test_a_killed_sender_and_a_dead_server_lose_nothing(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server()
    server.stop()
    with train(tmp_path / "client", server.url, "online", "hang") as process:
        run = first_line(process)
        assert first_line(process) == "logged"
        for sender in psutil.Process(process.pid).children():
            sender.kill()
        process.kill()
    server.start()
    for _ in range(2):
        sync(tmp_path / "client", server.url)
    assert steps(server.url, run) == list(range(500)) and not spool.folders(tmp_path / "client" / "outbox")


def test_offline_then_sync(server: Server, tmp_path: Path) -> None:
    with train(tmp_path, "http://127.0.0.1:9", "offline", "end") as process:
        run = first_line(process)
        assert process.wait(60) == 0
    sync(tmp_path, server.url)
    assert steps(server.url, run) == list(range(500))
    assert httpx.get(f"{server.url}/api/v1/runs/{run}").json()["status"] == "FINISHED"


RESUME = """
import sys
import drivetrain as dt
with dt.init("sdk", resume=sys.argv[1]) as run:
    for n in range(3):
        run.log({"loss": 1000 + n})
    run.log({"loss": 2000}, step=9000)
    run.log({"loss": 2001})
"""


def test_a_resumed_run_goes_on_after_its_last_step(server: Server, tmp_path: Path) -> None:
    with train(tmp_path, server.url, "online", "end") as process:
        run = first_line(process)
        assert process.wait(60) == 0
    wait_for(lambda: not spool.folders(tmp_path / "outbox"))
    for _ in range(2):
        subprocess.run([sys.executable, "-c", RESUME, run], env=environ(tmp_path, server.url), check=True, timeout=60)
        wait_for(lambda: not spool.folders(tmp_path / "outbox"))
    points = httpx.get(f"{server.url}/api/v1/runs/{run}/metrics/loss").json()["points"]
    first = [[500, 1000], [501, 1001], [502, 1002], [9000, 2000], [9001, 2001]]
    # The second time, a step that is named is logged once more, and the next of its own are beyond all.
    second = [[9000, 2000], [9001, 2001], [9002, 1000], [9003, 1001], [9004, 1002]]
    assert sorted([step, value] for step, _, value in points if step >= 500) == sorted(first + second)
    assert httpx.get(f"{server.url}/api/v1/runs/{run}").json()["status"] == "FINISHED"


RECORD = """
import pathlib, sys
import drivetrain as dt
run = dt.init("files", tags={"owner": "ann"})
pathlib.Path("plots").mkdir()
pathlib.Path("plots/a.txt").write_text("first")
run.log_artifact("plots")
pathlib.Path("plots/a.txt").write_text("changed")
run.log_artifact("model.bin", name="weights/model.bin")
try:
    run.log_artifact("absent")
except dt.DrivetrainError as error:
    print(error)
for step in range(1500):
    run.log({"loss": 1 / (step + 1)})
run.finish()
print(run.id, flush=True)
history = run.history("loss", to="pandas")
assert list(history.columns) == ["step", "timestamp_ms", "value"] and history["step"].tolist() == list(range(1500))
frame = dt.runs("tags.owner = 'ann'", experiment="files", order_by="metrics.loss ASC", to="polars")
assert frame["id"].to_list() == [run.id] and frame["metrics.loss"].to_list() == [1 / 1500]
assert dt.runs("tags.owner = 'bob'", to="dicts") == []
"""


def test_files_the_commit_and_what_is_not_committed_are_kept(server: Server, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text(RECORD)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(work))
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "x")):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (work / "train.py").write_text(RECORD + "# changed\n")
    (work / "model.bin").write_bytes(b"weights")
    done = subprocess.run(
        [sys.executable, "train.py", "--fast"], cwd=work, env=environ(tmp_path, server.url), check=False, timeout=60,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    said, run = done.stdout.splitlines()
    assert "There is no file absent" in said
    shown = httpx.get(f"{server.url}/api/v1/runs/{run}").json()
    assert shown["tags"]["mlflow.source.git.commit"] == commit and shown["tags"]["drivetrain.arguments"] == "--fast"
    assert shown["tags"]["mlflow.source.name"] == str(work / "train.py")

    def file(path: str) -> str:
        return httpx.get(f"{server.url}/api/v1/runs/{run}/artifacts/{path}").raise_for_status().text

    assert (file("plots/a.txt"), file("weights/model.bin")) == ("first", "weights")
    assert "+# changed" in file("git.diff") and "httpx==" in file("requirements.txt")


def test_a_server_that_is_killed_again_and_again_gets_every_point_once(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server()
    with train(tmp_path / "client", server.url, "online", "hang") as process:
        run = first_line(process)
        for _ in range(3):
            server.kill()
            server.start()
        assert first_line(process) == "logged"
        wait_for(lambda: steps(server.url, run) == list(range(500)))
        process.kill()
    wait_for(lambda: not spool.folders(tmp_path / "client" / "outbox"))
    assert steps(server.url, run) == list(range(500))
