"""The options of an engine: declared once, checked, filled from the settings, and told to people.

    @dataclass(frozen=True, kw_only=True)
    class Options:
        parallel: int = option(8, "Requests at once.", least=1, setting="parallel")
        pooling: str = option("", "Give embeddings instead of text.", choices=("mean", "cls", "last"))

Fields are int, bool or str. An option that was not given has its default, or what the server's setting of that name says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from msgspec import Struct

from drivetrain.config import Settings
from drivetrain.errors import Invalid

T = TypeVar("T")
MOST = 1 << 24


class Option(Struct, frozen=True, kw_only=True):
    """One option, as it was declared. `setting`: the server's setting that it stands in for; "" where there is none."""

    name: str
    kind: type
    default: Any
    help: str
    least: int
    most: int
    choices: tuple[str, ...]
    setting: str

    @property
    def takes(self) -> str:
        """The values that it takes, in words."""
        if self.choices:
            return " or ".join(self.choices) if len(self.choices) == 2 else f"one of {', '.join(self.choices)}"
        if self.kind is bool:
            return "true or false"
        if self.kind is int:
            return f"a whole number above {self.least - 1}" if self.most == MOST else f"a whole number from {self.least} to {self.most}"
        return "a text"

    @property
    def otherwise(self) -> str:
        """What holds where it is not given, in words."""
        if self.setting:
            return f"as the setting {self.setting}"
        return str(self.default).lower() if self.kind is bool else str(self.default)

    def check(self, value: Any) -> None:
        if self.choices:
            fine = value in self.choices or value == self.default
        elif self.kind is int:
            fine = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        else:
            fine = isinstance(value, self.kind)
        if not fine:
            raise Invalid(f"The option {self.name} is {self.takes}; {value!r} is not.", param=f"options.{self.name}")


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """Of an engine that has none."""


def option(default: Any, about: str, *, least: int = 1, most: int = MOST, choices: tuple[str, ...] = (), setting: str = "") -> Any:
    """Declare an option: one line of help, and its bounds if it is a number."""
    return field(default=default, metadata={"help": about, "least": least, "most": most, "choices": choices, "setting": setting})


def declared(kind: type[Any]) -> Iterator[Option]:
    """What a dataclass of options declares, in its order."""
    hints = get_type_hints(kind)
    for one in fields(kind):
        yield Option(name=one.name, kind=hints[one.name], default=one.default, **one.metadata)


def read(kind: type[T], given: Mapping[str, Any], settings: Settings) -> T:
    """The options as they hold for one deployment. Raises `Invalid` for one that there is not, or a value that it does not take."""
    known = {one.name: one for one in declared(kind)}
    for name, value in given.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise Invalid(f"This engine has no option {name!r}; it has: {names}.", param=f"options.{name}")
        known[name].check(value)
    filled = {one.name: getattr(settings, one.setting) for one in known.values() if one.setting}
    return kind(**{**filled, **given})
