"""The rules that hold the house together, beside those that import-linter proves."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import drivetrain
from drivetrain.engines import plan, table

SOURCE = Path(drivetrain.__file__).parent
ROOT = Path(__file__).parent.parent
MOST_MODULES = 15


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


def test_no_folder_has_more_modules_than_one_looks_over() -> None:
    folders = {path.parent for path in SOURCE.rglob("*.py")}
    counted = {str(folder.relative_to(SOURCE)): len([*folder.glob("[!_]*.py")]) for folder in folders}
    assert counted["."] > 1 and {name: count for name, count in counted.items() if count > MOST_MODULES} == {}


STARTERS = ("__init__.py", "app.py", "supervisor.py", "webserver.py", "cli/")
"""Where the house starts processes: what one of them needs is imported by that one only."""
HEAVY = {
    "alembic": ("store/migrate.py", "store/migrations/"),
    "cloudpickle": ("engines/pyfunc/",),
    "cryptography": ("identity/secrets.py",),
    "mlflow": ("engines/pyfunc/",),
    "numpy": ("profiles/", "monitoring/drift/", "engines/pyfunc/"),
    "obstore": ("store/objects.py",),
    "optuna": ("training/sweeps/suggest.py",),
    "packaging": ("engines/",),
    "pandas": ("engines/pyfunc/",),
    "pickle": ("engines/pyfunc/",),
    "polars": ("profiles/build.py", "monitoring/drift/", "portable/", "retraining/", "store/events/compact.py"),
    "psutil": ("compute/", "loops/deployments.py", "sdk/", "serving/gateway/balance.py", "store/home.py"),
    "re2": ("store/patterns.py",),
    "scipy": ("monitoring/drift/",),
    "skops": ("engines/pyfunc/",),
    "sklearn": ("monitoring/drift/",),
    "xllamacpp": ("engines/",),
    "yaml": ("formats/", "portable/", "training/sweeps/plan.py"),
}
"""Library → its adapters, which import it when they need it: it takes long, or is not there for everybody."""


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, module) of all imports within."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def files() -> Iterator[tuple[str, ast.Module]]:
    """(path in the house, what is in it) of all modules."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), ast.parse(path.read_text())


def adapters(module: str) -> tuple[str, ...] | None:
    """Where a heavy library may be imported; None for what is no such library."""
    return HEAVY.get(module.partition(".")[0])


def test_modules_say_at_their_top_what_they_need() -> None:
    wrong = {
        f"{where}:{line} imports {module}"
        for where, tree in files()
        if not where.startswith(STARTERS)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for line, module in imports(function)
        if not where.startswith(adapters(module) or ())
    }
    assert sorted(wrong) == []


def test_heavy_libraries_are_imported_by_their_adapters_only() -> None:
    assert [
        f"{where}:{line} imports {module}"
        for where, tree in files()
        for line, module in imports(tree)
        if (known := adapters(module)) and not where.startswith((*known, "cli/"))
    ] == []


def test_words_of_clients_stand_in_dialects_and_tags_only() -> None:
    """`mlflow.…` and `wandb.…` as texts; in an engine it is the module that loads a model."""
    word = re.compile(r"(mlflow|wandb)\.[a-z]")
    assert [
        f"{where}:{node.lineno} {node.value}"
        for where, tree in files()
        if not where.startswith(("dialects/", "engines/", "tags.py"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and word.match(node.value)
    ] == []


def test_house_md_lists_the_layers() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (layers,) = (one["layers"] for one in config["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    told = [
        re.findall(r"`([a-z_]+)`", line)
        for line in (ROOT / "docs/explanation/house.md").read_text().splitlines()
        if re.match(r"\| `", line)
    ]
    assert [sorted(found) for found in told] == [sorted(part.strip() for part in layer.split("|")) for layer in layers]


def test_no_domain_reads_the_tables_of_another() -> None:
    def foreign(name: str, room: str) -> bool:
        top, other, *rest = name.split(".")
        return top == "drivetrain" and other != room and any(part.startswith("tables") for part in rest)

    assert [
        f"{where}:{node.lineno} {node.module}.{one.name}"
        for where, tree in files()
        if not where.startswith("store/")  # whose migrations make all of them
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for one in node.names
        if foreign(f"{node.module}.{one.name}", where.partition("/")[0])
    ] == []


def test_nobody_outside_engines_names_an_engine() -> None:
    """What has to do with an engine is asked of its declaration, so that one more costs a folder and a row. Formats are told by name in
    texts for people alone; a program that compares with one would have to be changed for the next."""
    names = [*table.names(), r"llama\.cpp"]
    named = re.compile(rf"(?<!mlflow\.)\b(x?{'|x?'.join(names)})\b", re.IGNORECASE)
    assert named.search('if variant.engine == "llamacpp":') and named.search("import xllamacpp") and not named.search("mlflow.pyfunc.load")
    outside = [file for file in SOURCE.rglob("*") if file.suffix in (".py", ".html", ".js") and "vendor" not in file.parts]
    outside = [file for file in outside if file.relative_to(SOURCE).parts[0] != "engines"]
    assert len(outside) > 300
    assert [f"{file.relative_to(SOURCE)}: {found[0]}" for file in outside if (found := named.search(file.read_text()))] == []
    formats = {word.lower() for one, _ in plan.formats() for word in (one.name, one.title, *one.endings)}
    formats -= {"mlflow", "torch"}  # also a protocol, and a library
    compared = [
        f"{file.relative_to(SOURCE)}: {node.value}"
        for file in outside
        if file.suffix == ".py" and file.relative_to(SOURCE).parts[0] != "formats"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lower() in formats
    ]
    assert compared == []
