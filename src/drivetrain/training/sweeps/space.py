"""A parameter of a sweep: from its description to values.

To a search each is a plain number, an integer or a place in a list ("latent"); `decode` makes the value of it, and `encode` goes back.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from drivetrain.errors import Invalid

Scale = Literal["linear", "exp", "inverse", "normal", "log_normal", "beta"]
TAIL = 1e-4
"""Normal distributions are drawn between these quantiles, so that no draw is without bounds."""
_KNOWN = frozenset({"value", "values", "probabilities", "min", "max", "distribution", "mu", "sigma", "q", "a", "b", "parameters"})
_SCALES: Mapping[str, Scale] = {
    "uniform": "linear",
    "log_uniform": "exp",
    "log_uniform_values": "exp",
    "inv_log_uniform": "inverse",
    "inv_log_uniform_values": "exp",
    "normal": "normal",
    "log_normal": "log_normal",
    "beta": "beta",
}
DISTRIBUTIONS = ("constant", "categorical", "categorical_w_probabilities", "int_uniform", *_SCALES,
                 "q_uniform", "q_log_uniform", "q_log_uniform_values", "q_normal", "q_log_normal", "q_beta")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parameter:
    """`kind` choice: one of `values`. integer, number: `low` to `high` before `scale` and rounding to multiples of `q`."""

    path: tuple[str, ...]
    kind: Literal["constant", "choice", "integer", "number"]
    values: tuple[Any, ...] = ()
    weights: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    scale: Scale = "linear"
    a: float = 0.0
    b: float = 1.0
    q: float | None = None

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def draw(self, rng: random.Random) -> Any:
        if self.kind == "constant":
            return self.values[0]
        if self.kind == "choice":
            return rng.choices(self.values, self.weights or None)[0]
        if self.kind == "integer":
            return rng.randint(int(self.low), int(self.high))
        if self.scale == "beta":
            return self._rounded(rng.betavariate(self.a, self.b))
        return self.decode(rng.uniform(self.low, self.high))

    def decode(self, latent: float) -> Any:
        if self.kind in ("constant", "choice"):
            return self.values[int(latent)]
        if self.kind == "integer":
            return int(latent)
        if self.scale == "exp":
            latent = math.exp(latent)
        elif self.scale == "inverse":
            latent = math.exp(-latent)
        elif self.scale in ("normal", "log_normal"):
            latent = NormalDist(self.a, self.b).inv_cdf(latent)
            latent = math.exp(latent) if self.scale == "log_normal" else latent
        return self._rounded(latent)

    def encode(self, value: Any) -> float | None:
        """None if this value cannot be of this parameter."""
        if self.kind in ("constant", "choice"):
            # True == 1 in Python, but not in a configuration.
            return next(
                (float(n) for n, one in enumerate(self.values) if one == value and isinstance(one, bool) == isinstance(value, bool)), None
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        latent = float(value)
        if self.scale in ("exp", "inverse", "log_normal"):
            if latent <= 0:
                return None
            latent = -math.log(latent) if self.scale == "inverse" else math.log(latent)
        if self.scale in ("normal", "log_normal"):
            latent = NormalDist(self.a, self.b).cdf(latent)
        return min(max(latent, self.low), self.high)

    def count(self) -> int | None:
        """How many values it has; None if they cannot be counted."""
        if self.kind in ("constant", "choice"):
            return len(self.values)
        if self.kind == "integer":
            return int(self.high) - int(self.low) + 1
        if self.q is None or self.scale not in ("linear", "exp"):
            return None
        first, last = self._multiples(self.q)
        return last - first + 1

    def at(self, number: int) -> Any:
        """Its value of that number, of a parameter that can be counted."""
        if self.kind in ("constant", "choice"):
            return self.values[number]
        if self.kind == "integer":
            return int(self.low) + number
        assert self.q is not None
        return _multiple(self._multiples(self.q)[0] + number, self.q)

    def _rounded(self, value: float) -> Any:
        if self.q is None:
            return value
        number = round(value / self.q)
        if self.scale in ("linear", "exp"):
            first, last = self._multiples(self.q)
            number = min(max(number, first), last)
        return _multiple(number, self.q)

    def _multiples(self, q: float) -> tuple[int, int]:
        """The multiples of `q` within the bounds, with some grace for numbers that have no exact form."""
        low, high = (math.exp(self.low), math.exp(self.high)) if self.scale == "exp" else (self.low, self.high)
        return math.ceil(low / q - 1e-9), math.floor(high / q + 1e-9)


def _multiple(number: int, q: float) -> Any:
    return int(number * q) if q.is_integer() else float(f"{number * q:.12g}")


def parameters(given: object, path: tuple[str, ...] = ()) -> list[Parameter]:
    """Parameters as a configuration describes them; nested ones with their path. Raises `Invalid`."""
    if not isinstance(given, dict) or not given:
        where = f" of {'.'.join(path)!r}" if path else ""
        raise Invalid(f"The parameters{where} must be a mapping of names to descriptions, as {{lr: {{min: 0.001, max: 0.1}}}}.")
    found: list[Parameter] = []
    for key, one in given.items():
        here = (*path, str(key))
        if not isinstance(one, dict):
            raise Invalid(
                f"The parameter {'.'.join(here)!r} is described by {one!r}: write {{value: …}}, {{values: […]}} or {{min: …, max: …}}.",
                param=".".join(here),
            )
        if isinstance(one.get("parameters"), dict) and not one.keys() & {"value", "values", "min", "max", "distribution"}:
            found += parameters(one["parameters"], here)
        else:
            found.append(_parameter(here, one))
    return found


def _parameter(path: tuple[str, ...], one: Mapping[str, Any]) -> Parameter:
    name = ".".join(path)
    if unknown := sorted(one.keys() - _KNOWN):
        raise Invalid(f"The parameter {name!r} has an unknown key {unknown[0]!r}; known are: {', '.join(sorted(_KNOWN))}.", param=name)
    kind = str(one.get("distribution") or _default(one, name))
    if kind not in DISTRIBUTIONS:
        raise Invalid(f"The parameter {name!r} has the unknown distribution {kind!r}; known are: {', '.join(DISTRIBUTIONS)}.", param=name)
    if kind == "constant":
        if "value" not in one:
            raise Invalid(f"The constant parameter {name!r} needs a value.", param=name)
        return Parameter(path, "constant", values=(one["value"],))
    if kind.startswith("categorical"):
        return _choice(path, one)
    if kind == "int_uniform":
        low, high = _bounds(one, name)
        if not (low.is_integer() and high.is_integer()):
            raise Invalid(f"The integers of {name!r} need integer bounds, not {low:g} and {high:g}.", param=name)
        return Parameter(path, "integer", low=low, high=high)
    q = _number(one, "q", name, 1.0) if kind.startswith("q_") else None
    if q is not None and q <= 0:
        raise Invalid(f"q of {name!r} is what values are multiples of, and must be greater than 0, not {q:g}.", param=name)
    plain = kind.removeprefix("q_")
    scale = _SCALES[plain]
    if scale in ("normal", "log_normal"):
        mu, sigma = _number(one, "mu", name, 0.0), _number(one, "sigma", name, 1.0)
        if sigma <= 0:
            raise Invalid(f"sigma of {name!r} must be greater than 0, not {sigma:g}.", param=name)
        return Parameter(path, "number", low=TAIL, high=1 - TAIL, scale=scale, a=mu, b=sigma, q=q)
    if scale == "beta":
        a, b = _number(one, "a", name, 5.0), _number(one, "b", name, 5.0)
        if min(a, b) <= 0:
            raise Invalid(f"a and b of {name!r} must be greater than 0.", param=name)
        return Parameter(path, "number", low=0.0, high=1.0, scale=scale, a=a, b=b, q=q)
    low, high = _bounds(one, name)
    if plain.endswith("log_uniform_values"):
        if low <= 0:
            raise Invalid(f"The bounds of {name!r} are values on a logarithmic scale, and must be greater than 0.", param=name)
        low, high = math.log(low), math.log(high)
    elif plain.endswith("log_uniform") and max(abs(low), abs(high)) > 700:
        raise Invalid(
            f"The bounds of {name!r} are exponents of e under {kind}, and {high:g} is beyond every number: write {kind}_values to give "
            "the bounds themselves.",
            param=name,
        )
    found = Parameter(path, "number", low=low, high=high, scale=scale, q=q)
    if q is not None and found.count() == 0:
        raise Invalid(f"No multiple of q={q:g} lies between the bounds of {name!r}.", param=name)
    return found


def _default(one: Mapping[str, Any], name: str) -> str:
    if "values" in one:
        return "categorical"
    if "value" in one:
        return "constant"
    if "min" in one and "max" in one:
        return "int_uniform" if all(isinstance(one[key], int) for key in ("min", "max")) else "uniform"
    if "mu" in one and "sigma" in one:
        return "normal"
    raise Invalid(f"The parameter {name!r} needs a value, values, min and max, or mu and sigma.", param=name)


def _choice(path: tuple[str, ...], one: Mapping[str, Any]) -> Parameter:
    name = ".".join(path)
    values = one.get("values")
    if not isinstance(values, list) or not values:
        raise Invalid(f"values of {name!r} must be a list with at least one value.", param=name)
    weights = one.get("probabilities")
    if weights is None:
        return Parameter(path, "choice", values=tuple(values))
    good = isinstance(weights, list) and len(weights) == len(values) and all(isinstance(w, (int, float)) and w >= 0 for w in weights)
    if not good or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        raise Invalid(f"probabilities of {name!r} must be {len(values)} numbers, one for each value, that add up to 1.", param=name)
    return Parameter(path, "choice", values=tuple(values), weights=tuple(float(w) for w in weights))


def _bounds(one: Mapping[str, Any], name: str) -> tuple[float, float]:
    if "min" not in one or "max" not in one:
        raise Invalid(f"The parameter {name!r} needs min and max.", param=name)
    low, high = _number(one, "min", name, 0.0), _number(one, "max", name, 0.0)
    if low > high:
        raise Invalid(f"min of {name!r} is {low:g}, which is greater than its max, {high:g}.", param=name)
    return low, high


def _number(one: Mapping[str, Any], key: str, name: str, default: float) -> float:
    given = one.get(key, default)
    try:
        # YAML takes 1e-4 for a text.
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise Invalid(f"{key} of {name!r} must be a number, not {given!r}.", param=name)
    return number


def nested(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Values by their paths, as the run's configuration has them."""
    found: dict[str, Any] = {}
    for path, value in values.items():
        at = found
        for key in path[:-1]:
            at = at.setdefault(key, {})
        at[path[-1]] = value
    return found


def leaf(args: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What stands at the path; None if nothing does."""
    at: Any = args
    for key in path:
        at = at.get(key) if isinstance(at, Mapping) else None
    return at
