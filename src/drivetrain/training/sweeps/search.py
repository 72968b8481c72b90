"""What to try next, and what has mattered. Models of results are made in a process of their own."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Mapping, Sequence
from threading import BoundedSemaphore
from typing import Any

import msgspec

from drivetrain.errors import Invalid, Unavailable
from drivetrain.store.child import ChildFailed, run_child
from drivetrain.training.sweeps import grid
from drivetrain.training.sweeps.model import Answer, Dimension, Importance, Told, Work
from drivetrain.training.sweeps.plan import Plan
from drivetrain.training.sweeps.space import leaf, nested

CHILD_SECONDS = 120.0
MOST_TOLD = 5000
"""A model of more results than that is none the better for them: the newest count."""
Result = tuple[Mapping[str, Any], float | None]
"""The arguments of a run, and its value once there is one."""


def check(plan: Plan) -> None:
    """Raises `Invalid` if this server cannot do this search."""
    if plan.method == "bayes" and importlib.util.find_spec("optuna") is None:
        raise Invalid(
            "Bayesian search is done by Optuna, which is not installed where the server runs: pip install 'drivetrain[sweeps]' there, "
            "or use random search.",
            param="method",
        )


class Search:
    """Chooses arguments. At most two models are made at a time."""

    def __init__(self) -> None:
        self._models = BoundedSemaphore(2)

    def next(self, plan: Plan, sweep: str, position: int, results: Sequence[Result]) -> dict[str, Any]:
        """The arguments of the sweep's run of that number; the same every time, unless they depend on results."""
        if plan.method == "grid":
            return grid.at(plan.parameters, position)
        drawn = random.Random(f"{sweep}:{position}")  # noqa: S311 - a search is no secret
        if plan.method == "random" or sum(value is not None for _, value in results) < 1:
            return nested({one.path: one.draw(drawn) for one in plan.parameters})
        work = _work("suggest", plan, results)
        work.seed = drawn.getrandbits(31)
        answer = self._ask(work)
        if answer.missing:
            raise Unavailable(
                f"Bayesian search cannot go on: {answer.missing} is missing where the server runs. Install it there: "
                "pip install 'drivetrain[sweeps]'."
            )
        return nested({
            one.path: one.values[0] if one.kind == "constant" else one.decode(answer.values[one.name]) for one in plan.parameters
        })  # fmt: skip

    def importance(self, plan: Plan, results: Sequence[Result]) -> list[Importance]:
        """Of each parameter that has more than one value, the one that matters most first."""
        known = [(args, value) for args, value in results if value is not None]
        shares: dict[str, float] = {}
        if len(known) >= 4 and len({value for _, value in known}) > 1 and importlib.util.find_spec("optuna") is not None:
            shares = self._ask(_work("importance", plan, known)).values
        found = []
        for one in plan.parameters:
            if one.kind != "constant":
                pairs = [(leaf(args, one.path), value) for args, value in known]
                found.append(Importance(one.name, shares.get(one.name), correlation(pairs)))
        return sorted(found, key=lambda one: (-(one.importance or 0.0), -abs(one.correlation or 0.0), one.name))

    def _ask(self, work: Work) -> Answer:
        try:
            with self._models:
                done = run_child("drivetrain.training.sweeps.suggest", msgspec.json.encode(work), seconds=CHILD_SECONDS)
            return msgspec.json.decode(done, type=Answer)
        except (ChildFailed, msgspec.DecodeError) as error:
            last = str(error).strip().splitlines() or ["it said nothing"]
            raise Unavailable(f"The search of the sweep failed: {last[-1]}. Try again.") from error


def _work(what: str, plan: Plan, results: Sequence[Result]) -> Work:
    searched = [one for one in plan.parameters if one.kind != "constant"]
    dimensions = [Dimension(name=one.name, kind=one.kind, low=one.low, high=one.high, choices=len(one.values)) for one in searched]
    told: list[Told] = []
    for args, value in results[-MOST_TOLD:]:
        at = {one.name: one.encode(leaf(args, one.path)) for one in searched}
        # A run whose arguments the sweep has no more, since it was changed, teaches nothing.
        whole = {name: latent for name, latent in at.items() if latent is not None}
        if len(whole) == len(searched):
            told.append(Told(at=whole, value=value))
    return Work(what=what, dimensions=dimensions, trials=told, maximize=plan.maximize)


def correlation(pairs: Sequence[tuple[Any, float | None]]) -> float | None:
    """Spearman's: of the ranks. None if there is nothing to rank."""
    numbers = [(float(a), b) for a, b in pairs if isinstance(a, (int, float)) and b is not None]
    if len(numbers) < 3 or len(numbers) < len(pairs):
        return None
    first, second = _ranks([a for a, _ in numbers]), _ranks([b for _, b in numbers])
    middle = (len(numbers) - 1) / 2
    both = sum((a - middle) * (b - middle) for a, b in zip(first, second, strict=True))
    spread = sum((a - middle) ** 2 for a in first) * sum((b - middle) ** 2 for b in second)
    return both / float(spread**0.5) if spread else None


def _ranks(values: Sequence[float]) -> list[float]:
    """Equal values share the middle of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            found[place] = (start + end - 1) / 2
        start = end
    return found
