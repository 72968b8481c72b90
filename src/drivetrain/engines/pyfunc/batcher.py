"""Predictions, one call at a time; what waits meanwhile and goes together is predicted together next.

A lone request never waits for company. Calls run in one thread, the one that loaded the model; a call that is known to be over sooner
than a change of threads takes (a linear model and a few rows) is made on the loop itself.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from drivetrain.engines.pyfunc.model import Loaded
from drivetrain.engines.pyfunc.tensors import Input, joined, split

MOST_ROWS = 4096
QUICK_SECONDS = 0.001
SLOW_SECONDS = 0.003


class Batcher:
    """Puts waiting inputs of one kind together. `requests` and `batches` count what was asked and what was called."""

    def __init__(self, model: Loaded, thread: ThreadPoolExecutor) -> None:
        self._model = model
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Input, asyncio.Future[Any]]] = []
        self._busy = False
        self._quick_rows = 0  # calls with so many rows have proved to be quick
        self.batches = 0
        self.requests = 0

    def predict(self, one: Input) -> asyncio.Future[Any]:
        """The part of the result that is this input's, once it is there. Cancel it when nobody waits for it any more."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((one, future))
        self.requests += 1
        if not self._busy:
            # What arrived at the same moment is read before this runs.
            self._busy = True
            self._loop.call_soon(self._next)
        return future

    def _next(self) -> None:
        batch = self._take()
        if not batch:
            self._busy = False
            return
        self.batches += 1
        inputs = [one for one, _ in batch]
        rows = sum(one.rows for one in inputs)
        if 0 < rows <= self._quick_rows:
            began = time.perf_counter()
            results, error = self._call(inputs)
            if time.perf_counter() - began > SLOW_SECONDS:
                self._quick_rows = 0
            self._settle(batch, results, error)
            self._loop.call_soon(self._next)
        else:
            running = self._loop.run_in_executor(self._thread, self._timed, inputs)
            running.add_done_callback(lambda done: self._done(done, batch, rows))

    def _take(self) -> list[tuple[Input, asyncio.Future[Any]]]:
        """The first that waits, and all that go together with it."""
        waiting = [item for item in self._waiting if not item[1].done()]  # some clients have gone
        self._waiting = []
        batch = waiting[:1]
        rows = sum(one.rows for one, _ in batch)
        for item in waiting[1:]:
            if self._model.rowwise and item[0].kind == batch[0][0].kind and rows + item[0].rows <= MOST_ROWS:
                batch.append(item)
                rows += item[0].rows
            else:
                self._waiting.append(item)
        return batch

    def _call(self, inputs: list[Input]) -> tuple[list[Any], Exception | None]:
        try:
            result = self._model.predict(joined(inputs), inputs[0].method, inputs[0].params)
            return [result] if len(inputs) == 1 else split(result, [one.rows for one in inputs]), None
        except Exception as error:  # noqa: BLE001  it is whatever a model raises, and is answered and logged where it was asked
            return [], error

    def _timed(self, inputs: list[Input]) -> tuple[list[Any], Exception | None, float]:
        began = time.perf_counter()
        results, error = self._call(inputs)
        return results, error, time.perf_counter() - began

    def _done(
        self, done: asyncio.Future[tuple[list[Any], Exception | None, float]], batch: list[tuple[Input, asyncio.Future[Any]]], rows: int
    ) -> None:
        results, error, seconds = done.result()
        if error is None and seconds < QUICK_SECONDS and self._model.rowwise:
            self._quick_rows = max(self._quick_rows, rows)
        self._settle(batch, results, error)
        self._next()

    def _settle(self, batch: list[tuple[Input, asyncio.Future[Any]]], results: list[Any], error: Exception | None) -> None:
        for i, (one, future) in enumerate(batch):
            if future.done():
                continue
            if error is None:
                future.set_result(results[i])
            elif len(batch) == 1:
                future.set_exception(error)
            else:
                # One bad row must not fail the others: each is tried alone.
                one.kind = ("alone", id(future))
                self._waiting.append((one, future))
