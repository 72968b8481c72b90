"""The client of replicas against raw sockets that do what servers should not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drivetrain.errors import UpstreamFailed, UpstreamTimeout
from drivetrain.serving.gateway.upstream import Lost, Upstream
from tests.conftest import free_port

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _asked(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(length)


def against(folder: Path, serve: Serve, work: Callable[[Upstream], Awaitable[None]]) -> None:
    """Run `work` with a client of a server that handles each connection with `serve`, on a Unix socket and on a port."""

    async def main() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        on_socket = await asyncio.start_unix_server(handle, str(folder / "s"))
        on_port = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = on_port.sockets[0].getsockname()[1]
        for server, address in ((on_socket, f"unix:{folder / 's'}"), (on_port, f"http://127.0.0.1:{port}")):
            upstream = Upstream(address)
            await work(upstream)
            upstream.close()
            assert upstream.open == 0
            server.close()

    asyncio.run(main())


def answering(*pieces: bytes, pause: float = 0.0, forever: bool = False) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await _asked(reader)
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            if not forever:
                return

    return serve


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"


def test_an_answer_cut_into_single_bytes(tmp_path: Path) -> None:
    whole = HEAD + b"hello"

    async def work(upstream: Upstream) -> None:
        for _ in range(3):
            answer = await upstream.request("/x", b"{}")
            assert (answer.status, answer.body) == (200, b"hello")
        assert upstream.open == 1

    against(tmp_path, answering(*(whole[i : i + 1] for i in range(len(whole))), forever=True), work)


def test_a_body_without_a_length_ends_with_its_connection(tmp_path: Path) -> None:
    async def work(upstream: Upstream) -> None:
        assert (await upstream.request("/x", b"{}")).body == b"hello"
        assert (await upstream.request("/x", b"{}")).body == b"hello"

    against(tmp_path, answering(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"), work)


@pytest.mark.parametrize(
    "start", [b"", b"HTT", HEAD, HEAD + b"hel", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"]
)
def test_a_connection_that_breaks_is_lost(tmp_path: Path, start: bytes) -> None:
    async def work(upstream: Upstream) -> None:
        with pytest.raises(Lost) as lost:
            await upstream.request("/x", b"{}")
        assert lost.value.sent

    against(tmp_path, answering(start), work)


def test_nobody_there(tmp_path: Path) -> None:
    async def main() -> None:
        for address in (f"unix:{tmp_path / 'none'}", f"http://127.0.0.1:{free_port()}"):
            with pytest.raises(Lost) as lost:
                await Upstream(address).request("/x", b"{}")
            assert not lost.value.sent

    asyncio.run(main())


def test_what_is_not_http_is_a_failure(tmp_path: Path) -> None:
    async def work(upstream: Upstream) -> None:
        with pytest.raises(UpstreamFailed):
            await upstream.request("/x", b"{}")

    against(tmp_path, answering(b"SSH-2.0-OpenSSH\r\n"), work)


def test_a_stream_may_stop_but_not_forever(tmp_path: Path) -> None:
    async def work(upstream: Upstream) -> None:
        answer = await upstream.request("/x", b"{}", stream=True, seconds=0.3)
        with pytest.raises(UpstreamTimeout):
            assert [piece async for piece in answer.chunks()]
        answer.close()
        with pytest.raises(UpstreamTimeout):
            await upstream.request("/x", b"{}", seconds=0.1)

    against(tmp_path, answering(HEAD + b"h", pause=30), work)


def test_cancelling_closes_the_connection(tmp_path: Path) -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        assert await reader.read(1) == b""
        closed.set()

    async def work(upstream: Upstream) -> None:
        closed.clear()
        task = asyncio.create_task(upstream.request("/x", b"{}"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 5)

    against(tmp_path, serve, work)


def test_a_large_body_goes_up_and_comes_back(tmp_path: Path) -> None:
    body = b"x" * (8 << 20)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async def work(upstream: Upstream) -> None:
        assert (await upstream.request("/x", body)).body == body

    against(tmp_path, serve, work)


def test_an_answer_that_nobody_asked_for_closes_the_connection(tmp_path: Path) -> None:
    async def work(upstream: Upstream) -> None:
        assert (await upstream.request("/x", b"{}")).body == b"hello"
        await asyncio.sleep(0.1)
        assert (await upstream.request("/x", b"{}")).body == b"hello"

    against(tmp_path, answering(HEAD + b"hello", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", pause=0.02, forever=True), work)
