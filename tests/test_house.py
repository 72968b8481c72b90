"""The rules that hold the house together, beside those that import-linter proves."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
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


def imported(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module → those of the modules that it imports: at its top, for its types, or inside a function."""
    graph: dict[str, set[str]] = {}
    for name, text in sources.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                below = (f"{node.module}.{one.name}" for one in node.names)
                found |= {one if one in sources else node.module for one in below}
        graph[name] = found & sources.keys() - {name}
    return graph


def circle(sources: Mapping[str, str]) -> list[str]:
    """Modules of which each imports the next, and the last the first; none if there is no such circle."""
    try:
        TopologicalSorter(imported(sources)).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also where the import waits in a function: who reads one of them has to know all of them."""
    there = {"a": "import b", "b": "def late() -> None:\n    from c import d", "c": "from a import e", "c.d": "", "f": "import a"}
    assert circle(there) == []
    assert set(circle(there | {"c.d": "if TYPE_CHECKING:\n    from a import e"})) == {"a", "b", "c.d"}
    files = {path: path.relative_to(SOURCE.parent).with_suffix("").parts for path in SOURCE.rglob("*.py")}
    house = {".".join(parts).removesuffix(".__init__"): path.read_text() for path, parts in files.items()}
    assert len(house) > 400
    assert circle(house) == []
