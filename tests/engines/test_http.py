"""The replicas' own HTTP server, spoken to byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drivetrain.engines import http
from drivetrain.engines.http import Answer, Server

GET = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n"


class Echo:
    """Answers with method, path and body; `/later` only when told to."""

    def __init__(self) -> None:
        self.later: list[asyncio.Future[Answer]] = []

    def handle(self, method: str, path: str, body: bytes) -> Answer | asyncio.Future[Answer]:
        if path == "/later":
            future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self.later.append(future)
            return future
        return Answer(200, f"{method} {path} {body.decode()}".encode(), "text/plain")


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # the server may have been faster
        await writer.wait_closed()


def serving(test: Callable[[Path, Echo, Server], Awaitable[None]], folder: Path) -> None:
    async def run() -> None:
        echo = Echo()
        server = Server(echo.handle)
        path = folder / "s.sock"
        path.write_text("what an earlier life left")
        await server.start(f"unix:{path}")
        await test(path, echo, server)
        if not server.stopping:
            await server.stop(1.0)

    asyncio.run(run())


def test_connections_stay_open_and_keep_the_order(tmp_path: Path) -> None:
    async def test(path: Path, echo: Echo, server: Server) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(
            GET % b"later"
            + GET % b"a?b=c"
            + b"POST /p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        )
        await until(lambda: echo.later)
        echo.later[0].set_result(Answer(200, b"first"))
        assert (await answer(reader))[2] == b"first"
        assert (await answer(reader))[2] == b"GET /a "
        assert (await answer(reader))[2] == b"POST /p hello"
        writer.write(GET % b"again")
        status, headers, body = await answer(reader)
        assert (status, headers["content-type"], body) == (200, "text/plain", b"GET /again ")
        writer.write(b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await answer(reader))[1]["connection"] == "close"
        assert await reader.read() == b""
        await shut(writer)

    serving(test, tmp_path)


def test_a_client_that_goes_takes_its_request_along(tmp_path: Path) -> None:
    async def test(path: Path, echo: Echo, server: Server) -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(GET % b"later")
        await until(lambda: echo.later)
        await shut(writer)
        await until(echo.later[0].cancelled)

    serving(test, tmp_path)


def test_stopping_finishes_what_has_begun(tmp_path: Path) -> None:
    async def test(path: Path, echo: Echo, server: Server) -> None:
        idle, idle_writer = await asyncio.open_unix_connection(path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(GET % b"later")
        await until(lambda: echo.later)
        stopping = asyncio.create_task(server.stop(20.0))
        assert await idle.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(path)
        echo.later[0].set_result(Answer(200, b"done"))
        status, headers, body = await answer(reader)
        assert (status, headers["connection"], body) == (200, "close", b"done")
        await stopping
        await shut(idle_writer)
        await shut(writer)

    serving(test, tmp_path)


@pytest.mark.parametrize("noise", [b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"nonsense\r\n\r\n"])
def test_what_is_not_http_is_refused(tmp_path: Path, noise: bytes) -> None:
    async def test(path: Path, echo: Echo, server: Server) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(noise)
        assert (await answer(reader))[0] == 400
        assert await reader.read() == b""
        await shut(writer)

    serving(test, tmp_path)


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BODY", 1000)

    async def test(path: Path, echo: Echo, server: Server) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n" + b"x" * 5000)
        assert (await answer(reader))[0] == 413
        await shut(writer)

    serving(test, tmp_path)
