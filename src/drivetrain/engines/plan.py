"""Which engine serves these files, with what memory, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from drivetrain.config import Settings
from drivetrain.engines import options as declared_options
from drivetrain.engines import table
from drivetrain.engines.engine import Engine, Needs
from drivetrain.errors import Invalid
from drivetrain.formats.format import Files, Format
from drivetrain.formats.others import OTHERS


class Plan(Needs, frozen=True, kw_only=True):
    """`runs_code`: the format can carry code, so only an explicit deployment may start it."""

    engine: str
    runs_code: bool


class Found(NamedTuple):
    """The files of a version that could be the model, in what format, and the engine that reads it, if one does."""

    format: Format
    files: Sequence[str]
    engine: Engine | None


def formats() -> Iterator[tuple[Format, Engine | None]]:
    """All formats that are recognised, in the order in which they are looked for: a folder may hold the files of several."""
    for engine in table.ENGINES:
        for one in engine.formats:
            yield one, engine
    for other in OTHERS:
        yield other, None


def recognise(paths: Collection[str]) -> Found | None:
    """What kind of model a set of files is, from their names alone."""
    for one, engine in formats():
        if files := one.find(paths):
            return Found(one, files, engine)
    return None


def plan(files: Files, *, engine: str, options: Mapping[str, Any], settings: Settings) -> Plan:
    """Choose an engine for these files, `auto` or the one that is named.

    Raises `Invalid` when no engine can serve them, a file is damaged, or an option is unknown."""
    found = recognise(files.entries) if engine == "auto" else _named(table.find(engine), files.entries)
    if found is None or found.engine is None:
        raise Invalid(f"No engine can serve these files: {_lacking(found, files.entries)}", param="source")
    chosen = declared_options.read(found.engine.options, options, settings)
    needs = found.engine.plan(files, found.files, chosen)
    return Plan(engine=found.engine.name, runs_code=found.format.runs_code, **msgspec.structs.asdict(needs))


def _named(engine: Engine, paths: Collection[str]) -> Found:
    for one in engine.formats:
        if files := one.find(paths):
            return Found(one, files, engine)
    other = recognise(paths)
    what = f"is {other.format.title}" if other is not None else "has none"
    raise Invalid(f"The engine {engine.name} serves {engine.serves}, and this version {what}. Leave the engine to auto.", param="engine")


def _lacking(found: Found | None, paths: Collection[str]) -> str:
    if found is not None:
        return f"{found.files[0]} is in the format {found.format.title}, which no engine here reads. {found.format.advice}"
    some = ", ".join(sorted(paths)[:5]) or "none"
    served = " or ".join(sorted(engine.serves for engine in table.ENGINES))
    return f"there is no model among them ({some}). Served are: {served}."
