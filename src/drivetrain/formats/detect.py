"""What kind of model a set of files is, from their names alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Literal

from msgspec import Struct

Format = Literal["mlflow", "gguf", "safetensors", "onnx", "torch", "none"]

_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_BESIDE = ("mmproj", "lora", "adapter", "imatrix")
"""GGUF files with such names accompany a model; they are none."""


class Found(Struct, frozen=True, kw_only=True):
    """`files`: the files of that format that could be the model, the likeliest first. `runs_code`: the format can carry code."""

    format: Format
    files: tuple[str, ...] = ()
    runs_code: bool = False


def detect(paths: Collection[str]) -> Found:
    """The format of these files. A folder in MLflow's format may hold any other inside."""
    described = sorted((path for path in paths if path.rsplit("/", 1)[-1] == "MLmodel"), key=lambda path: (path.count("/"), path))
    if described:
        return Found(format="mlflow", files=tuple(described), runs_code=True)
    if found := gguf_files(paths):
        return Found(format="gguf", files=tuple(found))
    for format_, endings, code in _OTHERS:
        if found := sorted(path for path in paths if path.lower().endswith(endings)):
            return Found(format=format_, files=tuple(found), runs_code=code)
    return Found(format="none")


_OTHERS: tuple[tuple[Format, tuple[str, ...], bool], ...] = (
    ("safetensors", (".safetensors",), False),
    ("onnx", (".onnx",), False),
    ("torch", (".bin", ".pt", ".pth", ".pkl"), True),
)


def gguf_files(paths: Collection[str]) -> list[str]:
    """The GGUF files that may be models: of a split one its first part only; not what merely accompanies a model."""
    found = sorted(path for path in paths if path.lower().endswith(".gguf"))
    models = [path for path in found if not path.rsplit("/", 1)[-1].lower().startswith(_BESIDE)]
    return [path for path in models if (part := _SHARD.fullmatch(path)) is None or int(part[2]) == 1]


def gguf_parts(path: str) -> Sequence[str]:
    """All files that the model whose first file is `path` should have."""
    part = _SHARD.fullmatch(path)
    if part is None:
        return [path]
    return [f"{part[1]}-{number:05}-of-{part[3]}{path[-5:]}" for number in range(1, min(int(part[3]), 10_000) + 1)]
