"""Streams under attack: clients that leave, replicas that die, queues that fill."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from drivetrain.compute.address import Address
from tests.chaos.common import drivetrain, replicas, web_processes
from tests.conftest import Server, wait_for

pytestmark = pytest.mark.slow
STORY = {"model": "smol", "stream": True, "max_tokens": 200, "messages": [{"role": "user", "content": "Count from one to five hundred."}]}


@pytest.fixture(scope="module")
def smol(server: Server, gguf_model: Path) -> Iterator[Server]:
    drivetrain(server, "pull", str(gguf_model), "--name", "smol")
    drivetrain(server, "deploy", "smol", "smol", "--wait")
    yield server


def handles(process: psutil.Process) -> int:
    return len([c for c in process.net_connections(kind="all") if c.status != psutil.CONN_LISTEN])


def busy_slots(server: Server) -> int:
    """Requests that the replica is working on, as llama.cpp itself says."""
    (replica,) = replicas(server, "smol")
    with httpx.Client(transport=httpx.HTTPTransport(uds=Address.parse(replica["address"]).path), base_url="http://replica") as http:
        return sum(bool(slot["is_processing"]) for slot in http.get("/slots").json())


def test_a_hundred_dropped_streams_leak_nothing(smol: Server) -> None:
    def settled() -> bool:
        return busy_slots(smol) == 0

    (web,) = web_processes(smol)
    ask(smol)
    wait_for(settled, what="an idle replica")
    before, processes = handles(web), len(smol.family())

    async def drop(http: httpx.AsyncClient, chance: random.Random) -> int:
        for _ in range(200):
            async with http.stream("POST", "/v1/chat/completions", json=STORY) as answer:
                if answer.status_code == 429:  # the queue is bounded: come back, as Retry-After says
                    await answer.aread()
                    await asyncio.sleep(float(answer.headers["retry-after"]))
                    continue
                assert answer.status_code == 200
                seen, wanted = 0, chance.randrange(1, 6)
                async for line in answer.aiter_lines():
                    seen += line.startswith("data:")
                    if seen >= wanted:
                        return 1  # leaving the block closes the connection in the middle of the stream
        raise AssertionError("never served")

    async def storm() -> int:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=smol.url, timeout=300, limits=limits) as http:
            return sum(await asyncio.gather(*(drop(http, random.Random(i)) for i in range(100))))

    assert asyncio.run(storm()) == 100
    wait_for(settled, what="every slot free again")
    wait_for(lambda: handles(web) <= before + 2, what="every socket closed")
    assert len(smol.family()) == processes
    assert ask(smol).status_code == 200
    events = httpx.get(f"{smol.url}/api/v1/events", params={"deployment": "smol", "limit": 1000}).json()["events"]
    assert sum(event.get("error") == "cancelled" for event in events) >= 90


def ask(server: Server) -> httpx.Response:
    body = {**STORY, "stream": False, "max_tokens": 4}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_a_replica_killed_in_the_middle_of_a_stream(smol: Server, dialect: str) -> None:
    """The started stream ends with its dialect's error; a request that comes now is served by the next replica."""
    (replica,) = replicas(smol, "smol")
    path = "/v1/chat/completions" if dialect == "openai" else "/ollama/api/chat"
    with httpx.stream("POST", f"{smol.url}{path}", json=STORY, timeout=120) as answer:
        assert answer.status_code == 200
        lines = [line for line in _kill_after(answer.iter_lines(), 3, replica["pid"]) if line]
    last = lines[-1] if dialect == "ollama" or lines[-1] != "data: [DONE]" else lines[-2]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error
    assert "message" in error if dialect == "openai" else isinstance(error, str)
    assert ask(smol).status_code == 200
    assert replicas(smol, "smol")[0]["pid"] != replica["pid"]


def _kill_after(lines: Iterator[str], count: int, pid: int) -> Iterator[str]:
    for i, line in enumerate(lines):
        if i == count:
            os.kill(pid, signal.SIGKILL)
        yield line


def test_requests_that_have_not_begun_are_retried(new_server: Callable[..., Server], digits_model: Path) -> None:
    """With two replicas, killing one fails no request at all."""
    from tests.chaos.common import ask_digits, deploy_digits

    server = new_server()
    deploy_digits(server, digits_model, "--replicas", "2")
    wait_for(lambda: len([r for r in replicas(server, "digits") if r["state"] == "ready"]) == 2, what="two replicas")

    async def ask_many() -> list[int]:
        statuses: list[int] = []

        async def one(http: httpx.AsyncClient) -> None:
            while len(statuses) < 600:
                answer = await http.post("/invoke/digits/invocations", json={"inputs": [[0.0] * 64]})
                statuses.append(answer.status_code)

        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            askers = [asyncio.create_task(one(http)) for _ in range(8)]
            while len(statuses) < 100:
                await asyncio.sleep(0.01)
            os.kill(replicas(server, "digits")[0]["pid"], signal.SIGKILL)
            await asyncio.gather(*askers)
        return statuses

    assert set(asyncio.run(ask_many())) == {200}
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert ask_digits(http).status_code == 200


def test_a_full_queue_is_refused_early(new_server: Callable[..., Server], gguf_model: Path) -> None:
    """More than the queue holds: 429 with Retry-After in the dialect's shape; what was accepted is served."""
    server = new_server(environ={"DRIVETRAIN_QUEUE_LIMIT": "2", "DRIVETRAIN_PARALLEL": "1"})
    drivetrain(server, "pull", str(gguf_model), "--name", "smol")
    drivetrain(server, "deploy", "smol", "smol", "--wait")

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=300) as http:
            body = {**STORY, "stream": False, "max_tokens": 30}
            return await asyncio.gather(*(http.post("/v1/chat/completions", json=body) for _ in range(12)))

    answers = asyncio.run(crowd())
    refused = [a for a in answers if a.status_code == 429]
    served = [a for a in answers if a.status_code == 200]
    assert len(refused) + len(served) == 12
    assert refused
    assert len(served) >= 3
    assert all(int(a.headers["retry-after"]) >= 1 and a.json()["error"]["message"] for a in refused)
