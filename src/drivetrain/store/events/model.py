"""One request through the gateway, as it is recorded. The event's id is the answer's `x-request-id`."""

from __future__ import annotations

from msgspec import Struct


class Event(Struct, omit_defaults=True, kw_only=True):
    """Times are Unix nanoseconds (`t`) or milliseconds (durations). `error` is "" for a success, else one of the kinds
    invalid, overloaded, unavailable, upstream, timeout, cancelled, internal."""

    id: str
    t: int
    workspace: str = ""  # id
    deployment: str = ""  # id
    deployment_name: str = ""
    variant: str = ""  # id
    variant_name: str = ""
    repo: str = ""  # workspace/slug
    version: int | None = None
    commit: str = ""
    replica: str = ""
    engine: str = ""
    user: str = ""
    key: str = ""
    unit: str = ""
    dialect: str = ""
    task: str = ""
    stream: bool = False
    status: int = 200
    error: str = ""
    message: str = ""
    attempts: int = 1
    queue_ms: float = 0.0
    ttft_ms: float | None = None
    latency_ms: float = 0.0
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cost: float = 0.0  # by the variant's prices, in their currency
    rollout: str = ""  # id of the rollout that the deployment was in
    phase: int = 0  # its phase: which weights were in force
    exposed: bool = False  # that its unit was assigned in the rollout is said here, and nowhere else
    assigned: str = ""  # id of the variant that the unit belongs to, where that had no ready replica and another one answered
    shadow: str = ""  # id of the request that this one repeats, to compare; nobody got its answer
    wrong: str = ""  # what is wrong with the answer: null, nan, infinite, empty, shape, type
    form: str = ""  # its types and inner shapes; "" where it was not looked at
    said: float | str | None = None  # the prediction, in short: see `drivetrain.serving.gateway.outputs`
    memory_mb: float = 0.0  # of the replica, while a rollout compares versions
    input: str | None = None
    output: str | None = None


class Exposure(Struct, kw_only=True):
    """A unit was assigned to a variant during a rollout. Written down beside the events, in the same spool, before the answer is there
    (unless that takes no time): a slow answer, or one that never comes, does not delay or lose the count. Readers of events pass over it
    (it has no `id`)."""

    exposure: str  # id of the request
    t: int
    deployment: str
    variant: str
    unit: str  # "" where the request names none
    rollout: str
    phase: int


class Point(Struct, frozen=True, kw_only=True):
    """Counts of the time [t_ms, t_ms + step). Quantiles in milliseconds are None where nothing succeeded."""

    t_ms: int
    requests: int
    errors: int
    cancelled: int
    tokens_in: int
    tokens_out: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    ttft_p50_ms: float | None
    ttft_p95_ms: float | None
    queue_p95_ms: float | None = None
    cost: float = 0.0
    kinds: dict[str, int] = {}
    """The errors by their kind."""
