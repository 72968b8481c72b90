"""Rollouts on a real server: versions that do not start, restarts on the way, and traffic that never fails."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from drivetrain.answers.rollouts import LiveRollout, WatchedRollout
from drivetrain.client import Client
from drivetrain.client.http import Json
from drivetrain.store.events.model import Event
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow

NewServer = Callable[..., Server]
BODY = {"inputs": [[0.0] * 64]}
TWO_STEPS: Json = {
    "steps": [{"share": 5_000, "min_units": 30, "min_seconds": 1}, {"share": 10_000}],
    "guardrails": [{"measure": "errors"}],
    "settle_seconds": 0,
}


def push(client: Client, model: Path, folder: Path, *, broken: bool = False) -> None:
    """One more version of `digits`; a broken one cannot be loaded."""
    shutil.copytree(model, folder)
    (folder / "note.txt").write_text(folder.name)
    if broken:
        for file in folder.glob("model.*"):
            file.write_bytes(b"no model")
    client.push(folder, "digits")


@contextmanager
def traffic(server: Server, *, threads: int = 2) -> Iterator[list[str]]:
    """Requests of ever new units; what went wrong with them."""
    failures: list[str] = []
    stop = threading.Event()

    def ask(name: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            number = 0
            while not stop.is_set():
                number += 1
                unit = {"X-Drivetrain-Unit": f"{name}-{number}"}
                answer = http.post("/invoke/digits/invocations", json=BODY, headers=unit)
                if answer.status_code != 200:
                    failures.append(f"{answer.status_code} {answer.text[:200]}")

    asking = [threading.Thread(target=ask, args=(i,)) for i in range(threads)]
    for thread in asking:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in asking:
            thread.join()


def events(server: Server) -> list[Event]:
    """Every event of the server, read from its files."""
    lines = [line for file in server.home.rglob("*.jsonl") for line in file.read_bytes().split(b"\n") if b'"id":' in line]
    return [msgspec.json.decode(line, type=Event) for line in lines]


def reaches(client: Client, rollout: LiveRollout, *states: str) -> WatchedRollout:
    def look() -> WatchedRollout | None:
        found = client.rollouts.get(rollout.id)
        return found if found.state in states else None

    return wait_for(look, seconds=90, what=f"{states}")


def test_a_version_that_cannot_start_harms_nobody(new_server: NewServer, digits_model: Path, tmp_path: Path) -> None:
    server = new_server()
    with Client(server.url) as client:
        push(client, digits_model, tmp_path / "one")
        push(client, digits_model, tmp_path / "two", broken=True)
        client.deployments.deploy("digits", "digits@1", wait=True)
        with traffic(server) as failures:
            rollout = client.rollouts.start("digits", "digits@2", plan=TWO_STEPS)
            ended = reaches(client, rollout, "rolled_back")
        assert failures == []
        assert "v2 has no replica that stays ready" in ended.why
        assert {one.variant_name for one in events(server)} == {"v1"}
        (alert,) = client.connection.json("GET", "/api/v1/alerts")["alerts"]
        assert alert["title"] == "v2 was taken back from digits"


def test_a_good_version_gets_there_and_back_without_a_failed_request(new_server: NewServer, digits_model: Path, tmp_path: Path) -> None:
    server = new_server("--web", "2", environ={"DRIVETRAIN_EVENT_SEGMENT_SECONDS": "600"})
    with Client(server.url) as client:
        push(client, digits_model, tmp_path / "one")
        push(client, digits_model, tmp_path / "two")
        client.deployments.deploy("digits", "digits@1", wait=True)
        with traffic(server) as failures:
            rollout = client.rollouts.start("digits", "digits@2", plan=TWO_STEPS)
            reaches(client, rollout, "promoted")
            seen = len([one for one in events(server) if one.variant_name == "v2"])
            wait_for(lambda: len([one for one in events(server) if one.variant_name == "v2"]) > seen + 50, what="traffic on v2 alone")
            client.rollouts.rollback(rollout.id)
            after = len(events(server))
            wait_for(lambda: len(events(server)) > after + 100, what="traffic after the rollback")
        assert failures == []
        told = sorted(events(server), key=lambda one: one.t)
        assert {one.variant_name for one in told[-50:]} == {"v1"}
        assert not any(one.rollout and one.phase == 0 for one in told)
        during = [one for one in told if one.rollout == rollout.id]
        assert {one.phase for one in during} == {1}
        share = sum(one.variant_name == "v2" for one in during) / len(during)
        assert 0.3 < share < 0.7


def test_a_restart_on_the_way_counts_against_nobody(new_server: NewServer, digits_model: Path, tmp_path: Path) -> None:
    server = new_server(environ={"DRIVETRAIN_EVENT_SEGMENT_SECONDS": "600"})
    plan = TWO_STEPS | {"steps": [{"share": 5_000, "min_units": 100_000}, {"share": 10_000}]}
    with Client(server.url) as client:
        push(client, digits_model, tmp_path / "one")
        push(client, digits_model, tmp_path / "two")
        client.deployments.deploy("digits", "digits@1", wait=True)
        rollout = client.rollouts.start("digits", "digits@2", plan=plan)
        before = reaches(client, rollout, "running")
        with traffic(server):
            wait_for(lambda: client.rollouts.get(rollout.id).evidence[0].canary_units > 20, what="counts")
    server.kill()
    server.start()
    with Client(server.url, patience=30) as client, traffic(server) as failures:
        counted = client.rollouts.get(rollout.id).evidence[0].canary_units
        wait_for(lambda: client.rollouts.get(rollout.id).evidence[0].canary_units > counted + 20, what="more counts")
        now = client.rollouts.get(rollout.id)
        assert failures == []
        assert (now.state, now.phase, now.revision) == ("running", 1, before.revision)
        assert (now.evidence[0].canary_bad, now.evidence[0].stable_bad) == (0, 0)
        weights = {one.name: one.weight for one in client.deployments.get("digits").variants}
        assert weights == {"v1": 5_000, "v2": 5_000}
