"""The reference page names every endpoint of tracking, logged models, registry, evaluation and traces, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from drivetrain.dialects.mlflow import evaluation, logged, registry, traces, tracking

PAGE = Path(__file__).parents[2] / "docs/reference/mlflow.md"
SECTIONS = {
    "Experiments and runs": tracking.ROUTES,
    "Logged models": logged.ROUTES,
    "Registry": registry.ROUTES,
    "Evaluation": evaluation.ROUTES,
    "Traces": traces.ROUTES,
}


def test_every_endpoint_is_documented() -> None:
    sections = {part.partition("\n")[0].strip(): part for part in re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)}
    for name, routes in SECTIONS.items():
        rows = re.findall(r"^\| ([A-Z, ]+) \| `([^`]+)` \|", sections[name], flags=re.MULTILINE)
        told = {(method, path) for methods, path in rows for method in methods.split(", ")}
        assert told == {(route.method, route.path) for route in routes}, name
