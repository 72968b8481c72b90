"""What is searched for, as a tree: conditions joined by and, or and not. Whoever reads a language of filters makes one of these.

There is one meaning of what is not there, the same for every noun, language and database: **each condition is true or false**. What an
item lacks meets `IS NULL` and no other comparison, `!=` and `NOT IN` neither; `Not` turns false into true. So `x != 1` finds what has
another x (as MLflow's filters mean it), and `Not(x = 1)` also what has none (as Mongo's `$ne` means it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "string", "any"]
Scalar = str | float | int | bool | None
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """`entity` and `key` are the canonical ones of the noun. A value of None is JSON's null, which only JSON has."""

    entity: str
    key: str
    op: str
    value: Value = None


@dataclass(frozen=True, slots=True)
class And:
    """Nothing is met by everything."""

    parts: Sequence[Node] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """Nothing is met by nothing."""

    parts: Sequence[Node] = ()


@dataclass(frozen=True, slots=True)
class Not:
    part: Node


Node = Condition | And | Or | Not


@dataclass(frozen=True, slots=True)
class Order:
    entity: str
    key: str
    ascending: bool = True
