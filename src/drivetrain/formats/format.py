"""What a format of models is: how its files are recognised by their names, and the files of a version that readers are given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

Read = Callable[[int, int], bytes]
"""Bytes [start, end) of a file; fewer at its end."""


class Format(Struct, frozen=True, kw_only=True):
    """One format. `find` gives those of the paths that could be the model, the likeliest first. `folder`: what it finds describes the whole
    folder around it. `runs_code`: it can carry code, so only an explicit deployment may start it. `endings`: of the files that are taken
    for models when they lie in a Python package. `advice`: what to do with it where no engine reads it."""

    name: str
    title: str
    find: Callable[[Collection[str]], Sequence[str]]
    folder: bool = False
    runs_code: bool = False
    endings: tuple[str, ...] = ()
    advice: str = ""


class File(Protocol):
    """A file of a version: its content's name and its size in bytes."""

    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


@dataclass(frozen=True)
class Files:
    """The files of a version by their paths, which may be far away. `fetch(sha256, start, end)` reads a piece of one."""

    entries: Mapping[str, File]
    fetch: Callable[[str, int, int], bytes]

    def size(self, path: str) -> int:
        return self.entries[path].size

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return sum(file.size for file in self.entries.values())

    def reader(self, path: str) -> Read:
        digest = self.entries[path].sha256
        return lambda start, end: self.fetch(digest, start, end)


def ending(*endings: str) -> Callable[[Collection[str]], Sequence[str]]:
    """Finds files by how their names end, whatever the case."""
    return lambda paths: sorted(path for path in paths if path.lower().endswith(endings))
