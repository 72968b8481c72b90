"""The MLmodel file of a model in MLflow's format: flavours, signature, and what it asks of its environment. Runs nothing of the model."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct

from drivetrain.errors import Invalid
from drivetrain.formats.format import Format

FILE = "MLmodel"
MOST_BYTES = 16 << 20


class Column(Struct, frozen=True, kw_only=True):
    """One input or output of a signature. `shape` None: a column of a table, else a tensor (-1: any length)."""

    name: str
    type: str
    """MLflow's (double, long, string, …) or, of a tensor, NumPy's name."""
    shape: tuple[int, ...] | None = None
    required: bool = True


class Signature(Struct, frozen=True, kw_only=True):
    """What a model takes and gives, as far as it was logged."""

    inputs: tuple[Column, ...] = ()
    outputs: tuple[Column, ...] = ()

    @property
    def table(self) -> bool:
        """Whether the input is a table of named columns."""
        return bool(self.inputs) and all(column.shape is None for column in self.inputs)


class MLmodel(Struct, frozen=True, kw_only=True):
    """`loader` is the module that mlflow loads it with (mlflow.sklearn, …), `code` its folder of own modules, if it has one."""

    flavors: dict[str, dict[str, Any]]
    loader: str
    signature: Signature
    code: str = ""

    @property
    def flavor(self) -> str:
        """The framework's name; python_function for a class of the user's own."""
        return next((name for name in self.flavors if name != "python_function"), "python_function")


def find(paths: Collection[str]) -> Sequence[str]:
    """The MLmodel files among these paths, those nearest to the top first."""
    return sorted((path for path in paths if path.rsplit("/", 1)[-1] == FILE), key=lambda path: (path.count("/"), path))


FORMAT = Format(name="mlflow", title="MLflow", find=find, folder=True, runs_code=True)


def choose(paths: Collection[str]) -> str:
    """The MLmodel file that describes the model. Raises `Invalid` when there is none."""
    found = find(paths)
    if not found:
        raise Invalid("There is no MLmodel file, so this is no model in MLflow's format.")
    return found[0]


def parse(data: bytes, name: str = FILE) -> MLmodel:
    """Read an MLmodel file. Raises `Invalid` for a damaged one, or one that nothing can be loaded from."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        about = yaml.load(data[:MOST_BYTES], Loader=loader)  # noqa: S506  both are safe loaders
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"{name} is damaged: it is not YAML ({str(error).splitlines()[0]}). Log the model again.") from None
    flavors = about.get("flavors") if isinstance(about, dict) else None
    if not isinstance(flavors, dict) or not all(isinstance(one, dict) for one in flavors.values()):
        raise Invalid(f"{name} is damaged: it names no flavours. Log the model again.")
    function = flavors.get("python_function")
    if function is None:
        raise Invalid(f"The model has no flavour python_function, only {', '.join(flavors) or 'none'}; without it nothing can call it.")
    try:
        signature = _signature(about.get("signature") or {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Invalid(f"{name} is damaged: its signature cannot be read ({type(error).__name__}: {error}).") from None
    return MLmodel(
        flavors={str(key): value for key, value in flavors.items()},
        loader=str(function.get("loader_module") or ""),
        signature=signature,
        code=_inside(str(function.get("code") or "")),
    )


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise Invalid("The model's code lies outside its folder, which is not allowed.")
    return path


def _signature(about: Mapping[str, Any]) -> Signature:
    return Signature(inputs=_columns(about.get("inputs"), "input"), outputs=_columns(about.get("outputs"), "output"))


def _columns(text: Any, fallback: str) -> tuple[Column, ...]:
    if not text:
        return ()
    columns = []
    for i, entry in enumerate(json.loads(text) if isinstance(text, str) else text):
        name = str(entry.get("name", f"{fallback}-{i}"))
        kind = entry.get("type")
        if kind == "tensor":
            spec = entry["tensor-spec"]
            columns.append(Column(name=name, type=str(spec["dtype"]), shape=tuple(int(size) for size in spec["shape"])))
        else:
            columns.append(Column(name=name, type=kind if isinstance(kind, str) else "object", required=bool(entry.get("required", True))))
    return tuple(columns)
