"""What is counted of events, by minute: the numbers that pages draw and that rollouts decide on.

A counter is (deployment, variant, minute, measure) → value. Measures: `requests`, `errors.<kind>`, `cancelled`, `tokens_in`,
`tokens_out`, `cost` (millionths), the histogram `queue.<i>` of requests that waited for a replica, and of successful requests the
histograms `latency.<i>`, `ttft.<i>`, `cost_each.<i>` (millionths) and `tokens_each.<i>` (of the answer). Cancelled requests are no errors.
Repeated requests, whose answers nobody got, are no traffic: `shadow.requests`, `shadow.errors`, `shadow.latency.<i>`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cache

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects import postgresql, sqlite

from drivetrain.errors import Invalid
from drivetrain.store.events.model import Point
from drivetrain.store.sql import Database, metadata

MINUTE_MS = 60_000
PER_OCTAVE = 4
FIRST, LAST = -8, 88
MICRO = 1_000_000
_MOST_POINTS = 10_000
_EDGES = tuple(2.0 ** (i / PER_OCTAVE) for i in range(FIRST, LAST))
"""Of all buckets but the last, which has no end."""
_MINUTE_NS = MINUTE_MS * 1_000_000

event_counters = sa.Table(
    "event_counters",
    metadata,
    sa.Column("deployment", sa.String(32), primary_key=True),
    sa.Column("minute_ms", sa.BigInteger, primary_key=True),
    sa.Column("variant", sa.String(32), primary_key=True),
    sa.Column("measure", sa.String(40), primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Index("ix_event_counters_minute_ms", "minute_ms"),
)

Key = tuple[str, str, int, str]
"""deployment, variant, minute_ms, measure"""


class Counted(Struct, gc=False, kw_only=True):
    """The part of an event (or of an exposure) that is counted, decoded from the same JSON. Its fields are in the order of theirs: so they
    are found fastest."""

    exposure: str = ""
    id: str = ""
    t: int
    deployment: str = ""
    variant: str = ""
    unit: str = ""
    error: str = ""
    queue_ms: float = 0.0
    ttft_ms: float | None = None
    latency_ms: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    rollout: str = ""
    phase: int = 0
    exposed: bool = False
    assigned: str = ""
    shadow: str = ""
    wrong: str = ""
    form: str = ""
    said: float | str | None = None
    memory_mb: float = 0.0


def edge(i: int) -> float:
    """Upper edge of histogram bucket `i` in milliseconds: 2^(i/4), so a bucket is 19 % wide; from 0.25 ms to 70 minutes."""
    return float(2.0 ** (i / PER_OCTAVE))


def bucket(ms: float) -> int:
    """The bucket of a duration: the smallest `i` with ms ≤ edge(i), within the first and the last."""
    return FIRST + bisect_left(_EDGES, ms)


def quantile(histogram: Mapping[int, int], q: float) -> float | None:
    """The `q` quantile of what the buckets hold, geometrically interpolated within its bucket; None if they are empty."""
    total = sum(histogram.values())
    if total == 0:
        return None
    rank = q * total
    below = 0
    for i in sorted(histogram):
        if histogram[i] and below + histogram[i] >= rank:
            share = (rank - below) / histogram[i]
            return float(2.0 ** ((i - 1 + share) / PER_OCTAVE))
        below += histogram[i]
    return edge(max(histogram))


class _Minute:
    """One variant's minute while it is added up. Every event of a server passes here, so this does little for each."""

    __slots__ = (
        "cancelled", "cost", "cost_each", "errors", "latency", "queue", "requests", "shadow_errors", "shadow_latency", "shadows",
        "tokens_each", "tokens_in", "tokens_out", "ttft",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = self.cancelled = self.tokens_in = self.tokens_out = self.cost = self.shadows = self.shadow_errors = 0
        self.errors: defaultdict[str, int] = defaultdict(int)
        self.latency, self.ttft, self.queue = _buckets(), _buckets(), _buckets()
        self.cost_each, self.tokens_each, self.shadow_latency = _buckets(), _buckets(), _buckets()

    def add(self, event: Counted) -> None:
        self.requests += 1
        self.tokens_in += event.tokens_in
        if event.cost:
            self.cost += round(event.cost * MICRO)
        if event.queue_ms:
            self.queue[bucket(event.queue_ms)] += 1
        tokens = event.tokens_out
        self.tokens_out += tokens
        if event.error:
            if event.error == "cancelled":
                self.cancelled += 1
            else:
                self.errors[event.error[:32]] += 1
            return
        self.latency[FIRST + bisect_left(_EDGES, event.latency_ms)] += 1
        if event.ttft_ms is not None:
            self.ttft[bucket(event.ttft_ms)] += 1
        if event.cost:
            self.cost_each[bucket(event.cost * MICRO)] += 1
        if tokens:
            self.tokens_each[FIRST + bisect_left(_EDGES, tokens)] += 1

    def add_shadow(self, event: Counted) -> None:
        self.shadows += 1
        if not event.error:
            self.shadow_latency[bucket(event.latency_ms)] += 1
        elif event.error != "cancelled":
            self.shadow_errors += 1

    def measures(self) -> Iterable[tuple[str, int]]:
        for name in ("requests", "cancelled", "tokens_in", "tokens_out", "cost"):
            yield name, getattr(self, name)
        yield "shadow.requests", self.shadows
        yield "shadow.errors", self.shadow_errors
        for kind, value in self.errors.items():
            yield f"errors.{kind}", value
        for name in ("latency", "ttft", "queue", "cost_each", "tokens_each", "shadow_latency"):
            for i, value in getattr(self, name).items():
                yield f"{name.replace('shadow_', 'shadow.')}.{i}", value


def _buckets() -> defaultdict[int, int]:
    return defaultdict(int)


def count(events: Iterable[Counted]) -> dict[Key, int]:
    """What these events add to the counters."""
    minutes: defaultdict[tuple[str, str, int], _Minute] = defaultdict(_Minute)
    for event in events:
        if event.exposure:
            continue
        minute = minutes[event.deployment, event.variant, event.t // _MINUTE_NS]
        if event.shadow:
            minute.add_shadow(event)
        else:
            minute.add(event)
    return {
        (deployment, variant, number * MINUTE_MS, measure): value
        for (deployment, variant, number), minute in minutes.items()
        for measure, value in minute.measures()
        if value
    }


def add(connection: sa.Connection, added: Mapping[Key, int]) -> None:
    """Add to the counters, within the caller's transaction."""
    if not added:
        return
    # In one order everywhere, so that two servers never wait for each other's rows in a circle.
    rows = [
        {"deployment": deployment, "variant": variant, "minute_ms": minute, "measure": measure, "value": value}
        for (deployment, variant, minute, measure), value in sorted(added.items())
    ]
    connection.execute(_addition(connection.dialect.name), rows)


@cache
def _addition(dialect: str) -> sqlite.Insert | postgresql.Insert:
    # Kept: to build a statement takes longer than to run it.
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(event_counters)
    return statement.on_conflict_do_update(
        index_elements=["deployment", "minute_ms", "variant", "measure"],
        set_={"value": event_counters.c.value + statement.excluded.value},
    )


def series(
    db: Database, deployments: Collection[str], *, since_ms: int, until_ms: int, step_ms: int, variant: str | None = None
) -> list[Point]:
    """The counts of these deployments together, from `since_ms` (rounded down) to `until_ms`, empty steps included.

    A step is at least a minute, and whole minutes.
    """
    step = max(MINUTE_MS, step_ms // MINUTE_MS * MINUTE_MS)
    start = since_ms // step * step
    if not 0 <= start < until_ms or (until_ms - start) // step > _MOST_POINTS:
        raise Invalid(f"A series goes from an earlier to a later time in at most {_MOST_POINTS} steps. Ask for longer steps or less time.")
    table = event_counters
    slot = (table.c.minute_ms - start) - (table.c.minute_ms - start) % step
    query = sa.select(slot.label("slot"), table.c.measure, sa.cast(sa.func.sum(table.c.value), sa.BigInteger).label("value")).where(
        table.c.deployment.in_(list(deployments)), table.c.minute_ms >= start, table.c.minute_ms < until_ms
    )
    if variant is not None:
        query = query.where(table.c.variant == variant)
    slots: defaultdict[int, dict[str, int]] = defaultdict(dict)
    if deployments:
        with db.read() as connection:
            for row in connection.execute(query.group_by(sa.text("slot"), table.c.measure)):
                slots[row.slot][row.measure] = row.value
    return [_point(start + offset, slots.get(offset, {})) for offset in range(0, until_ms - start, step)]


def total(db: Database, deployments: Collection[str], *, since_ms: int, until_ms: int, variant: str | None = None) -> Point:
    """The counts of these deployments together over the whole time, as one point. Whole minutes: that of `since_ms` counts entirely."""
    table = event_counters
    start = since_ms // MINUTE_MS * MINUTE_MS
    query = sa.select(table.c.measure, sa.cast(sa.func.sum(table.c.value), sa.BigInteger).label("value")).where(
        table.c.deployment.in_(list(deployments)), table.c.minute_ms >= start, table.c.minute_ms < until_ms
    )
    if variant is not None:
        query = query.where(table.c.variant == variant)
    if not deployments:
        return _point(start, {})
    with db.read() as connection:
        return _point(start, {row.measure: row.value for row in connection.execute(query.group_by(table.c.measure))})


def by_minute(db: Database, deployment: str, *, since_ms: int, until_ms: int, measures: Collection[str]) -> dict[int, dict[str, int]]:
    """The counts of single minutes: minute → measure → value, of all variants together; minutes without any are left out. `measures`: those
    alone, where one that ends in "." stands for all that begin so."""
    table = event_counters
    wanted = [table.c.measure.startswith(name, autoescape=True) if name.endswith(".") else table.c.measure == name for name in measures]
    total_ = sa.cast(sa.func.sum(table.c.value), sa.BigInteger).label("value")
    query = sa.select(table.c.minute_ms, table.c.measure, total_).where(
        table.c.deployment == deployment,
        table.c.minute_ms >= since_ms // MINUTE_MS * MINUTE_MS,
        table.c.minute_ms < until_ms,
        sa.or_(*wanted),
    )
    found: defaultdict[int, dict[str, int]] = defaultdict(dict)
    with db.read() as connection:
        for row in connection.execute(query.group_by(table.c.minute_ms, table.c.measure)):
            found[row.minute_ms][row.measure] = row.value
    return dict(found)


def histogram(db: Database, deployment: str, variant: str, measure: str, *, since_ms: int, until_ms: int) -> dict[int, int]:
    """A variant's histogram `measure` (latency, ttft, …) over whole minutes: bucket → count."""
    table = event_counters
    query = sa.select(table.c.measure, sa.cast(sa.func.sum(table.c.value), sa.BigInteger).label("value")).where(
        table.c.deployment == deployment,
        table.c.variant == variant,
        table.c.minute_ms >= since_ms // MINUTE_MS * MINUTE_MS,
        table.c.minute_ms < until_ms,
        table.c.measure.startswith(f"{measure}.", autoescape=True),
    )
    with db.read() as connection:
        return _histogram({row.measure: row.value for row in connection.execute(query.group_by(table.c.measure))}, f"{measure}.")


def _point(t_ms: int, values: Mapping[str, int]) -> Point:
    latency, ttft = _histogram(values, "latency."), _histogram(values, "ttft.")
    return Point(
        t_ms=t_ms,
        requests=values.get("requests", 0),
        errors=sum(value for measure, value in values.items() if measure.startswith("errors.")),
        cancelled=values.get("cancelled", 0),
        tokens_in=values.get("tokens_in", 0),
        tokens_out=values.get("tokens_out", 0),
        latency_p50_ms=quantile(latency, 0.5),
        latency_p95_ms=quantile(latency, 0.95),
        latency_p99_ms=quantile(latency, 0.99),
        ttft_p50_ms=quantile(ttft, 0.5),
        ttft_p95_ms=quantile(ttft, 0.95),
        queue_p95_ms=quantile(_histogram(values, "queue."), 0.95),
        cost=values.get("cost", 0) / MICRO,
        kinds={measure.removeprefix("errors."): value for measure, value in sorted(values.items()) if measure.startswith("errors.")},
    )


def _histogram(values: Mapping[str, int], prefix: str) -> dict[int, int]:
    return {int(measure.removeprefix(prefix)): value for measure, value in values.items() if measure.startswith(prefix)}
