"""Every combination of parameters that can be counted, by its number: the last parameter changes fastest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drivetrain.errors import Invalid
from drivetrain.training.sweeps.space import Parameter, nested

MOST = 1 << 62


def count(parameters: Sequence[Parameter]) -> int:
    """How many combinations there are. Raises `Invalid` if a parameter cannot be counted."""
    total = 1
    for one in parameters:
        size = one.count()
        if size is None:
            raise Invalid(
                f"Grid search tries every value, and {one.name!r} has no end of them: list its values, give it q_uniform, or "
                "use random search.",
                param=one.name,
            )
        total *= size
    if total > MOST:
        raise Invalid("The grid has more combinations than can be counted: use random search.", param="parameters")
    return total


def at(parameters: Sequence[Parameter], position: int) -> dict[str, Any]:
    """The combination of that number."""
    found: dict[tuple[str, ...], Any] = {}
    for one in reversed(parameters):
        size = one.count()
        assert size is not None
        position, number = divmod(position, size)
        found[one.path] = one.at(number)
    return nested({one.path: found[one.path] for one in parameters})
