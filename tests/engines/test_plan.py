"""Which engine is chosen, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivetrain.config import Settings
from drivetrain.engines.plan import Plan, environment, plan
from drivetrain.errors import Invalid
from tests.formats.test_gguf import small

SETTINGS = Settings(home=Path("/nowhere"))


@dataclass
class Entry:
    sha256: str
    size: int


def planned(files: dict[str, bytes], engine: str = "auto", **options: Any) -> Plan:
    entries = {path: Entry(path, len(data)) for path, data in files.items()}
    return plan(entries, lambda sha256, start, end: files[sha256][start:end], engine=engine, options=options, settings=SETTINGS)


def test_gguf_goes_to_llamacpp() -> None:
    found = planned({"m.gguf": small(), "README.md": b"x"})
    assert (found.engine, found.tasks, found.runs_code, found.slots) == ("llamacpp", ("chat", "completion"), False, SETTINGS.parallel)
    assert "m.gguf" in found.why


def test_the_cache_is_part_of_the_memory() -> None:
    one = planned({"m.gguf": small()}, parallel=1, context_tokens=1024)
    four = planned({"m.gguf": small()}, parallel=4, context_tokens=1024)
    assert four.memory_bytes - one.memory_bytes == 3 * 1024 * 2 * 2 * 32 * 2


def test_mlflow_models_run_code() -> None:
    found = planned({"model/MLmodel": b"flavors: {}", "model/model.pkl": b"x"})
    assert (found.engine, found.tasks, found.runs_code) == ("pyfunc", ("infer",), True)


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
        ({"MLmodel": b""}, "llamacpp", {}, "GGUF"),
    ],
)
def test_what_cannot_be_served_is_refused_with_advice(files: dict[str, bytes], engine: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        planned(files, engine, **options)


def test_waiting_is_part_of_the_environment() -> None:
    assert environment("llamacpp", Settings(home=Path(), wait_policy="active")) == {"OMP_WAIT_POLICY": "active"}
    assert environment("pyfunc", Settings(home=Path(), threads=3))["OMP_NUM_THREADS"] == "3"
