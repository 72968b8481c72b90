"""What the native API says of runs on the move."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.tracking.model import Series


class Begun(Struct, frozen=True):
    """A run's id here, and whether it is new, resumed, unchanged, or exists."""

    id: str
    state: str


class CameFrom(Struct, frozen=True):
    """The run that came from a source, and the digest that the source had then."""

    run_id: str
    digest: str


class Marked(Struct, frozen=True):
    run_id: str


class ModelBrought(Struct, frozen=True):
    id: str


class ModelFile(Struct, frozen=True):
    path: str
    sha256: str
    size: int


class ModelFileList(Struct, frozen=True):
    files: list[ModelFile]


class SeriesPage(Struct, frozen=True):
    """Points of metrics by columns. `token` asks for the next page; None at the end."""

    series: list[Series]
    token: str | None


class RowPage(Struct, frozen=True):
    """Rows as [step, JSON text]."""

    rows: list[tuple[int, str]]


class LinePage(Struct, frozen=True):
    """Console lines as [number, level, time, text]."""

    lines: list[tuple[int, str, str, str]]
