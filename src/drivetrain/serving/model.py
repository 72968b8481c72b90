"""The nouns of serving: deployment, variant, replica."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Capture(StrEnum):
    """What events keep of inputs and outputs: everything, some requests' (`capture_rate`), digests only, or nothing."""

    all = "all"
    sampled = "sampled"
    hashed = "hashed"
    nothing = "nothing"


class Unit(StrEnum):
    """Whom rollouts assign to a version: a person, who then stays with it, or each request."""

    person = "person"
    request = "request"


class Variant(Struct, frozen=True, kw_only=True):
    """A version as it runs. `weight` is its share of traffic in parts of 10,000; a retired variant serves only until its successor does.

    `ready_ms`: when a replica of it was ready for the first time, on any server.
    """

    id: str
    deployment_id: str
    name: str
    repo: str  # workspace/slug
    version: int | None
    commit: str
    engine: str
    tasks: tuple[str, ...]
    options: dict[str, Any]
    memory_bytes: int
    slots: int
    why: str  # why this engine
    weight: int
    min_replicas: int
    max_replicas: int
    created_ms: int
    ready_ms: int | None = None
    retired_ms: int | None = None
    shadow: int = 0
    prices: dict[str, float] | None = None
    withdrawn: bool = False  # taken back by a rollout: it stands in for nobody


class Standing(Struct, frozen=True, kw_only=True):
    """How a variant's replicas are, over all servers. `failed`: in words, why none will be ready, when that is so."""

    ready: int
    everywhere: bool  # as many as wanted are ready on each server that has a ready replica of the variant it is compared with
    failed: str = ""


class Replica(Struct, frozen=True, kw_only=True):
    """One process that hosts one variant. `state`: starting, ready, draining; restarting (it failed and will be tried again), failed.

    `message` says why the one before it ended, if it did not end well; `restarts` how many have failed.
    """

    id: str
    variant_id: str
    server_id: str
    state: str
    message: str = ""
    pid: int | None = None
    address: str = ""
    memory_bytes: int = 0
    restarts: int = 0
    started_ms: int = 0
    ready_ms: int | None = None


class Deployment(Struct, frozen=True, kw_only=True):
    """A named endpoint. `implicit`: made because somebody called a registry name; it stops when idle. `unit`: whom rollouts assign to a
    version, a `person` (who then stays with it) or each `request`."""

    id: str
    workspace_id: str
    workspace: str
    name: str
    implicit: bool
    capture: str
    capture_rate: float
    salt: str
    created_ms: int
    created_by: str
    unit: str = "person"
    rollout: str | None = None
    phase: int = 0
    stable: str | None = None
    canary: str | None = None
    variants: tuple[Variant, ...] = ()
    replicas: tuple[Replica, ...] = ()

    @property
    def state(self) -> str:
        """One word: ready, starting, restarting (it fails, and is tried again), failed (it is not), idle (it starts when it is called)."""
        live = [variant for variant in self.variants if variant.retired_ms is None]
        mine = [replica for replica in self.replicas if replica.variant_id in {variant.id for variant in live}]
        if any(replica.state == "ready" for replica in mine):
            return "ready"
        for state in ("starting", "restarting", "failed"):
            if any(replica.state == state for replica in mine):
                return state
        return "idle" if all(variant.min_replicas == 0 for variant in live) else "starting"

    @property
    def problem(self) -> str:
        """Why it does not answer as it should, in words; "" while all is well."""
        return next((replica.message for replica in self.replicas if replica.message and replica.state != "ready"), "")
