"""The processes of a server: who starts whom, and what happens when one of them is killed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.chaos.common import alive, ask_digits, command, deploy_digits, drivetrain, replicas, web_processes
from tests.conftest import Server, free_port, wait_for
from tests.serving.test_service import gguf

pytestmark = pytest.mark.slow


def deployment(server: Server, name: str) -> dict[str, Any]:
    answer = httpx.get(f"{server.url}/api/v1/deployments/{name}", timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def replica_processes(server: Server) -> list[psutil.Process]:
    return [process for process in server.family() if alive(process) and "drivetrain.engines.replica" in command(process)]


def pull_gguf(server: Server, folder: Path, name: str, data: bytes) -> None:
    file = folder / f"{name}.gguf"
    file.write_bytes(data)
    drivetrain(server, "pull", str(file), "--name", name)


def test_the_supervisor_dies_and_takes_everything_along(new_server: Callable[..., Server], digits_model: Path) -> None:
    server = new_server("--web", "2")
    deploy_digits(server, digits_model)
    family = [process for process in server.family() if alive(process)]
    assert len(web_processes(server)) == 2
    assert len(replica_processes(server)) == 1
    server.kill()
    wait_for(lambda: not [process for process in family if alive(process)], seconds=1.0, what="the end of every child")
    server.start()  # on the same port and home: nothing holds either any more
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert ask_digits(http).status_code == 200
    assert len([one for one in replicas(server, "digits") if one["state"] == "ready"]) == 1


def test_a_web_process_is_replaced_and_replicas_do_not_notice(new_server: Callable[..., Server], digits_model: Path) -> None:
    server = new_server("--web", "2")
    deploy_digits(server, digits_model)
    before = {process.pid for process in replica_processes(server)}
    victim, other = web_processes(server)
    victim.kill()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        wait_for(lambda: len(web_processes(server)) == 2 and victim.pid not in {p.pid for p in web_processes(server)}, what="another one")
        for _ in range(5):
            assert ask_digits(http).status_code == 200
    assert other.pid in {process.pid for process in web_processes(server)}
    assert {process.pid for process in replica_processes(server)} == before


def test_a_replica_is_replaced_and_the_reason_kept(new_server: Callable[..., Server], digits_model: Path) -> None:
    server = new_server()
    deploy_digits(server, digits_model)
    (victim,) = replica_processes(server)
    victim.kill()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert ask_digits(http).status_code == 200  # it waited for the next one
    (replica,) = (one for one in replicas(server, "digits") if one["state"] == "ready")
    assert replica["pid"] != victim.pid
    assert replica["restarts"] == 1
    assert "killed by signal 9" in replica["message"]
    assert deployment(server, "digits")["problem"] == ""


def test_a_replica_that_cannot_start_is_not_tried_over_and_over(new_server: Callable[..., Server], tmp_path: Path) -> None:
    """A header that is good, and no weights behind it."""
    server = new_server()
    pull_gguf(server, tmp_path, "hollow", gguf())
    drivetrain(server, "deploy", "hollow", "hollow")
    failed = wait_for(lambda: (d := deployment(server, "hollow"))["state"] == "failed" and d, what="the failure")
    assert failed["problem"]
    began = time.monotonic()
    answer = httpx.post(f"{server.url}/v1/completions", json={"model": "hollow", "prompt": "x"}, timeout=60)
    assert answer.status_code == 503
    assert failed["problem"].rstrip(".") in answer.json()["error"]["message"]
    assert time.monotonic() - began < 5, "callers wait for what cannot come"
    logs = list((server.home / "logs").glob("replica-*.log"))
    time.sleep(1.5)  # time in which a hot loop would have shown itself
    assert list((server.home / "logs").glob("replica-*.log")) == logs
    assert len(logs) == 1


def test_a_model_that_does_not_fit_says_so(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server(environ={"DRIVETRAIN_MEMORY_FRACTION": "0.0001"})
    pull_gguf(server, tmp_path, "large", gguf())
    drivetrain(server, "deploy", "large", "large")
    shown = wait_for(lambda: (d := deployment(server, "large"))["problem"] and d, what="the problem")
    assert "memory_fraction" in shown["problem"]
    answer = httpx.post(f"{server.url}/v1/completions", json={"model": "large", "prompt": "x"}, timeout=60)
    assert answer.status_code == 503
    assert "GiB" in answer.json()["error"]["message"]
    assert replica_processes(server) == []


def test_what_is_wanted_reaches_the_web_processes_at_once(new_server: Callable[..., Server], tmp_path: Path) -> None:
    """By a nudge: sooner than the loop would look by itself."""
    server = new_server("--web", "2")
    pull_gguf(server, tmp_path, "hollow", gguf())
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for n in range(3):
            name = f"one-{n}"
            assert http.post("/api/v1/deployments", json={"name": name, "source": "hollow", "min_replicas": 0}).status_code == 201
            began = time.monotonic()
            wait_for(lambda name=name: http.get(f"/v2/models/{name}").status_code != 404, seconds=0.8, what="the route")  # type: ignore[misc]
            assert time.monotonic() - began < 0.8


def test_a_second_server_on_the_same_home_is_refused(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server()
    with pytest.raises(AssertionError, match=r"Another drivetrain|is using the home"):
        Server(server.home, port=free_port()).start()
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_a_port_that_is_taken_is_named(new_server: Callable[..., Server], tmp_path: Path) -> None:
    server = new_server()
    with pytest.raises(AssertionError, match=f"The port {server.port} of 127.0.0.1 cannot be used"):
        Server(tmp_path / "second", port=server.port).start()


def test_sigterm_finishes_what_was_begun(new_server: Callable[..., Server], digits_model: Path) -> None:
    server = new_server("--web", "2")
    deploy_digits(server, digits_model)
    family = [process for process in server.family() if alive(process)]
    assert server.stop() == 0
    assert not [process for process in family if alive(process)]
    assert not (server.home / "server.json").exists()
    log = (server.home / "logs" / "supervisor.log").read_text()
    assert "Traceback" not in log, log


def test_a_port_for_one_dialect(new_server: Callable[..., Server]) -> None:
    port = free_port()
    new_server("--listen", f"{port}=ollama")
    version = httpx.get(f"http://127.0.0.1:{port}/api/version")
    assert version.status_code == 200
    assert version.json()["version"]
    assert httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 404


def test_a_killed_job_is_done_after_the_restart(new_server: Callable[..., Server]) -> None:
    """The server dies while pip has the job; the next life finishes it."""
    server = new_server()
    job = json.loads(
        httpx.post(f"{server.url}/api/v1/jobs", json={"kind": "pull", "spec": {"source": "pypi:drivetrain-no-such-package-1"}}).text
    )
    wait_for(lambda: httpx.get(f"{server.url}/api/v1/jobs/{job['id']}").json()["state"] == "running", what="the job's start")
    server.kill(signal.SIGKILL)
    server.start()

    def ended() -> dict[str, Any] | None:
        now: dict[str, Any] = httpx.get(f"{server.url}/api/v1/jobs/{job['id']}").json()
        return now if now["state"] not in ("queued", "running") else None

    last = wait_for(ended, seconds=120, what="the job's end")
    assert last["state"] == "failed"
    assert "no wheel" in last["error"]
    assert last["attempts"] == 2


def test_the_supervisor_is_small(new_server: Callable[..., Server]) -> None:
    server = new_server()
    assert server.process is not None
    assert psutil.Process(server.process.pid).memory_info().rss < 120e6
    assert all(process.memory_info().rss < 150e6 for process in web_processes(server))


def test_a_new_version_takes_over_without_a_lost_request(new_server: Callable[..., Server], digits_model: Path) -> None:
    server = new_server("--web", "2")
    deploy_digits(server, digits_model)
    (old,) = replica_processes(server)
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            while not stop.is_set():
                statuses.append(ask_digits(http).status_code)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        drivetrain(server, "restart", "digits")
        wait_for(lambda: not alive(old), seconds=120, what="the end of the old replica")
        before = len(statuses)
        wait_for(lambda: len(statuses) > before + 10, what="answers of the new one")
    finally:
        stop.set()
        asker.join(60)
    assert set(statuses) == {200}
    (new,) = replica_processes(server)
    assert new.pid != old.pid


def test_a_version_that_cannot_start_does_not_take_the_old_one_down(
    new_server: Callable[..., Server], digits_model: Path, tmp_path: Path
) -> None:
    """Not even when the server is started anew."""
    server = new_server()
    deploy_digits(server, digits_model)
    pull_gguf(server, tmp_path, "hollow", gguf())
    drivetrain(server, "deploy", "digits", "hollow")
    wait_for(lambda: deployment(server, "digits")["state"] == "failed", what="the failure of the new version")
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert ask_digits(http).status_code == 200
        server.kill()
        server.start()
        wait_for(lambda: deployment(server, "digits")["state"] == "failed", what="the failure after the restart")
        assert ask_digits(http).status_code == 200


def test_on_demand_and_idle_stop(new_server: Callable[..., Server], gguf_model: Path) -> None:
    server = new_server(environ={"DRIVETRAIN_IDLE_STOP_SECONDS": "1"})
    drivetrain(server, "pull", str(gguf_model), "--name", "small")
    body = {"model": "small", "prompt": "One, two,", "max_tokens": 2}
    for _ in range(2):
        assert replica_processes(server) == []
        assert httpx.post(f"{server.url}/v1/completions", json=body, timeout=120).status_code == 200
        assert len(replica_processes(server)) == 1
        wait_for(lambda: replica_processes(server) == [], seconds=60, what="the idle stop")
    assert deployment(server, "small@1")["state"] == "idle"


def test_a_server_that_all_may_reach_wants_keys(tmp_path: Path) -> None:
    server = Server(tmp_path / "open", ("--host", "0.0.0.0"))
    with pytest.raises(AssertionError, match="keys must be required"):
        server.start()
    assert not [p for p in psutil.process_iter() if str(tmp_path) in command(p)]


def test_environments_of_children_say_nothing_secret(new_server: Callable[..., Server]) -> None:
    server = new_server(environ={"OPENAI_API_KEY": "sk-of-somebody", "DRIVETRAIN_LOG_LEVEL": "debug"})
    for process in web_processes(server):
        assert "OPENAI_API_KEY" not in process.environ()
    token = server.token
    for file in (server.home / "logs").iterdir():
        assert token not in file.read_text()
