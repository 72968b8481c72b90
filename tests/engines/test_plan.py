"""Which engine is chosen, and why."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivetrain.config import Settings
from drivetrain.engines import table
from drivetrain.engines.plan import Plan, plan
from drivetrain.errors import Invalid
from drivetrain.formats.format import Files
from tests.formats.test_gguf import key, small, text

MLMODEL = b"flavors: {sklearn: {}, python_function: {loader_module: mlflow.sklearn}}"
SETTINGS = Settings(home=Path("/nowhere"))


@dataclass
class Entry:
    sha256: str
    size: int


def planned(files: dict[str, bytes], engine: str = "auto", **options: Any) -> Plan:
    entries = {path: Entry(path, len(data)) for path, data in files.items()}
    there = Files(entries, lambda sha256, start, end: files[sha256][start:end])
    return plan(there, engine=engine, options=options, settings=SETTINGS)


def test_gguf_goes_to_llamacpp() -> None:
    found = planned({"m.gguf": small(), "README.md": b"x"})
    assert (found.engine, found.tasks, found.runs_code, found.slots) == ("llamacpp", ("chat", "completion"), False, SETTINGS.parallel)
    assert "m.gguf" in found.why


def test_the_cache_is_part_of_the_memory() -> None:
    one = planned({"m.gguf": small()}, parallel=1, context_tokens=1024)
    four = planned({"m.gguf": small()}, parallel=4, context_tokens=1024)
    assert four.memory_bytes - one.memory_bytes == 3 * 1024 * 2 * 2 * 32 * 2


def test_mlflow_models_run_code() -> None:
    found = planned({"model/MLmodel": MLMODEL, "model/model.pkl": b"x"})
    assert (found.engine, found.tasks, found.runs_code) == ("pyfunc", ("infer",), True)
    assert "sklearn" in found.why


def test_a_model_is_told_from_what_accompanies_it() -> None:
    adapter = small(key("general.type", 8, text("adapter")))
    found = planned({"a/mmproj-f16.gguf": small(), "z.gguf": small(), "README.md": b"x"})
    assert found.why.startswith("z.gguf")
    with pytest.raises(Invalid, match="adapter"):
        planned({"z.gguf": adapter})


def test_a_split_model_needs_all_its_parts() -> None:
    parts = {f"m-0000{i}-of-00003.gguf": small() for i in (1, 2, 3)}
    assert planned(parts).memory_bytes - planned({"m.gguf": small()}).memory_bytes == 2 * len(small())
    del parts["m-00002-of-00003.gguf"]
    with pytest.raises(Invalid, match="m-00002-of-00003"):
        planned(parts)


def test_pooling_makes_embeddings() -> None:
    assert planned({"m.gguf": small()}, pooling="mean").tasks == ("embeddings",)
    assert planned({"m.gguf": small(key("llama.pooling_type", 4, struct.pack("<I", 1)))}).tasks == ("embeddings",)


@pytest.mark.parametrize(
    ("files", "engine", "options", "says"),
    [
        ({"a.txt": b"x"}, "auto", {}, "No engine can serve"),
        ({}, "auto", {}, "none"),
        ({"m.gguf": small()}, "magic", {}, "no engine 'magic'"),
        ({"m.gguf": small()}, "auto", {"paralel": 2}, "no option 'paralel'"),
        ({"m.gguf": small()}, "auto", {"parallel": 0}, "whole number"),
        ({"m.gguf": small()}, "auto", {"parallel": "2"}, "whole number"),
        ({"m.gguf": small()}, "auto", {"file": "../../etc/passwd"}, "no GGUF file"),
        ({"m.gguf": small()[:200]}, "auto", {}, "truncated"),
        ({"m.gguf": small()}, "auto", {"pooling": "max"}, "mean, cls, last"),
        ({"m.gguf": small()}, "pyfunc", {}, "MLflow's format"),
        ({"MLmodel": MLMODEL}, "llamacpp", {}, "GGUF"),
        ({"MLmodel": MLMODEL}, "auto", {"parallel": 2}, "no option 'parallel'"),
        ({"MLmodel": MLMODEL}, "auto", {"environment": "conda"}, "auto or inherit"),
        ({"MLmodel": b""}, "auto", {}, "names no flavours"),
        ({"MLmodel": b"a: [1"}, "auto", {}, "not YAML"),
        ({"MLmodel": b"flavors: {keras: {}}"}, "auto", {}, "python_function"),
        ({"MLmodel": MLMODEL + b"\nsignature: {inputs: '[{'}"}, "auto", {}, "signature cannot be read"),
        ({"MLmodel": b"flavors: {python_function: {code: ../../etc}}"}, "auto", {}, "outside its folder"),
        ({"model.safetensors": b"x", "config.json": b"{}"}, "auto", {}, "Convert it to GGUF"),
        ({"m.onnx": b"x"}, "auto", {}, "mlflow.onnx"),
    ],
)
def test_what_cannot_be_served_is_refused_with_advice(files: dict[str, bytes], engine: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        planned(files, engine, **options)


def test_waiting_is_part_of_the_environment() -> None:
    assert table.find("llamacpp").environ(Settings(home=Path(), wait_policy="active")) == {"OMP_WAIT_POLICY": "active"}
    assert table.find("pyfunc").environ(Settings(home=Path(), threads=3))["OMP_NUM_THREADS"] == "3"
