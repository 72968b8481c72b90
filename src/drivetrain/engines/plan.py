"""Which engine serves these files, with what memory, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from drivetrain.config import MiB, Settings
from drivetrain.errors import Invalid
from drivetrain.formats import gguf

ENGINES = ("llamacpp", "pyfunc")
FEW_CORES = 8


class File(Protocol):
    """A file of a version: its content's name and its size in bytes."""

    @property
    def sha256(self) -> str: ...
    @property
    def size(self) -> int: ...


class Plan(Struct, frozen=True, kw_only=True):
    """`runs_code`: the format can carry code, so only an explicit deployment may start it. `slots`: requests at once."""

    engine: str
    tasks: tuple[str, ...]
    runs_code: bool
    memory_bytes: int
    slots: int
    why: str


def plan(
    files: Mapping[str, File], read: Callable[[str, int, int], bytes], *, engine: str, options: Mapping[str, Any], settings: Settings
) -> Plan:
    """Choose an engine for these files. `read(sha256, start, end)` reads a blob.

    Raises `Invalid` when no engine can serve them, a file is damaged, or an option is unknown."""
    if engine not in ("auto", *ENGINES):
        raise Invalid(f"There is no engine {engine!r}; there are: auto, {', '.join(ENGINES)}.", param="engine")
    models = sorted(path for path in files if path.lower().endswith(".gguf"))
    packed = sorted((path for path in files if path.rsplit("/", 1)[-1] == "MLmodel"), key=lambda path: path.count("/"))
    if engine == "llamacpp" or (engine == "auto" and models and not packed):
        if not models:
            raise Invalid("The engine llamacpp serves GGUF files, and this version has none.", param="engine")
        return _llamacpp(models, files, read, options, settings)
    if packed:
        _known(options, {"method"})
        size = sum(file.size for file in files.values())
        return Plan(
            engine="pyfunc",
            tasks=("infer",),
            runs_code=True,
            memory_bytes=200 * MiB + 3 * size,
            slots=64,
            why="The files are an MLflow model (there is an MLmodel file).",
        )
    some = ", ".join(sorted(files)[:5]) or "none"
    raise Invalid(
        f"No engine can serve these files ({some}): a GGUF file or an MLflow model (with its MLmodel file) is needed.", param="source"
    )


def _llamacpp(
    models: list[str], files: Mapping[str, File], read: Callable[[str, int, int], bytes], options: Mapping[str, Any], settings: Settings
) -> Plan:
    _known(options, {"file", "parallel", "context_tokens", "threads"})
    path = str(options.get("file") or models[0])
    if path not in models:
        raise Invalid(f"There is no GGUF file {path!r} in this version; there are: {', '.join(models)}.", param="options.file")
    file = files[path]
    head = gguf.read(lambda start, end: read(file.sha256, start, end), file.size, path)
    slots = whole(options, "parallel", settings.parallel)
    wanted = whole(options, "context_tokens", settings.context_tokens)
    context = min(wanted, head.context_length or wanted)
    size = sum(files[one].size for one in models) if "-of-" in path else file.size
    tasks = ("embeddings",) if head.embeddings else ("chat", "completion")
    which = f" of {len(models)} (option file chooses another)" if len(models) > 1 else ""
    return Plan(
        engine="llamacpp",
        tasks=tasks,
        runs_code=False,
        memory_bytes=size + slots * context * head.kv_bytes_per_token + 150 * MiB,
        slots=slots,
        why=f"{path}{which} is GGUF: {head.architecture}, {head.parameters / 1e6:,.0f} M parameters, {head.quantization or 'mixed'}.",
    )


def whole(options: Mapping[str, Any], name: str, default: int) -> int:
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 24:
        raise Invalid(f"The option {name} is a whole number above 0; {value!r} is not.", param=f"options.{name}")
    return value


def _known(options: Mapping[str, Any], names: set[str]) -> None:
    for name in options:
        if name not in names:
            raise Invalid(f"This engine has no option {name!r}; it has: {', '.join(sorted(names))}.", param=f"options.{name}")


def environment(engine: str, settings: Settings) -> dict[str, str]:
    """What must be in a replica's environment before it starts: numeric libraries read it once."""
    cores = os.cpu_count() or 1
    policy = settings.wait_policy
    if policy == "auto":
        # OpenMP's spinning barriers starve everything else where cores are few.
        policy = "passive" if cores < FEW_CORES else "active"
    if engine == "llamacpp":
        return {"OMP_WAIT_POLICY": policy}
    threads = str(settings.threads or cores)
    return {"OMP_WAIT_POLICY": policy, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "MLFLOW_DISABLE_TELEMETRY": "true"}
