"""What the pages of models show, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivetrain.web.svg import Drawing
from drivetrain.web.views import FileRow, Pair, State


@dataclass(frozen=True)
class ModelRow:
    name: str
    slug: str
    description: str
    latest: int | None
    aliases: Sequence[tuple[str, int]]
    format: str
    size: int | None
    deployed: Sequence[str]
    updated_ms: int
    on_demand: Sequence[str]  # what it does when it is merely called by its name


@dataclass(frozen=True)
class VersionRow:
    number: int
    aliases: Sequence[str]
    state: State
    run_id: str
    run_name: str
    scores: Sequence[tuple[str, float]]
    deployed: Sequence[str]
    user: str
    created_ms: int
    here: bool


@dataclass(frozen=True)
class OptionRow:
    """An option that a deployment may be given."""

    name: str
    takes: str
    otherwise: str
    help: str


@dataclass(frozen=True)
class ModelPage:
    name: str
    slug: str
    description: str
    versions: Sequence[VersionRow]
    number: int | None
    reference: str
    card: str
    files: Sequence[FileRow]
    bytes: int
    details: Sequence[Pair]
    options: Sequence[OptionRow]  # of the engine that would serve it
    drawing: Drawing | None
    score_names: Sequence[str]
