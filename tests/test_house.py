"""The rules that hold the house together, beside those that import-linter proves."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import drivetrain

SOURCE = Path(drivetrain.__file__).parent


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages([str(SOURCE)], "drivetrain."):
        if not found.name.startswith("drivetrain.store.migrations."):  # run by Alembic, in its own context
            yield importlib.import_module(found.name)


def classes() -> Iterator[type]:
    for module in modules():
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__:
                yield found


def methods(of: type) -> set[str]:
    kinds = (staticmethod, classmethod, property)
    return {
        name
        for name, value in vars(of).items()
        if (inspect.isfunction(value) or isinstance(value, kinds))
        and not name.startswith("__")
        and not getattr(value, "__isabstractmethod__", False)
    }


def shadows(one: type) -> list[str]:
    """Methods of `one` that a class that it stands on has too. What a protocol or an abstract method asks for is no method."""
    below = [base for base in one.__mro__[1:] if base.__module__.startswith("drivetrain") and not getattr(base, "_is_protocol", False)]
    return [f"{one.__name__}.{name} hides {base.__name__}'s" for base in below for name in methods(one) & methods(base)]


def test_no_method_is_defined_twice_along_an_inheritance_line() -> None:
    """Else a caller of the one finds the other: a search once saw deleted things in one class and not in the next."""

    class Lower:
        def find(self) -> None: ...

    class Upper(Lower):
        def find(self) -> None: ...

    Lower.__module__ = Upper.__module__ = "drivetrain.example"
    assert shadows(Upper) == ["Upper.find hides Lower's"]
    assert [found for one in classes() for found in shadows(one)] == []
