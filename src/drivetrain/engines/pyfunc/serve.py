"""A Python model as a replica: Open Inference v2 JSON over HTTP.

    GET  /health                  503 while it loads, then 200
    GET  /v2/models/model         metadata: inputs and outputs as the model's signature has them
    POST /v2/models/model/infer   predictions; request parameter `method` chooses another method of the model
    GET  /metrics                 requests and batches so far

Errors are `{"error": "…"}`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from drivetrain.engines.http import Answer, Server
from drivetrain.engines.model import ReplicaSpec
from drivetrain.engines.pyfunc.batcher import Batcher
from drivetrain.engines.pyfunc.loaders import load
from drivetrain.engines.pyfunc.model import Loaded
from drivetrain.engines.pyfunc.tensors import Input, decoder, metadata, read, write
from drivetrain.errors import DrivetrainError, Invalid

log = logging.getLogger(__name__)
T = TypeVar("T")

INFER = "/v2/models/model/infer"
METADATA = "/v2/models/model"
LARGE_BODY = 1 << 20
DRAIN_SECONDS = 20.0
_LOADING = Answer(503, b'{"error":"the model is loading"}')


class App:
    """What the replica answers. There is no model while it loads."""

    def __init__(self, name: str, thread: ThreadPoolExecutor) -> None:
        self._name = name
        self._thread = thread
        self._model: Loaded | None = None
        self._batcher: Batcher | None = None

    def ready(self, model: Loaded) -> None:
        self._model, self._batcher = model, Batcher(model, self._thread)

    def handle(self, method: str, path: str, body: bytes) -> Answer | asyncio.Future[Answer]:
        model, batcher = self._model, self._batcher
        if model is None or batcher is None:
            return _LOADING
        if path == INFER:
            if method != "POST":
                return _error(405, "Inference is a POST.")
            return self._infer(body, model, batcher)
        if path == "/health":
            return Answer(200, b'{"status":"ready"}')
        if path == METADATA:
            return Answer(200, msgspec.json.encode(metadata(model, self._name)))
        if path == "/metrics":
            text = f"replica_requests_total {batcher.requests}\nreplica_batches_total {batcher.batches}\n"
            return Answer(200, text.encode(), "text/plain")
        return _error(404, f"There is no {path} here.")

    def _infer(self, body: bytes, model: Loaded, batcher: Batcher) -> Answer | asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if len(body) > LARGE_BODY:
            # Reading it takes long enough for others to notice.
            reading = asyncio.get_running_loop().run_in_executor(None, _read, body, model)
            reading.add_done_callback(lambda done: self._ask(done.result(), answer, model, batcher))
        else:
            self._ask(_read(body, model), answer, model, batcher)
        return answer

    def _ask(self, one: Input | Answer, answer: asyncio.Future[Answer], model: Loaded, batcher: Batcher) -> None:
        if answer.done():
            return
        if isinstance(one, Answer):
            answer.set_result(one)
            return
        predicted = batcher.predict(one)

        def settle(done: asyncio.Future[Any]) -> None:
            if not answer.done() and not done.cancelled():
                answer.set_result(_guarded(lambda: Answer(200, write(done.result(), self._name, model.signature.outputs, one.method))))

        predicted.add_done_callback(settle)
        # A client that has gone takes its request with it, as long as it only waits.
        answer.add_done_callback(lambda done: predicted.cancel() if done.cancelled() else None)


def _read(body: bytes, model: Loaded) -> Input | Answer:
    return _guarded(lambda: read(decoder.decode(body), model))


def _guarded(call: Callable[[], T]) -> T | Answer:
    """What `call` gives, or the answer that says why it gives nothing."""
    try:
        return call()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _error(400, f"The request is not a valid inference request: {error}")
    except DrivetrainError as error:
        return _error(error.status, error.message)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        return _error(400, f"The model refused the input: {type(error).__name__}: {error}")
    except Exception as error:
        log.exception("the model failed")
        return _error(500, f"The model failed: {type(error).__name__}: {error}")


def _error(status: int, message: str) -> Answer:
    return Answer(status, msgspec.json.encode({"error": message}))


def serve(spec: ReplicaSpec, stop: threading.Event) -> None:
    """Listen at once, load, serve until SIGTERM. Raises `Invalid` for a model that cannot be loaded."""
    logging.basicConfig(level="INFO")
    asyncio.run(_serve(spec, stop))


async def _serve(spec: ReplicaSpec, stop: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
    app = App(spec.name, thread)
    server = Server(app.handle)
    await server.start(spec.address)
    ending = asyncio.Event()
    loading = True

    def end() -> None:
        if loading:
            os._exit(0)  # there is nothing to finish, and a load cannot be interrupted
        ending.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, end)
    if stop.is_set():
        return
    app.ready(await loop.run_in_executor(thread, _load, Path(spec.model_dir), spec.options))
    loading = False
    await ending.wait()
    await server.stop(DRAIN_SECONDS)


def _load(folder: Path, options: dict[str, Any]) -> Loaded:
    try:
        return load(folder, options)
    except Invalid:
        raise
    except Exception as error:
        log.exception("the model could not be loaded")
        raise Invalid(f"The model could not be loaded: {type(error).__name__}: {error}") from error
