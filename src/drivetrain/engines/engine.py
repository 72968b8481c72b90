"""What an engine is: one declaration, from which everything in the house that has to do with engines is made.

An engine is a folder of this one with a declaration (an `Engine`) and its process (a module with `serve(spec, stop)`), and a row in
`drivetrain.engines.table`. Nobody else names it: planning, replicas, gateway, listings, command help, pages and docs ask the declaration.
A declaration imports nothing heavy; `serve` may, since it runs in a process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import Struct

from drivetrain.config import Settings
from drivetrain.engines.options import NoOptions
from drivetrain.formats.format import Files, Format
from drivetrain.formats.mlmodel import Column

TASKS = ("chat", "completion", "embeddings", "infer")
"""What may be asked of a model. Paths and bodies of each are in `drivetrain.serving.gateway.canonical`."""
FEW_CORES = 8


class Needs(Struct, frozen=True, kw_only=True):
    """What one model needs of this machine. `slots`: requests at once. `why`: to people, why this engine, and what the memory is for."""

    tasks: tuple[str, ...]
    memory_bytes: int
    slots: int
    why: str


class Facts(Struct, frozen=True, kw_only=True):
    """What listings and pages show of a model. Empty fields are not known."""

    size: int = 0
    digest: str = ""  # 64 hex digits
    format: str = ""  # the name of its format
    family: str = ""
    parameters: int = 0
    quantization: str = ""
    context_length: int = 0
    template: str = ""
    license: str = ""
    tasks: tuple[str, ...] = ()
    tools: bool = False  # it can be given tools to call


class Package(Struct, frozen=True, kw_only=True):
    """A Python package that an engine runs with. `install`: what pip is told. `without`: what it means that it is not there."""

    module: str
    install: str
    without: str


Get = Callable[[str], "tuple[int, bytes] | None"]
"""GET a path of a replica: status and body, or None when it does not answer."""


def never_busy(_: Get) -> bool:
    """For an engine that finishes by itself what it has begun when it gets SIGTERM."""
    return False


def no_columns(_: Files, __: Sequence[str]) -> tuple[Column, ...]:
    """For an engine whose models take no tables, or do not say which."""
    return ()


def nothing_pinned(_: Path, __: Mapping[str, Any]) -> tuple[str, ...]:
    """For an engine whose models ask for no packages."""
    return ()


def no_variables(_: Settings) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine.

    name: as people say it (`--engine`) and as deployments keep it.
    serves: the models that it serves, in words.
    formats: whose files it reads; each says how it is recognised.
    tasks: all that its models may do. What one of them does is in its `Needs`.
    options: a dataclass of `option(…)`s; see `drivetrain.engines.options`.
    plan: (files, those of a format that could be the model, options) → what it needs. Raises `Invalid` for what cannot be served.
    describe: (files, those of a format that could be the model) → what listings show. Raises `Invalid` for a damaged file.
    columns: (files, those that could be the model) → the columns of its input, where that is a table. Raises `Invalid` as `describe`.
    module: the module whose `serve(spec, stop)` is the process of a replica; see `drivetrain.engines.model` for what is expected of it.
    packages: what it runs with, beyond what drivetrain itself needs.
    requirements: (folder of a model, options) → the packages that the model pins. Where this interpreter does not have them, its replicas
        run in an environment that a job builds.
    variables: what must be in a replica's environment before it starts.
    busy: whether a replica works on a request. Asked before it gets SIGTERM.
    keeps_connections: whether connections to its replicas are used for many requests.
    answers: the module whose `open_model(folder, options)` gives a function from the body of a request to that of its answer, without a
        replica; "" where there is none.
    """

    name: str
    serves: str
    formats: tuple[Format, ...]
    tasks: tuple[str, ...]
    plan: Callable[[Files, Sequence[str], Any], Needs]
    describe: Callable[[Files, Sequence[str]], Facts]
    module: str
    options: type[Any] = NoOptions
    columns: Callable[[Files, Sequence[str]], tuple[Column, ...]] = no_columns
    packages: tuple[Package, ...] = ()
    requirements: Callable[[Path, Mapping[str, Any]], tuple[str, ...]] = nothing_pinned
    variables: Callable[[Settings], Mapping[str, str]] = no_variables
    busy: Callable[[Get], bool] = never_busy
    keeps_connections: bool = True
    answers: str = ""

    def environ(self, settings: Settings) -> dict[str, str]:
        """The environment variables of its replicas: numeric libraries read them once, at their start."""
        policy = settings.wait_policy
        if policy == "auto":
            # OpenMP's spinning barriers starve everything else where cores are few.
            policy = "passive" if (os.cpu_count() or 1) < FEW_CORES else "active"
        return {"OMP_WAIT_POLICY": policy, **self.variables(settings)}
