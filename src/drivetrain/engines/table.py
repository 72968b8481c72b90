"""All engines: a row for each. They are asked for a model in this order, since a folder in MLflow's format may hold any other inside."""

from __future__ import annotations

from drivetrain.engines.engine import Engine
from drivetrain.engines.llamacpp.declaration import LLAMACPP
from drivetrain.engines.pyfunc.declaration import PYFUNC
from drivetrain.errors import Invalid

ENGINES: tuple[Engine, ...] = (
    PYFUNC,
    LLAMACPP,
)


def find(name: str) -> Engine:
    """The engine of this name. Raises `Invalid` when there is none."""
    for engine in ENGINES:
        if engine.name == name:
            return engine
    raise Invalid(f"There is no engine {name!r}; there are: auto, {', '.join(sorted(names()))}.", param="engine")


def names() -> list[str]:
    return [engine.name for engine in ENGINES]
