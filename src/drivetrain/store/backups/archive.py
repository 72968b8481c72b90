"""What backups and restores share: the archive's manifest and its names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from drivetrain.config import load
from drivetrain.store.home import Home
from drivetrain.store.objects import Objects, open_objects

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""

FORMAT = 1
HOME_FILES = ("secret.key", "server_id", "drivetrain.toml", "auth")
MANIFEST = "manifest.json"


class Table(Struct):
    """One dumped table: its columns in the order of the dump, and those that count by themselves."""

    name: str
    columns: list[str]
    serial: list[str] = []


class Manifest(Struct, kw_only=True):
    """The first member of an archive. `revision` is that of the database's schema."""

    format: int
    database: str  # sqlite | postgresql
    revision: str
    created_ms: int
    home_format: int
    tables: list[Table] = []


class Count:
    """Adds up what is done and tells it."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def copy_target(table: str, columns: list[str]) -> str:
    """A table and its columns, quoted for PostgreSQL's COPY."""
    quoted = ['"' + name.replace('"', '""') + '"' for name in (table, *columns)]
    return f"{quoted[0]} ({', '.join(quoted[1:])})"


def objects_of(home: Home) -> Objects:
    """Where the home's settings say that blobs are."""
    return open_objects(load(home.path).blobs_url or str(home.blobs), home.cache)


def temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
