"""The kinds of monitors, what can be set of each, and what a monitor finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from drivetrain.errors import Invalid
from drivetrain.monitoring.drift.measures import Categorical, Numeric


class Errors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alarm when surely more than `share` of the requests are errors. While no more are, one false alarm in `false_alarm_days` of minutes
    with requests, on average, or fewer."""

    share: float = 0.05
    false_alarm_days: float = 365.0


class Latency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alarm when surely more than 5 % of the answers take longer than `p95_ms`, or, where that is not set, than `times` the 95th percentile
    of the day before, of at least `least` requests. `false_alarm_days`: see `Errors`."""

    p95_ms: float | None = None
    times: float = 2.0
    least: int = 50
    false_alarm_days: float = 365.0


class Drift(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compare every `rows` events with the reference, not more often than every `seconds`; what has come since makes up to `of` windows.
    Alarm when `persistence` of the last `of` windows have drifted. A feature has drifted at an effect of at least `least_effect`, with
    `false_discoveries` in 1; the effect is measured by `numeric` and `categorical`."""

    rows: int = 200
    most: int = 20_000
    seconds: float = 30.0
    persistence: int = 2
    of: int = 3
    least_effect: float = 0.1
    false_discoveries: float = 0.001
    numeric: Numeric = "wasserstein"
    categorical: Categorical = "jensen_shannon"


class Quality(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alarm when the labelled answers of a version have surely become worse than they usually are, by `drop` or more; or, where
    `least_accuracy` is set, when they are surely below that. What is usual is learned from the first `least` labels on. While nothing has
    changed, one false alarm in `false_alarm_days` at the deployment's own rate of labels, on average, or fewer."""

    least: int = 100
    drop: float = 0.03
    least_accuracy: float | None = None
    false_alarm_days: float = 365.0


_SHARES = frozenset({"share", "drop", "least_accuracy"})
KINDS: dict[str, type[Struct]] = {"errors": Errors, "latency": Latency, "drift": Drift, "quality": Quality}


class Finding(Struct, frozen=True, kw_only=True):
    """What a monitor found. `state`: ok, alarm, or waiting (for data). `words` says it to people."""

    state: str
    words: str
    evidence: dict[str, Any] = {}


def config_of(kind: str, values: Mapping[str, Any]) -> Any:
    """The settings of a monitor of this kind. Raises `Invalid`."""
    if kind not in KINDS:
        raise Invalid(f"There is no kind of monitor {kind!r}; there are: {', '.join(KINDS)}.", param="kind")
    try:
        config = msgspec.convert(dict(values), KINDS[kind])
    except msgspec.ValidationError as error:
        names = ", ".join(field.name for field in msgspec.structs.fields(KINDS[kind]))
        raise Invalid(f"A monitor of {kind} cannot be set so: {error}. It has: {names}.", param="config") from error
    for name, value in msgspec.to_builtins(config).items():
        if isinstance(value, int | float) and value <= 0:
            raise Invalid(f"{name} must be more than nothing.", param="config")
    for name in _SHARES.intersection(msgspec.structs.asdict(config)):
        value = getattr(config, name)
        if value is not None and value >= 1:
            raise Invalid(f"{name} is a share, below 1: 0.05 is 5 %.", param="config")
    return config


def stored_config(kind: str, values: Mapping[str, Any]) -> Any:
    """The settings of a monitor as they are stored. Those that an earlier version had, and this one has not, say nothing any more."""
    known = {field.name for field in msgspec.structs.fields(KINDS[kind])}
    return msgspec.convert({name: value for name, value in values.items() if name in known}, KINDS[kind])
