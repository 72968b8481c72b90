"""A sweep's configuration, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from drivetrain.errors import Invalid
from drivetrain.training.sweeps import early_stop
from drivetrain.training.sweeps.early_stop import Hyperband
from drivetrain.training.sweeps.grid import count
from drivetrain.training.sweeps.space import Parameter, parameters

METHODS = ("grid", "random", "bayes")
MOST_BYTES = 1 << 20
_KNOWN = frozenset({
    "program", "command", "method", "metric", "parameters", "early_terminate", "run_cap", "name", "description", "project", "entity",
    "controller", "imageuri", "job", "scheduler", "launch",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """`expected`: how many runs it makes in all; None if it has no end of its own. `target`: the metric that is good enough."""

    method: str
    parameters: tuple[Parameter, ...]
    metric: str | None
    maximize: bool
    target: float | None
    early: Hyperband | None
    expected: int | None
    program: str | None
    title: str
    description: str
    warnings: tuple[str, ...]


def parse(text: str) -> Plan:
    """Raises `Invalid`, with what to write instead."""
    given = _load(text)
    method = given.get("method")
    if method not in METHODS:
        raise Invalid(f"A sweep's method is one of {', '.join(METHODS)}, not {method!r}.", param="method")
    if "parameters" not in given:
        raise Invalid("The sweep has no parameters: name what is to be searched, as parameters: {lr: {min: 0.001, max: 0.1}}.")
    found = parameters(given["parameters"])
    twice = {one.name for one in found if sum(one.name == other.name for other in found) > 1}
    if twice:
        raise Invalid(f"Two parameters are named {min(twice)!r}, one of them nested: rename one.", param=min(twice))
    metric, maximize, target = _metric(given.get("metric"))
    cap = given.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise Invalid(f"run_cap is how many runs the sweep has at most, and must be a whole number from 1, not {cap!r}.", param="run_cap")
    expected = cap
    if method == "grid":
        size = count(found)
        expected = size if cap is None else min(cap, size)
    elif method == "bayes":
        if metric is None:
            raise Invalid("Bayesian search needs the metric that it is to improve: metric: {name: loss, goal: minimize}.", param="metric")
        if beta := next((one.name for one in found if one.scale == "beta"), None):
            raise Invalid(
                f"Bayesian search knows no beta distribution, which {beta!r} has: use normal or uniform, or random search.", param=beta
            )
    early = None
    if given.get("early_terminate") is not None:
        if metric is None:
            raise Invalid("early_terminate judges runs by the metric: name it, as metric: {name: loss, goal: minimize}.", param="metric")
        early = early_stop.parse(given["early_terminate"])
    program = given.get("program")
    return Plan(
        method=method,
        parameters=tuple(found),
        metric=metric,
        maximize=maximize,
        target=target,
        early=early,
        expected=expected,
        program=None if program is None else str(program),
        title=str(given.get("name") or ""),
        description=str(given.get("description") or ""),
        warnings=tuple(f"The sweep's configuration has a key {key!r} that means nothing here." for key in sorted(given.keys() - _KNOWN)),
    )


def _load(text: str) -> dict[str, Any]:
    if len(text) > MOST_BYTES:
        raise Invalid(f"The sweep's configuration has {len(text)} characters; {MOST_BYTES} are the most.", param="config")
    try:
        given = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Invalid(f"The sweep's configuration is no YAML: {error}", param="config") from error
    if not isinstance(given, dict):
        raise Invalid("The sweep's configuration must be a mapping with method and parameters.", param="config")
    return {str(key): value for key, value in given.items()}


def _metric(given: Any) -> tuple[str | None, bool, float | None]:
    if given is None:
        return None, False, None
    if not isinstance(given, dict) or not isinstance(given.get("name"), str) or not given["name"]:
        raise Invalid("A sweep's metric is a mapping: metric: {name: loss, goal: minimize}.", param="metric")
    goal = given.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise Invalid(f"The goal of a metric is minimize or maximize, not {goal!r}.", param="metric")
    target = given.get("target")
    if target is not None and (isinstance(target, bool) or not isinstance(target, (int, float))):
        raise Invalid(f"The target of a metric must be a number, not {target!r}.", param="metric")
    return given["name"], goal == "maximize", None if target is None else float(target)
