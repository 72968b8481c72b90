"""A Python model as a replica: Open Inference v2 JSON on a Unix socket, with dynamic batching.

One prediction runs at a time, in one thread. What arrives meanwhile and goes together (same columns and types) is predicted together
next: a lone request never waits for company.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from drivetrain.engines.model import ReplicaSpec
from drivetrain.engines.pyfunc.model import Loaded, load
from drivetrain.engines.pyfunc.tensors import Input, decoder, joined, metadata, read, write
from drivetrain.errors import DrivetrainError, Invalid

log = logging.getLogger(__name__)

INFER = "/v2/models/model/infer"
METADATA = "/v2/models/model"
MOST_ROWS = 4096
MOST_BODY = 256 << 20


class Batcher:
    """Puts waiting inputs of one kind together."""

    def __init__(self, model: Loaded) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._waiting: list[tuple[Input, asyncio.Future[Any]]] = []
        self._busy = False
        self.batches = 0
        self.requests = 0

    async def predict(self, one: Input) -> Any:
        """The part of the result that is this input's."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, future))
        self._next()
        return await future

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        first = self._waiting[0][0]
        batch: list[tuple[Input, asyncio.Future[Any]]] = []
        rest: list[tuple[Input, asyncio.Future[Any]]] = []
        rows = 0
        for item in self._waiting:
            fits = item[0].kind == first.kind and (not batch or rows + item[0].rows <= MOST_ROWS)
            (batch if fits else rest).append(item)
            rows += item[0].rows if fits else 0
        self._waiting = rest
        self._busy = True
        self.batches += 1
        self.requests += len(batch)
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._call, [one for one, _ in batch])
        running.add_done_callback(lambda done: self._done(done, batch))

    def _call(self, inputs: list[Input]) -> list[Any]:
        result = self._model.predict(joined(inputs), inputs[0].method, inputs[0].params)
        return [result] if len(inputs) == 1 else _split(result, [one.rows for one in inputs])

    def _done(self, done: asyncio.Future[list[Any]], batch: list[tuple[Input, asyncio.Future[Any]]]) -> None:
        self._busy = False
        error = done.exception()
        for i, (one, future) in enumerate(batch):
            if future.done():
                continue  # its client has gone
            if error is None:
                future.set_result(done.result()[i])
            elif len(batch) == 1:
                future.set_exception(error)
            else:  # one bad row must not fail the others: each is tried alone
                alone = msgspec.structs.replace(one, kind=("retry", i, id(one)))
                self._waiting.append((alone, future))
        self._next()


def _split(result: Any, rows: list[int]) -> list[Any]:
    """Cut a result of many rows into its requests' parts. Raises ValueError when the model does not give one row for each row."""
    if isinstance(result, dict) or len(result) != sum(rows):
        raise ValueError("the model does not give one row of output for each row of input")
    parts, at = [], 0
    take: Callable[[int, int], Any] = (lambda a, b: result.iloc[a:b]) if hasattr(result, "iloc") else (lambda a, b: result[a:b])
    for count in rows:
        parts.append(take(at, at + count))
        at += count
    return parts


class App:
    """The ASGI application of a replica. `model` is None while it loads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.model: Loaded | None = None
        self.batcher: Batcher | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path, method = scope["path"], scope["method"]
        if path == INFER and method == "POST":
            status, body = await self._infer(receive)
        elif self.model is None or self.batcher is None:
            status, body = 503, b'{"error":"the model is loading"}'
        elif path == "/health":
            status, body = 200, b'{"status":"ready"}'
        elif path == METADATA:
            status, body = 200, msgspec.json.encode(metadata(self.model, self._name))
        elif path == "/metrics":
            status = 200
            body = f"replica_requests_total {self.batcher.requests}\nreplica_batches_total {self.batcher.batches}\n".encode()
        else:
            status, body = 404, b'{"error":"there is nothing here"}'
        head = [
            (b"content-type", b"text/plain" if path == "/metrics" else b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": body})

    async def _infer(self, receive: Any) -> tuple[int, bytes]:
        pieces, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 499, b""
            piece = message.get("body", b"")
            size += len(piece)
            if size > MOST_BODY:
                return 413, b'{"error":"the request is too large"}'
            pieces.append(piece)
            more = message.get("more_body", False)
        if self.model is None or self.batcher is None:
            return 503, b'{"error":"the model is loading"}'
        try:
            one = read(decoder.decode(b"".join(pieces)), self.model)
            return 200, write(await self.batcher.predict(one), self._name, self.model.signature.outputs, one.method)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return 400, _error(f"The request is not a valid inference request: {error}")
        except DrivetrainError as error:
            return error.status, _error(error.message)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            return 400, _error(f"The model refused the input: {type(error).__name__}: {error}")
        except Exception as error:
            log.exception("the model failed")
            return 500, _error(f"The model failed: {type(error).__name__}: {error}")


def _error(message: str) -> bytes:
    return msgspec.json.encode({"error": message})


def serve(spec: ReplicaSpec, stop: threading.Event) -> None:
    """Listen at once, load, serve until SIGTERM. Raises `Invalid` for a model that cannot be loaded."""
    logging.basicConfig(level="INFO")
    asyncio.run(_serve(spec, stop))


async def _serve(spec: ReplicaSpec, stop: threading.Event) -> None:
    app = App(spec.name)
    Path(spec.socket).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(spec.socket)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=20,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        app.model = await asyncio.to_thread(_load, Path(spec.model_dir))
    except Invalid:
        server.should_exit = True
        await serving
        raise
    app.batcher = Batcher(app.model)
    if stop.is_set():
        server.should_exit = True
    await serving


def _load(folder: Path) -> Loaded:
    try:
        return load(folder)
    except Invalid:
        raise
    except Exception as error:
        log.exception("the model could not be loaded")
        raise Invalid(f"The model could not be loaded: {type(error).__name__}: {error}") from error
