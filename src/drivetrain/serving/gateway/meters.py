"""What this web process has served, by deployment and variant: counts and durations for /metrics.

The numbers of all web processes of a server are added up as those of `drivetrain.wire.meter` are. There are never more than `MOST`
series: when there would be, those of variants that are served no more go, and failing that, what is new is counted as `other`.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from drivetrain.serving.routes import DeploymentRoute
from drivetrain.store.events.model import Event
from drivetrain.wire.meter import EDGES, Line

MOST = 200
OTHER = "other"
PREFIX = "series"


class Series(Struct):
    """One variant's requests. `outcomes`: how often `ok` or each kind of error; `shadows`: the same of repeated requests, which are in
    nothing else. The durations are of successes, in seconds; `queue` is the time that requests waited for a replica, if they had to."""

    workspace_id: str
    workspace: str
    deployment: str
    variant: str
    outcomes: dict[str, int] = {}
    shadows: dict[str, int] = {}
    latency: Line = msgspec.field(default_factory=Line)
    ttft: Line = msgspec.field(default_factory=Line)
    queue: Line = msgspec.field(default_factory=Line)
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    def add(self, other: Series) -> None:
        for mine, theirs in ((self.outcomes, other.outcomes), (self.shadows, other.shadows)):
            for outcome, count in theirs.items():
                mine[outcome] = mine.get(outcome, 0) + count
        self.latency.add(other.latency)
        self.ttft.add(other.ttft)
        self.queue.add(other.queue)
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.cost += other.cost


class Now(Struct, frozen=True):
    """How one variant stands at this moment: requests that its replicas work on, and that wait for one."""

    workspace_id: str
    workspace: str
    deployment: str
    variant: str
    inflight: int
    waiting: int


class Shared(Struct):
    """What a process tells the others. Gauges of a process that has ended count no more."""

    process: int
    series: dict[str, Series]
    now: list[Now] = []


class Meters:
    """Used from the event loop alone, but for `total`, which only reads."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}
        self._changed = False
        self._shared: list[Now] = []

    def count(self, event: Event, deployment: DeploymentRoute) -> None:
        """One event that has just been recorded."""
        series = self._series.get((event.deployment, event.variant)) or self._new(event, deployment)
        self._changed = True
        outcome = event.error or "ok"
        if event.shadow:
            series.shadows[outcome] = series.shadows.get(outcome, 0) + 1
            return
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        if not event.error:
            _observe(series.latency, event.latency_ms / 1000)
            if event.ttft_ms is not None:
                _observe(series.ttft, event.ttft_ms / 1000)
        if event.queue_ms:
            _observe(series.queue, event.queue_ms / 1000)
        series.tokens_in += event.tokens_in
        series.tokens_out += event.tokens_out
        series.cost += event.cost

    def trim(self, variants: Iterable[str]) -> None:
        """Let go of series of variants that are not among these, if there are too many."""
        if len(self._series) > MOST * 3 // 4:
            live = {*variants, "", OTHER}
            self._series = {key: series for key, series in self._series.items() if key[1] in live}

    def share(self, file: Path, now: list[Now]) -> None:
        """Write the numbers down for the other processes, if they have changed."""
        if not self._changed and now == self._shared:
            return
        self._changed, self._shared = False, now
        fresh = file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(Shared(os.getpid(), self._named(), now)))
        fresh.replace(file)

    def total(self, now: Iterable[Now], others: Iterable[Path]) -> tuple[list[Series], list[Now]]:
        """The numbers of all processes."""
        tables = [Shared(os.getpid(), self._named(), list(now))]
        for file in others:
            try:
                tables.append(msgspec.json.decode(file.read_bytes(), type=Shared))
            except (OSError, msgspec.DecodeError):
                continue
        found: dict[str, Series] = {}
        gauges: dict[tuple[str, str, str], Now] = {}
        for table in tables:
            for key, series in table.series.items():
                if (known := found.get(key)) is None:
                    known = found[key] = Series(series.workspace_id, series.workspace, series.deployment, series.variant)
                known.add(series)
            for one in table.now if _alive(table.process) else ():
                place = one.workspace_id, one.deployment, one.variant
                inflight, waiting = one.inflight, one.waiting
                if (before := gauges.get(place)) is not None:
                    inflight, waiting = inflight + before.inflight, waiting + before.waiting
                gauges[place] = Now(one.workspace_id, one.workspace, one.deployment, one.variant, inflight, waiting)
        return list(found.values()), list(gauges.values())

    def _named(self) -> dict[str, Series]:
        return {f"{deployment}/{variant}": series for (deployment, variant), series in list(self._series.items())}

    def _new(self, event: Event, deployment: DeploymentRoute) -> Series:
        key = event.deployment, event.variant
        series = Series(deployment.workspace_id, deployment.workspace, deployment.name, event.variant_name)
        if len(self._series) >= MOST:
            key = OTHER, OTHER
            series = Series("", "", OTHER, OTHER)
        return self._series.setdefault(key, series)


def _observe(line: Line, seconds: float) -> None:
    line.count += 1
    line.seconds += seconds
    line.buckets[bisect_left(EDGES, seconds)] += 1


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def exposition(found: Iterable[Series], now: Iterable[Now], shares: Iterable[tuple[Now, float, int]]) -> list[str]:
    """Prometheus' text format (version 0.0.4). `shares`: of each variant its share of the traffic (0 to 1) and its ready replicas."""
    series = sorted(found, key=lambda one: (one.workspace, one.deployment, one.variant))
    lines: list[str] = []
    lines += _head("drivetrain_requests_total", "counter", "Requests by outcome: ok, or the kind of error.")
    for one in series:
        lines += [f"drivetrain_requests_total{_labels(one, outcome=name)} {count}" for name, count in sorted(one.outcomes.items())]
    lines += _head("drivetrain_shadow_requests_total", "counter", "Requests that were repeated on a variant to compare it, for nobody.")
    for one in series:
        lines += [f"drivetrain_shadow_requests_total{_labels(one, outcome=name)} {count}" for name, count in sorted(one.shadows.items())]
    for name, what, words in (
        ("drivetrain_request_seconds", "latency", "Time from a request to the end of its answer, of successes."),
        ("drivetrain_ttft_seconds", "ttft", "Time from a request to the first byte of its stream, of successes."),
        ("drivetrain_queue_seconds", "queue", "Time that requests waited for a replica, if they had to."),
    ):
        lines += _head(name, "histogram", words)
        for one in series:
            lines += _histogram(name, one, getattr(one, what))
    lines += _head("drivetrain_tokens_total", "counter", "Tokens read (in) and written (out).")
    for one in series:
        lines.append(f"drivetrain_tokens_total{_labels(one, direction='in')} {one.tokens_in}")
        lines.append(f"drivetrain_tokens_total{_labels(one, direction='out')} {one.tokens_out}")
    lines += _head("drivetrain_cost_total", "counter", "Cost by the variants' prices, in their currency.")
    lines += [f"drivetrain_cost_total{_labels(one)} {one.cost:.9g}" for one in series]
    gauges = sorted(now, key=lambda one: (one.workspace, one.deployment, one.variant))
    lines += _head("drivetrain_inflight", "gauge", "Requests that replicas work on now.")
    lines += [f"drivetrain_inflight{_labels(one)} {one.inflight}" for one in gauges]
    lines += _head("drivetrain_waiting", "gauge", "Requests that wait for a replica now.")
    lines += [f"drivetrain_waiting{_labels(one)} {one.waiting}" for one in gauges]
    known = sorted(shares, key=lambda each: (each[0].workspace, each[0].deployment, each[0].variant))[:MOST]
    lines += _head("drivetrain_variant_share", "gauge", "Share of its deployment's traffic that a variant gets, 0 to 1.")
    lines += [f"drivetrain_variant_share{_labels(one)} {share:g}" for one, share, _ in known]
    lines += _head("drivetrain_replicas", "gauge", "Ready replicas on this server.")
    lines += [f"drivetrain_replicas{_labels(one)} {replicas}" for one, _, replicas in known]
    return lines


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]


def _histogram(name: str, of: Series, line: Line) -> list[str]:
    if not line.count:
        return []
    lines, below = [], 0
    for edge, count in zip((*EDGES, "+Inf"), line.buckets, strict=True):
        below += count
        lines.append(f"{name}_bucket{_labels(of, le=str(edge))} {below}")
    # The number of all buckets, not `count`: another thread may be reading in the middle of an observation.
    return [*lines, f"{name}_sum{_labels(of)} {line.seconds:.6f}", f"{name}_count{_labels(of)} {below}"]


def _labels(of: Series | Now, **more: str) -> str:
    values: Mapping[str, str] = {"workspace": of.workspace, "deployment": of.deployment, "variant": of.variant, **more}
    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in values.items()) + "}"


def escaped(value: str) -> str:
    """A label's value as the format wants it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
