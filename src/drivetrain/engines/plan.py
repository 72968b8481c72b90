"""Which engine serves these files, with what memory, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from drivetrain.config import MiB, Settings
from drivetrain.errors import Invalid
from drivetrain.formats import detect, gguf, mlmodel

ENGINES = ("llamacpp", "pyfunc")
FEW_CORES = 8
PROMPT_CACHE = 256 * MiB
"""What llama.cpp may keep of prompts that are in no slot any more."""
_BATCH = 512
_INTERPRETER = 200 * MiB
_MLFLOW = 250 * MiB


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
    found = detect.detect(files)
    if engine == "llamacpp" or found.format == "gguf":
        models = detect.gguf_files(files)
        if not models:
            raise Invalid("The engine llamacpp serves GGUF files, and this version has none.", param="engine")
        if engine == "pyfunc":
            raise Invalid(
                "The engine pyfunc serves models in MLflow's format, and this version is GGUF. Leave the engine to auto.", param="engine"
            )
        return _llamacpp(models, files, read, options, settings)
    if found.format == "mlflow":
        return _pyfunc(found.files[0], files, read, options)
    raise Invalid(f"No engine can serve these files: {_lacking(found, files)}", param="source")


def _lacking(found: detect.Found, files: Mapping[str, File]) -> str:
    if found.format in ("safetensors", "torch"):
        return (
            f"{found.files[0]} is in the format {found.format}, which no engine here reads. Convert it to GGUF "
            "(llama.cpp's convert_hf_to_gguf.py), or log it with mlflow."
        )
    if found.format == "onnx":
        return f"{found.files[0]} is ONNX, which no engine here reads. Log it with mlflow.onnx."
    some = ", ".join(sorted(files)[:5]) or "none"
    return f"there is no model among them ({some}). A GGUF file or a model in MLflow's format (with its MLmodel file) is needed."


def _pyfunc(path: str, files: Mapping[str, File], read: Callable[[str, int, int], bytes], options: Mapping[str, Any]) -> Plan:
    _known(options, {"method", "batch", "environment"})
    if not isinstance(options.get("method", ""), str):
        raise Invalid("The option method is the name of a method, such as predict_proba.", param="options.method")
    if not isinstance(options.get("batch", False), bool):
        raise Invalid("The option batch is true or false.", param="options.batch")
    if options.get("environment", "auto") not in ("auto", "inherit"):
        raise Invalid("The option environment is auto or inherit.", param="options.environment")
    file = files[path]
    about = mlmodel.parse(read(file.sha256, 0, min(file.size, mlmodel.MOST_BYTES)), path)
    direct = about.loader == "mlflow.sklearn"
    size = sum(one.size for one in files.values())
    how = "loaded directly" if direct else "loaded by mlflow"
    return Plan(
        engine="pyfunc",
        tasks=("infer",),
        runs_code=True,
        memory_bytes=_INTERPRETER + (0 if direct else _MLFLOW) + 3 * size,
        slots=64,
        why=f"{path} describes a model in MLflow's format: {about.flavor}, {how}.",
    )


def _llamacpp(
    models: list[str], files: Mapping[str, File], read: Callable[[str, int, int], bytes], options: Mapping[str, Any], settings: Settings
) -> Plan:
    _known(options, {"file", "parallel", "context_tokens", "threads", "pooling"})
    path = str(options.get("file") or models[0])
    if path not in models:
        raise Invalid(f"There is no GGUF file {path!r} in this version; there are: {', '.join(models)}.", param="options.file")
    parts = detect.gguf_parts(path)
    if missing := [part for part in parts if part not in files]:
        raise Invalid(f"The model is split into {len(parts)} files, and {missing[0]} is missing. Import all of them.", param="source")
    heads = [_head(part, files[part], read) for part in parts]
    head = heads[0]
    if head.kind != "model":
        raise Invalid(
            f"{path} is no model but a part to go with one ({head.kind}). Choose another file: option file.", param="options.file"
        )
    if head.pooling == "rank":
        raise Invalid(f"{path} is a model that ranks texts, which no protocol here asks for.", param="options.file")
    pooling = options.get("pooling", "")
    if pooling and pooling not in gguf.POOLINGS:
        raise Invalid(f"The option pooling is one of {', '.join(gguf.POOLINGS)}.", param="options.pooling")
    slots = whole(options, "parallel", settings.parallel)
    if "threads" in options:
        whole(options, "threads", 1)
    wanted = whole(options, "context_tokens", settings.context_tokens)
    context = min(wanted, head.context_length or wanted)
    tasks = ("embeddings",) if head.pooling or pooling else ("chat", "completion")
    which = f", the first of {len(models)} (option file chooses another)" if len(models) > 1 and "file" not in options else ""
    parameters = sum(one.parameters for one in heads)
    weights = sum(files[part].size for part in parts)
    cache = slots * context * head.kv_bytes_per_token
    # What llama.cpp works in: mainly the scores of a batch of tokens over the vocabulary, and the prompts it remembers.
    working = 100 * MiB + 4 * _BATCH * head.vocabulary + PROMPT_CACHE
    return Plan(
        engine="llamacpp",
        tasks=tasks,
        runs_code=False,
        memory_bytes=weights + cache + working,
        slots=slots,
        why=f"{path}{which} is GGUF: {head.architecture}, {parameters / 1e6:,.0f} M parameters, {head.quantization or 'mixed'}; "
        f"weights {weights / MiB:,.0f} MiB, cache {cache / MiB:,.0f} MiB for {slots} × {context} tokens.",
    )


def _head(path: str, file: File, read: Callable[[str, int, int], bytes]) -> gguf.Gguf:
    return gguf.read(lambda start, end: read(file.sha256, start, end), file.size, path)


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
