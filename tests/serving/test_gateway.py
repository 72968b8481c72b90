"""The gateway through its public door: HTTP in, HTTP out, events in the spool."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import wait_for
from tests.serving.plane import Plane, deployment, running, variant


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    with running(tmp_path) as it:
        yield it


def chat(plane: Plane, words: str, model: str = "m", **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": words}], **more}
    return httpx.post(f"{plane.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def settled(plane: Plane) -> bool:
    """Nothing is left of any request: no slot, no queue, no connection, no task. A client has its answer a moment before: await this."""

    def look() -> bool:
        import asyncio

        directory = plane.gateway.directory
        pools = directory._pools.values()
        busy = sum(pool.outstanding + pool.waiting for pool in pools)
        open_ = sum(r.upstream.open - len(r.upstream._idle) for pool in pools for r in pool._replicas.values())
        names = [task.get_name() for task in asyncio.all_tasks()]
        leftover = [name for name in names if name == "gateway-implicit"]
        return not busy and not open_ and not leftover and not directory._inflight and not any(r.active for r in plane.replicas)

    return plane.call(look)


def test_an_answer_and_its_event(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica()])))
    answer = chat(plane, "n=3", user="u-1")
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "t0 t1 t2"
    assert answer.json()["model"] == "m"
    (event,) = plane.events()
    assert event.id == answer.headers["x-request-id"]
    assert (event.deployment_name, event.variant_name, event.replica, event.unit) == ("m", "a", "replica", "u-1")
    assert (event.tokens_in, event.tokens_cached, event.tokens_out) == (7, 2, 3)
    assert (event.status, event.error, event.dialect, event.task, event.stream) == (200, "", "openai", "chat", False)
    assert event.output == "t0 t1 t2"
    assert json.loads(event.input or "")["messages"][0]["content"] == "n=3"
    assert event.latency_ms > 0


def test_connections_to_replicas_are_kept(plane: Plane) -> None:
    replica = plane.replica()
    plane.routes(deployment("m", variant("a", [replica])))
    for _ in range(5):
        assert chat(plane, "n=1").status_code == 200
    assert replica.connections == 1


def test_a_kept_connection_that_went_stale_is_not_an_error(plane: Plane) -> None:
    replica = plane.replica()
    plane.routes(deployment("m", variant("a", [replica])))
    assert chat(plane, "n=1").status_code == 200
    plane.run(replica.stop())
    plane.run(replica.start())
    assert chat(plane, "n=1").status_code == 200
    assert plane.events()[-1].attempts == 1


def test_units_stick_to_their_variant(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica("a")], weight=5000), variant("b", [plane.replica("b")], weight=5000)))
    for unit in ("ann", "bob", "cleo", "dan", "eve", "finn"):
        for _ in range(2):
            assert chat(plane, "n=1", headers={"X-Drivetrain-Unit": unit}, user="somebody else").status_code == 200
    seen: dict[str, set[str]] = {}
    for event in plane.events():
        seen.setdefault(event.unit, set()).add(event.variant_name)
    assert set(seen) == {"ann", "bob", "cleo", "dan", "eve", "finn"}
    assert all(len(variants) == 1 for variants in seen.values())
    assert set.union(*seen.values()) == {"a", "b"}


def test_work_goes_to_the_replica_with_the_least(plane: Plane) -> None:
    first, second = plane.replica("one"), plane.replica("two")
    plane.routes(deployment("m", variant("a", [first, second], slots=8)))
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: chat(plane, "n=1 wait=1.5"), range(8))} == {200}
    assert first.most_active == second.most_active == 4


def test_a_dead_replica_is_not_noticed_by_clients(plane: Plane) -> None:
    dead, alive = plane.replica("dead"), plane.replica("alive")
    plane.routes(deployment("m", variant("a", [dead, alive])))
    plane.run(dead.stop())
    for _ in range(6):
        assert chat(plane, "n=1").status_code == 200
    assert {event.replica for event in plane.events()} == {"alive"}
    assert "d-m" in plane.woken


@pytest.mark.parametrize("stream", [False, True])
def test_death_before_the_first_byte_is_retried_elsewhere(plane: Plane, stream: bool) -> None:
    one, two = plane.replica("one"), plane.replica("two")
    one.deaths_left = two.deaths_left = 0
    plane.routes(deployment("m", variant("a", [one, two])))
    one.deaths_left = 1
    for _ in range(2):
        answer = chat(plane, "n=2 die=0", stream=stream)
        assert answer.status_code == 200
        assert "t1" in answer.text
    assert sorted(event.attempts for event in plane.events()) == [1, 2]


def test_a_request_waits_for_the_replacement(plane: Plane) -> None:
    old = plane.replica("old")
    plane.routes(deployment("m", variant("a", [old])))
    plane.run(old.stop())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, plane, "n=1")
        wait_for(lambda: "d-m" in plane.woken, what="the wake")
        plane.routes(deployment("m", variant("a", [], problem="it crashed")))
        new = plane.replica("new")
        plane.routes(deployment("m", variant("a", [new])))
        assert waiting.result().status_code == 200
    assert plane.events()[-1].replica == "new"


def test_a_request_that_kills_replicas_is_given_up(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica("one"), plane.replica("two")])))
    answer = chat(plane, "n=1 die=0")
    assert answer.status_code == 502
    assert "3 replicas in a row" in answer.json()["error"]["message"]
    assert plane.events()[-1].error == "upstream"
    wait_for(lambda: settled(plane), what="the end of all work")


def test_a_loading_replica_is_waited_for(plane: Plane) -> None:
    replica = plane.replica()
    replica.loading = True
    plane.routes(deployment("m", variant("a", [replica])))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, plane, "n=1")
        wait_for(lambda: len(replica.bodies) >= 2, what="a second attempt")
        replica.loading = False
        assert waiting.result().status_code == 200


def test_death_in_a_stream_ends_it_with_an_error_frame(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica()])))
    answer = chat(plane, "n=5 die=2", stream=True)
    assert answer.status_code == 200
    frames = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    assert [frame["choices"][0]["delta"]["content"] for frame in frames[:2]] == ["t0", " t1"]
    assert frames[2]["error"]["type"] == "server_error"
    assert "[DONE]" not in answer.text
    (event,) = plane.events()
    assert (event.error, event.output, event.status) == ("upstream", "t0 t1", 502)
    wait_for(lambda: settled(plane), what="the end of all work")


def test_an_error_frame_of_the_replica_ends_the_stream(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica()])))
    answer = chat(plane, "n=5 error=1", stream=True)
    last = [line for line in answer.text.split("\n\n") if line][-1]
    assert "out of memory" in json.loads(last[6:])["error"]["message"]
    assert plane.events()[-1].error == "upstream"


def test_nonsense_from_a_replica_is_a_502(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica()])))
    assert chat(plane, "garbage").status_code == 502
    assert chat(plane, "status=500").status_code == 502
    refused = chat(plane, "status=400")
    assert refused.status_code == 400
    assert "does not like" in refused.json()["error"]["message"]
    assert [event.error for event in plane.events()] == ["upstream", "upstream", "invalid"]


def test_a_full_queue_is_refused_at_once(tmp_path: Path) -> None:
    with running(tmp_path, queue_limit=2) as plane:
        replica = plane.replica()
        plane.routes(deployment("m", variant("a", [replica], slots=1)))
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: chat(plane, "n=1 wait=0.5"), range(6)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 429, 429, 429]
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert replica.most_active == 1
        assert sorted(event.error for event in plane.events()) == ["", "", "", "overloaded", "overloaded", "overloaded"]
        assert any(event.queue_ms > 300 for event in plane.events())
        wait_for(lambda: settled(plane), what="the end of all work")


def test_waiting_too_long_is_an_answer(tmp_path: Path) -> None:
    with running(tmp_path, queue_seconds=0.3) as plane:
        plane.routes(deployment("m", variant("a", [])))
        answer = chat(plane, "n=1")
        assert answer.status_code == 503
        assert "queue_seconds" in answer.json()["error"]["message"]
        plane.routes(deployment("m", variant("a", [], problem="the file is corrupt: bad magic.")))
        assert "bad magic" in chat(plane, "n=1").json()["error"]["message"]
        assert {event.error for event in plane.events()} == {"unavailable"}


def test_an_answer_may_not_take_forever(tmp_path: Path) -> None:
    with running(tmp_path, request_seconds=0.3) as plane:
        replica = plane.replica()
        plane.routes(deployment("m", variant("a", [replica])))
        assert chat(plane, "n=1 wait=20").status_code == 504
        assert plane.events()[-1].error == "timeout"
        wait_for(lambda: replica.cancelled == 1, what="cancelling the replica's work")
        wait_for(lambda: settled(plane), what="the end of all work")


def test_an_unknown_name_is_a_404(plane: Plane) -> None:
    answer = chat(plane, "n=1", model="nobody")
    assert answer.status_code == 404
    assert answer.json()["error"]["param"] == "model"
    assert plane.events()[-1].deployment_name == "nobody"


def test_another_workspaces_deployment_is_not_there(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica()]), workspace_id="w2"))
    assert chat(plane, "n=1").status_code == 404


def test_on_demand_names_become_deployments(plane: Plane) -> None:
    replica = plane.replica()
    plane.on_demand = lambda name: deployment("made", variant("a", [replica]))
    assert chat(plane, "n=1", model="models:/m@champion").status_code == 200
    assert chat(plane, "n=1", model="models:/m@champion").status_code == 200
    assert chat(plane, "n=1", model="made:latest").status_code == 200
    assert plane.asked == ["models:/m@champion"]
    assert {event.deployment for event in plane.events()} == {"d-made"}


def test_a_deleted_deployment_sends_its_queue_away(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [])))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, plane, "n=1")
        wait_for(plane.gateway.directory.inflight, what="the request")
        plane.routes()
        assert waiting.result().status_code == 404


def test_a_swap_moves_the_queue_to_the_new_variant(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [])))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, plane, "n=1")
        wait_for(plane.gateway.directory.inflight, what="the request")
        plane.routes(deployment("m", variant("a", [], weight=0), variant("b", [plane.replica("new")])))
        assert waiting.result().status_code == 200
    assert plane.events()[-1].variant_name == "b"


@pytest.mark.parametrize(("policy", "kept"), [("nothing", None), ("hashed", "sha256:"), ("all", "t0")])
def test_capture_is_the_deployments_policy(plane: Plane, policy: str, kept: str | None) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica()]), capture=policy))
    for stream in (False, True):
        assert chat(plane, "n=1 secret", stream=stream).status_code == 200
        output = plane.events()[-1].output
        assert output is None if kept is None else output is not None and output.startswith(kept)
        assert ("secret" in (plane.events()[-1].input or "")) == (policy == "all")


def _dropped(plane: Plane, words: str, after: int) -> None:
    """A client that goes away after so many bytes of its answer."""
    host, port = plane.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": words}]}).encode()
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        got = 0
        while got < after:
            piece = sock.recv(4096)
            if not piece:
                return
            got += len(piece)


def test_a_hundred_dropped_streams_leave_nothing(plane: Plane) -> None:
    replica = plane.replica()
    plane.routes(deployment("m", variant("a", [replica], slots=50)))
    threads = [threading.Thread(target=_dropped, args=(plane, "n=10000 gap=0.005", after * 37 % 900)) for after in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: settled(plane), what="the end of all work", seconds=20)
    wait_for(lambda: len(plane.events()) == 100, what="all events")
    assert {event.error for event in plane.events()} == {"cancelled"}
    assert chat(plane, "n=1").status_code == 200


def test_a_client_that_leaves_the_queue_is_forgotten(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [])))
    _dropped(plane, "n=1", 0)
    wait_for(plane.events, what="the event")
    assert plane.events()[-1].error == "cancelled"
    wait_for(lambda: settled(plane), what="the end of all work")


def test_a_slow_reader_holds_the_replica_back(plane: Plane) -> None:
    replica = plane.replica()
    plane.routes(deployment("m", variant("a", [replica])))
    host, port = plane.url.removeprefix("http://").split(":")
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "n=4000 fill=16000"}]}).encode()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect((host, int(port)))
        sock.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        sock.recv(1)
        last = -1
        while replica.sent_bytes != last:
            last = replica.sent_bytes
            time.sleep(0.2)  # the state awaited is that nothing moves any more
        assert 0 < last < 16 << 20
        while replica.sent_bytes < 60 << 20:
            assert sock.recv(1 << 20)
    wait_for(lambda: settled(plane), what="the end of all work")


def test_news_of_a_problem_reaches_those_who_wait(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [], starting=True)))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(chat, plane, "n=1")
        wait_for(plane.gateway.directory.inflight, what="the request")
        plane.routes(deployment("m", variant("a", [], problem="it crashed", starting=True)))
        assert not waiting.done()
        began = time.monotonic()
        plane.routes(deployment("m", variant("a", [], problem="the file is corrupt", final=True)))
        answer = waiting.result()
    assert time.monotonic() - began < 2
    assert answer.status_code == 503
    assert "corrupt" in answer.json()["error"]["message"]


def test_short_requests_are_reported_too(plane: Plane) -> None:
    plane.routes(deployment("m", variant("a", [plane.replica()])))
    assert chat(plane, "n=1").status_code == 200
    assert plane.call(plane.gateway.directory.inflight) == {"d-m": 1}
    assert plane.call(plane.gateway.directory.inflight) == {}


def test_a_route_to_nobody_says_so(tmp_path: Path) -> None:
    with running(tmp_path, queue_seconds=0.5) as plane:
        replica = plane.replica()
        plane.routes(deployment("m", variant("a", [replica])))
        plane.run(replica.stop())
        answer = chat(plane, "n=1")
        assert answer.status_code == 503
        assert "no replica listens" in answer.json()["error"]["message"]
