"""Bring runs in: each whole, as it was where it came from. What was cut off goes on; the same run twice is one run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from drivetrain.client.http import Connection, Json, Unreachable
from drivetrain.client.push import ATTEMPTS, Progress, segment
from drivetrain.errors import Overloaded, Unavailable
from drivetrain.portable.folder import digest
from drivetrain.words import spelled

API = "/api/v1"
MAX_POINTS = 20_000
MAX_BYTES = 4 << 20
CHUNK = 1 << 20

Columns = tuple[str, list[int], list[int], list[float]]
"""(key, steps, times in ms, values) of one metric."""
Row = tuple[int, str]
"""(step, JSON text of an object)"""
ConsoleLine = tuple[int, str, str, str]
"""(number, level, time, text)"""


@dataclass(frozen=True, slots=True)
class File:
    path: str
    local: Path
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedModel:
    record: Json
    files: Sequence[File] = ()


class Source(Protocol):
    """A run that can be brought in. `record` is what the server's records.py calls a `RunRecord`; `digest` changes when anything of it
    does; `size` is how many points, rows and lines there are about."""

    @property
    def record(self) -> Json: ...
    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def files(self) -> Sequence[File]: ...
    @property
    def models(self) -> Sequence[LoggedModel]: ...
    def points(self) -> Iterator[Columns]: ...
    def rows(self) -> Iterator[Row]: ...
    def lines(self) -> Iterator[ConsoleLine]: ...


@dataclass(frozen=True, slots=True)
class Brought:
    """A run after its import. `state` is `imported`, `unchanged` (it was imported before) or `exists` (it was always here)."""

    source_id: str
    run_id: str
    name: str
    state: str
    warnings: tuple[str, ...] = field(default=())


def bring(connection: Connection, source: Source, *, progress: Progress | None = None, warnings: Iterable[str] = ()) -> Brought:
    return _Bringing(connection, source, progress or (lambda done, total, message: None)).run(tuple(warnings))


def bring_model(connection: Connection, model: LoggedModel) -> str:
    """A logged model that belongs to no run that is brought in: its id here."""
    record = strict({key: value for key, value in model.record.items() if key != "artifacts"})
    model_id = str(connection.json("PUT", f"{API}/imports/models/{segment(record['id'])}", {"record": record})["id"])
    at = f"{API}/logged-models/{segment(model_id)}/files"
    upload(connection, at, model.files, there(connection, at, "files"), lambda file: None)
    return model_id


class _Bringing:
    def __init__(self, connection: Connection, source: Source, tell: Progress) -> None:
        self._c = connection
        self._source = source
        self._tell = tell
        files = [*source.files, *(file for model in source.models for file in model.files)]
        self._total = source.size + sum(file.size >> 10 for file in files)
        self._done = 0

    def run(self, warnings: tuple[str, ...]) -> Brought:
        record, digest = self._source.record, self._source.digest
        at = f"{API}/imports/runs/{segment(record['id'])}"
        begun = self._c.json("PUT", at, {"digest": digest, "record": strict(record)})
        run_id, state = str(begun["id"]), str(begun["state"])
        if state not in ("unchanged", "exists"):
            self._stream(run_id)
            have = there(self._c, f"{API}/runs/{run_id}/export", "artifacts") if state == "resumed" else {}
            upload(self._c, f"{API}/runs/{run_id}/artifacts", self._source.files, have, self._sent)
            for model in self._source.models:
                bring_model(self._c, model)
                for file in model.files:
                    self._sent(file)
            self._c.json("POST", f"{at}/finish", {"digest": digest, "lifecycle": record.get("lifecycle", "active")}, again=True)
            state = "imported"
        self._tell(self._total, self._total, record["name"])
        return Brought(str(record["id"]), run_id, str(record["name"]), state, warnings)

    def _stream(self, run_id: str) -> None:
        at = f"{API}/imports/runs/{run_id}/data"
        series: list[Json] = []
        held = 0
        for key, steps, times, values in self._source.points():
            for start in range(0, len(steps), MAX_POINTS):
                end = start + MAX_POINTS
                some = [spelled(value) for value in values[start:end]]
                series.append({"key": key, "steps": steps[start:end], "times": times[start:end], "values": some})
                held += len(some)
                if held >= MAX_POINTS:
                    self._send(at, "series", series, held, "points")
                    series, held = [], 0
        self._send(at, "series", series, held, "points")
        for what, found in (("rows", self._source.rows()), ("lines", self._source.lines())):
            some_: list[Any] = []
            size = 0
            for one in found:
                some_.append(one)
                size += len(one[-1])
                if size > MAX_BYTES or len(some_) >= 5000:
                    self._send(at, what, some_, len(some_), what)
                    some_, size = [], 0
            self._send(at, what, some_, len(some_), what)

    def _send(self, at: str, what: str, items: list[Any], count: int, message: str) -> None:
        if items:
            patiently(lambda: self._c.json("POST", at, {what: items}, again=True))
            self._advance(count, message)

    def _sent(self, file: File) -> None:
        self._advance(file.size >> 10, file.path.rpartition("/")[2])

    def _advance(self, count: int, message: str) -> None:
        self._done = min(self._done + count, self._total)
        self._tell(self._done, self._total, f"{self._source.record['name']}: {message}")


def there(connection: Connection, at: str, key: str) -> dict[str, str]:
    """path → sha256 of what the server has already."""
    return {one["path"]: one["sha256"] for one in connection.json("GET", at)[key]}


def upload(connection: Connection, at: str, files: Sequence[File], there: dict[str, str], sent: Callable[[File], None]) -> None:
    for file in files:
        sha256 = file.sha256
        if sha256 is None and file.path in there:
            sha256 = digest(file.local)[1]
        if sha256 is None or there.get(file.path) != sha256:
            url = f"{at}/{'/'.join(segment(part) for part in file.path.split('/'))}"
            patiently(partial(_put, connection, url, file))
        sent(file)


def _put(connection: Connection, url: str, file: File) -> None:
    def pieces() -> Iterator[bytes]:
        with file.local.open("rb") as stream:
            while piece := stream.read(CHUNK):
                yield piece

    headers = {"content-length": str(file.local.stat().st_size), "content-type": "application/octet-stream"}
    connection.json("PUT", url, content=pieces(), headers=headers)


def patiently(send: Callable[[], object]) -> None:
    """What can be sent again is, while the server restarts or has too much to do."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            send()
            return
        except (Unreachable, Unavailable, Overloaded):
            if attempt == ATTEMPTS:
                raise
            time.sleep(0.3 * 2**attempt)


def strict(record: Json) -> Json:
    """The record as strict JSON can carry it: what a client said in config and summary may be NaN, and travels as text."""
    client = record.get("client")
    if not client:
        return record
    texts = {name: json.dumps(client.get(name) or {}) for name in ("config", "private", "summary")}
    return {**{key: value for key, value in record.items() if key in _FIELDS}, "client": {**client, **texts}}


_FIELDS = frozenset(
    ("id", "experiment", "name", "user", "status", "start_ms", "end_ms", "lifecycle", "params", "tags", "inputs", "models", "client")
)
