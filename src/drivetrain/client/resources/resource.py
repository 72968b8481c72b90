"""What the client's resources have in common: they ask the native API, and give its answers as the nouns that they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from drivetrain.client.http import Connection

API = "/api/v1"
T = TypeVar("T")


class Resource:
    def __init__(self, connection: Connection) -> None:
        self._c = connection

    def _get(self, answer: type[T], path: str, /, **params: Any) -> T:
        return self._c.answer(answer, "GET", API + path, params=params)

    def _send(self, answer: type[T], method: str, path: str, body: object = None, /, **params: Any) -> T:
        return self._c.answer(answer, method, API + path, body, params=params)

    def _do(self, method: str, path: str, body: object = None, /, **params: Any) -> None:
        """Ask for something that has no answer but that it was done."""
        self._c.send(method, API + path, body, params=params)

    def _save(self, url: str, target: Path, **params: Any) -> int:
        """Write the bytes at `url` to `target`; how many there are."""
        size = 0
        with self._c.stream("GET", url, params=params) as answer, target.open("wb") as file:
            for chunk in answer.iter_bytes(1 << 20):
                size += file.write(chunk)
        return size
