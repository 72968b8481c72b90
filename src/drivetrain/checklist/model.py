"""The nouns of the checklist."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Checklist(Struct, frozen=True, kw_only=True):
    """`ready`: no required line is missing."""

    deployment: str
    ready: bool
    lines: tuple[Line, ...]


class Line(Struct, frozen=True, kw_only=True):
    """One line. `what`: how it is; `why`: what it is good for; `fix`: the command (or the line of a script) that mends it, "" for none."""

    name: str
    state: Standing
    required: bool
    what: str
    why: str
    fix: str = ""


class Standing(StrEnum):
    """`warn`: it will do, but look; `missing`: it is not there."""

    ok = "ok"
    warn = "warn"
    missing = "missing"
