"""What monitors ask: their kinds, what can be set of each, and the answers that need no more than counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from drivetrain.errors import Invalid
from drivetrain.monitoring.drift.measures import Categorical, Numeric
from drivetrain.store.counters import Point


class Errors(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alarm when more than `share` of the requests of the last `minutes` were errors, of at least `least` requests."""

    share: float = 0.05
    minutes: int = 5
    least: int = 20


class Latency(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alarm when the 95th percentile of the last `minutes` is over `p95_ms`, or, where that is not set, over `times` that of the day
    before; of at least `least` requests."""

    p95_ms: float | None = None
    times: float = 2.0
    minutes: int = 5
    least: int = 50


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
    """Alarm when the last `recent` labelled answers are surely worse than those before, by at least `drop`; or, where `least_accuracy` is
    set, surely below that."""

    recent: int = 200
    least: int = 50
    drop: float = 0.03
    least_accuracy: float | None = None


KINDS: dict[str, type[Struct]] = {"errors": Errors, "latency": Latency, "drift": Drift, "quality": Quality}


class Answer(Struct, frozen=True, kw_only=True):
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
    return config


def errors(config: Errors, now: Point) -> Answer:
    evidence = {"requests": now.requests, "errors": now.errors, "minutes": config.minutes, "line": config.share}
    if now.requests < config.least:
        return Answer(
            state="waiting", words=f"{now.requests} requests in {config.minutes} minutes; {config.least} are needed.", evidence=evidence
        )
    share = now.errors / now.requests
    words = f"{share:.1%} of {now.requests:,} requests in {config.minutes} minutes were errors; the line is {config.share:.1%}."
    return Answer(state="alarm" if share > config.share else "ok", words=words, evidence={**evidence, "share": share})


def latency(config: Latency, now: Point, day: Point) -> Answer:
    found, before = now.latency_p95_ms, day.latency_p95_ms
    if found is None or now.requests < config.least:
        return Answer(state="waiting", words=f"{now.requests} requests in {config.minutes} minutes; {config.least} are needed.")
    if config.p95_ms is None and (before is None or day.requests < config.least):
        return Answer(state="waiting", words="There is no day before to compare with; set p95_ms for a line of your own.")
    line = config.p95_ms if config.p95_ms is not None else config.times * (before or 0.0)
    told = "set" if config.p95_ms is not None else f"{config.times:g} times that of the day before"
    words = f"95 % of the answers took less than {found:,.0f} ms; the line is {line:,.0f} ms ({told})."
    evidence = {"p95_ms": found, "line_ms": line, "requests": now.requests}
    return Answer(state="alarm" if found > line else "ok", words=words, evidence=evidence)
