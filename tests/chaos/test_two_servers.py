"""Two web processes, and two servers on one PostgreSQL: the same answers, no step of a loop taken twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.common import ask_digits, deploy_digits, web_processes
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow


def test_two_web_processes(new_server: Callable[..., Server], digits_model: Path) -> None:
    server = new_server("--web", "2")
    assert len(web_processes(server)) == 2
    deploy_digits(server, digits_model)
    answers = {}
    for _ in range(40):  # a new connection each time, so that the kernel chooses a process each time
        with httpx.Client(base_url=server.url, timeout=60) as http:
            answer = ask_digits(http)
            assert answer.status_code == 200
            answers[answer.headers["x-request-id"]] = answer.json()["predictions"]
    assert len(answers) == 40
    assert len({json.dumps(value) for value in answers.values()}) == 1
    for request_id in answers:  # whichever process answered, each of them finds the event
        assert httpx.get(f"{server.url}/api/v1/requests/{request_id}/lineage").status_code == 200
    wait_for(lambda: counted(server) == 40, what="every request counted once")


def served(http: httpx.Client) -> httpx.Response | None:
    answer = ask_digits(http)
    return answer if answer.status_code == 200 else None


def counted(server: Server) -> int:
    """Requests of the deployment, as the folded counters say."""
    shown = httpx.get(f"{server.url}/api/v1/deployments/digits/series").json()
    return int(sum(point["requests"] for point in shown["points"]))


def ended(server: Server, ids: set[str]) -> list[dict[str, Any]] | None:
    """These jobs, when all of them have ended."""
    listed = httpx.get(f"{server.url}/api/v1/jobs").json()["jobs"]
    jobs = [job for job in listed if job["id"] in ids and job["ended_ms"] is not None]
    return jobs if len(jobs) == len(ids) else None


def test_two_servers_on_one_database(
    new_server: Callable[..., Server], new_postgres: Callable[[], str], digits_model: Path, tmp_path: Path
) -> None:
    environ = {"DRIVETRAIN_DATABASE_URL": new_postgres(), "DRIVETRAIN_BLOBS_URL": str(tmp_path / "blobs")}
    one = new_server(environ=environ)
    other = new_server(environ=environ)
    deploy_digits(one, digits_model)
    # Each server runs its own replica of the one deployment; both give the same answer from the same version.
    seen = set()
    for server in (one, other):
        with httpx.Client(base_url=server.url, timeout=60) as http:
            answer = wait_for(lambda: served(http), what="an answer")
            seen.add(json.dumps(answer.json()["predictions"]))
            asked = answer.headers["x-request-id"]
            lineage = http.get(f"/api/v1/requests/{asked}/lineage").json()
            seen.add(json.dumps(lineage["version"]["commit"] if "commit" in lineage["version"] else lineage["version"]))
    assert len(seen) == 2
    # Runs logged at one are read at the other at once.
    run = httpx.post(f"{one.url}/mlflow/api/2.0/mlflow/runs/create", json={"experiment_id": "0", "run_name": "shared"}).json()["run"]
    read = httpx.get(f"{other.url}/mlflow/api/2.0/mlflow/runs/get", params={"run_id": run["info"]["run_id"]})
    assert read.json()["run"]["info"]["run_name"] == "shared"
    # Durable work is done once, by one of them, however often and wherever it is asked for.
    work = [{"kind": "environment", "spec": {"requirements": []}, "key": f"work-{i}"} for i in range(6)]
    submitted = [httpx.post(f"{server.url}/api/v1/jobs", json=job).json()["id"] for job in work for server in (one, other)]
    assert len(set(submitted)) == len(work)
    done = wait_for(lambda: ended(one, set(submitted)), seconds=120, what="the end of every job")
    assert [(job["state"], job["attempts"]) for job in done] == [("succeeded", 1)] * len(work)
    wait_for(lambda: counted(one) == counted(other) >= 2, what="the same counters at both")
