"""The channel between supervisor and web processes: tables one way, news the other, over a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from drivetrain.serving.gateway import channel
from drivetrain.serving.gateway.channel import ChannelClient, ChannelServer, Message
from drivetrain.serving.routes import EMPTY, RoutesHolder, Snapshot


@pytest.fixture
def heard() -> list[Message]:
    return []


@pytest.fixture
def server(tmp_path: Path, heard: list[Message]) -> Iterator[ChannelServer]:
    server = ChannelServer(tmp_path / "s", heard.append)
    yield server
    server.close()


def table(generation: int, *, padding: int = 0) -> Snapshot:
    return msgspec.structs.replace(EMPTY, generation=generation, workspaces={"x" * padding: "id"})


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:
        time.sleep(0.01)
    return check()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("channel")]


def test_a_web_process_gets_the_newest_table_and_is_heard(tmp_path: Path, server: ChannelServer, heard: list[Message]) -> None:
    async def test() -> None:
        server.publish(table(1))
        routes = RoutesHolder()
        client = ChannelClient(tmp_path / "s", routes, lambda: {"deployment": 3})
        running = asyncio.create_task(client.run())
        async with asyncio.timeout(10):
            assert (await routes.changed(0)).generation == 1
            await asyncio.to_thread(server.publish, table(2))
            assert (await routes.changed(1)).generation == 2
            client.nudge("jobs")
            client.wake("deployment")
            assert await asyncio.to_thread(eventually, lambda: len(heard) == 3)
        assert server.inflight() == {"deployment": 3}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(test())
    assert [(one.op, one.what) for one in heard] == [("nudge", "jobs"), ("wake", "deployment"), ("inflight", "")]
    assert eventually(lambda: server.inflight() == {})


def test_one_that_reads_no_more_is_sent_away_whole(tmp_path: Path, server: ChannelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SEND_SECONDS", 1)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(tmp_path / "s"))
        assert eventually(lambda: "channel-peer" in threads())
        server.publish(table(1, padding=8 << 20))
        server.publish(table(2, padding=8 << 20))
        # Half of the first table, and then the end: never the beginning of the second in its middle.
        size = 0
        while piece := deaf.recv(1 << 20):
            size += len(piece)
        assert size < 8 << 20


def test_closing_ends_its_threads(tmp_path: Path) -> None:
    server = ChannelServer(tmp_path / "s", lambda _: None)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(tmp_path / "s"))
        assert eventually(lambda: threads() == ["channel", "channel-peer"])
        server.close()
        assert eventually(lambda: threads() == [])


def test_it_takes_others_in_after_one_could_not_be(
    tmp_path: Path, server: ChannelServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channel, "RETRY_SECONDS", 0.01)
    accept = socket.socket.accept
    fail = [True]

    def full(self: socket.socket) -> tuple[socket.socket, object]:
        if fail:
            fail.pop()
            raise OSError(24, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", full)
    for _ in range(2):  # the first is taken by the call that waited already
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(10)
            peer.connect(str(tmp_path / "s"))
            server.publish(table(1))
            assert peer.recv(4)
    assert "Too many open files" in caplog.text
