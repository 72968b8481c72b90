"""What templates see of the domain: plain values. Here those that several rooms show; a room's own stand in its `views`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Tone = Literal["good", "warn", "bad", "busy", "idle"]


@dataclass(frozen=True)
class State:
    """A word for how something is, with its tone; `why` is said on hover."""

    word: str
    tone: Tone
    why: str = ""


@dataclass(frozen=True)
class Figure:
    """One large number of a page."""

    label: str
    value: Markup | str
    note: str = ""
    spark: Markup | str = ""


@dataclass(frozen=True)
class Pair:
    """One line of a list of names and values. `differs`: not so in the neighbouring runs."""

    name: str
    value: str
    differs: bool = False
    url: str = ""
    mono: bool = False


@dataclass(frozen=True)
class FileRow:
    path: str
    size: int
    url: str = ""
    sha256: str = ""
