"""The route table of the data plane: an immutable snapshot that is swapped whole.

The supervisor compiles it from the desired state and what it sees of its replicas, and pushes it to its web processes, which
answer every request from it alone. Nothing here is ever changed in place.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

from drivetrain.identity.model import Grant


class ReplicaRoute(Struct, frozen=True):
    """One ready replica. `address` is where it listens (unix:/path or http://host:port); `slots` the requests it can work on at once; `pid`
    its process on this machine; `keep`: whether connections to it are used again."""

    id: str
    address: str
    slots: int
    pid: int = 0
    keep: bool = True


class Prices(Struct, frozen=True, kw_only=True):
    """What a variant costs, in whatever currency: by million tokens and by request."""

    million_in: float = 0.0
    million_out: float = 0.0
    request: float = 0.0

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """Of one request."""
        return self.request + (self.million_in * tokens_in + self.million_out * tokens_out) / 1e6


class VariantRoute(Struct, frozen=True):
    """One version as it runs. `weight` is its share of traffic in parts of 10,000."""

    id: str
    name: str
    weight: int
    repo: str  # workspace/slug
    version: int | None
    commit: str
    engine: str
    tasks: tuple[str, ...]  # of: chat, completion, embeddings, infer
    replicas: tuple[ReplicaRoute, ...] = ()
    problem: str = ""  # why there is no ready replica, in words for people; "" while all is well
    starting: bool = False  # a replica is on its way
    final: bool = False  # the problem is one that no other try would mend
    shadow: int = 0  # share of the requests of the other variants that is repeated on this one, in parts of 10,000
    prices: Prices | None = None


class RolloutRoute(Struct, frozen=True):
    """The rollout that a deployment is in. Units are assigned with `id` as part of the salt, so each rollout draws its first units anew."""

    id: str
    phase: int
    stable: str  # variant
    canary: str  # variant


class DeploymentRoute(Struct, frozen=True):
    """One named endpoint. `salt` makes the assignment of units to variants independent of other deployments."""

    id: str
    workspace_id: str
    workspace: str
    name: str
    salt: str
    on_demand: bool
    capture: str  # all | sampled | hashed | nothing
    capture_rate: float
    variants: tuple[VariantRoute, ...]
    rollout: RolloutRoute | None = None
    unit: str = "person"  # or request: who is assigned to a variant in a rollout


class Snapshot(Struct, frozen=True):
    """The whole table. A later `generation` replaces an earlier one."""

    generation: int
    auth: str  # open | keys
    workspaces: dict[str, str]  # slug -> id
    deployments: tuple[DeploymentRoute, ...]
    keys: tuple[Grant, ...]


EMPTY = Snapshot(generation=0, auth="keys", workspaces={}, deployments=(), keys=())


class RoutesHolder:
    """Where a web process keeps the newest snapshot, and where others wait for the next. Lives on one event loop."""

    def __init__(self) -> None:
        self.current: Snapshot = EMPTY
        self._news = asyncio.Event()

    def put(self, snapshot: Snapshot) -> None:
        self.current = snapshot
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def changed(self, generation: int) -> Snapshot:
        """Wait for a snapshot that is not of this generation."""
        while self.current.generation == generation:
            await self._news.wait()
        return self.current
