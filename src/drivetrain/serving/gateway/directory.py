"""Where a request may go, from the route snapshot in memory: the deployment of a name, the variant of a unit, the replicas of a variant.

No SQL (but for a name that nobody has called before), no locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from drivetrain.config import Settings
from drivetrain.errors import DrivetrainError, NotFound, Overloaded, Unavailable, UpstreamFailed
from drivetrain.identity.model import Context
from drivetrain.serving.assignment import assign, salt_of
from drivetrain.serving.gateway.balance import Moved, Pool
from drivetrain.serving.gateway.meters import Now
from drivetrain.serving.gateway.upstream import Lost
from drivetrain.serving.routes import DeploymentRoute, Snapshot, VariantRoute

log = logging.getLogger(__name__)

_ALIAS_FRESH = 1.0
_MOST_ALIASES = 10_000
_WAKE_EVERY = 0.5


class Routes(Protocol):
    """Where the route snapshot is: `drivetrain.serving.routes.RoutesHolder`."""

    @property
    def current(self) -> Snapshot: ...

    async def changed(self, generation: int) -> Snapshot:
        """Wait for a snapshot that is not of this generation."""
        ...


class Named(Protocol):
    @property
    def id(self) -> str: ...


Implicit = Callable[[Context, str], Awaitable[Named]]


class Directory:
    """One for each web process. `implicit` makes the on-demand deployment of a registry name, or raises; `told` gets the variants of
    each new snapshot."""

    def __init__(
        self,
        routes: Routes,
        wake: Callable[[str], None],
        implicit: Implicit,
        settings: Settings,
        told: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self._told = told
        self._routes = routes
        self._wake = wake
        self._woken: dict[str, float] = {}
        self._implicit = implicit
        self._aliases: dict[tuple[str, str], tuple[str, float]] = {}
        self._asked: dict[tuple[str, str], asyncio.Task[str]] = {}
        self._pools: dict[str, Pool] = {}
        self._seen: Snapshot | None = None
        self._named: dict[tuple[str, str], DeploymentRoute] = {}
        self._by_id: dict[str, DeploymentRoute] = {}
        self._follower: asyncio.Task[None] | None = None
        self._inflight: dict[str, int] = {}
        self._used: set[str] = set()

    def inflight(self) -> dict[str, int]:
        """To report: requests in progress or waiting by deployment id, and 1 for what was used and is done since the last report."""
        used, self._used = self._used, set()
        return dict.fromkeys(used, 1) | self._inflight

    def standing(self) -> list[tuple[Now, float, int]]:
        """Of each variant: its work at this moment, its share of the traffic (0 to 1) and its ready replicas. From any thread."""
        found = []
        for route in self._routes.current.deployments:
            whole = sum(variant.weight for variant in route.variants) or 1
            for variant in route.variants:
                pool = self._pools.get(variant.id)
                work = (pool.outstanding, pool.waiting) if pool is not None else (0, 0)
                now = Now(route.workspace_id, route.workspace, route.name, variant.name, *work)
                found.append((now, variant.weight / whole, len(variant.replicas)))
        return found

    def deployments(self, workspace_id: str) -> list[DeploymentRoute]:
        """The deployments of a workspace, as the route table has them."""
        self._refresh()
        return [route for route in self._by_id.values() if route.workspace_id == workspace_id]

    def named(self, context: Context, name: str) -> DeploymentRoute | None:
        """The deployment called `name`, if there is one already. `name:latest` and `workspace/name` mean `name`."""
        self._refresh()
        found = self._named.get((context.workspace_id, name))
        if found is None:
            plain = name.removesuffix(":latest").removeprefix(f"{context.workspace}/")
            if plain != name:
                found = self._named.get((context.workspace_id, plain))
        return found

    async def resolve(self, context: Context, name: str) -> DeploymentRoute:
        """The deployment called `name`, else the on-demand deployment of the registry name `name`."""
        found = self.named(context, name)
        if found is not None:
            return found
        key = (context.workspace_id, name)
        known = self._aliases.get(key)
        if known is not None and (route := self._by_id.get(known[0])) is not None:
            if asyncio.get_running_loop().time() - known[1] > _ALIAS_FRESH:
                # Ask again beside this request, not before it: an alias may have moved, and SQL may be away.
                self._ask(context, name, key).add_done_callback(_swallow)
            return route
        identity = await asyncio.shield(self._ask(context, name, key))
        deadline = asyncio.get_running_loop().time() + self.settings.queue_seconds
        while (route := self._by_id.get(identity)) is None:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._routes.changed(self._generation)
            except TimeoutError:
                raise Unavailable(f"The deployment for {name!r} was made but has no route yet. Try again shortly.") from None
            self._refresh()
        return route

    def deployment(self, identity: str, name: str) -> DeploymentRoute:
        """The deployment as the newest route table has it. Raises `NotFound` when it is gone."""
        self._refresh()
        route = self._by_id.get(identity)
        if route is None:
            raise NotFound(f"The deployment {name!r} was deleted while this request waited for it.")
        return route

    def choose(self, deployment: DeploymentRoute, unit: str) -> VariantRoute:
        """The variant that serves `unit`."""
        variants = deployment.variants
        if len(variants) == 1 and variants[0].weight > 0:
            return variants[0]
        chosen = assign(salt_of(deployment), unit, variants)
        if chosen is None:
            reason = next(
                (variant.problem for variant in variants if variant.problem), "none of its variants has a share of the traffic yet"
            )
            raise Unavailable(f"The deployment {deployment.name!r} cannot answer: {reason}.")
        return chosen

    async def ask(self, deployment: DeploymentRoute, target: str) -> bytes:
        """GET something about the model from a ready replica; not a request of a user, so no event."""
        variant = max(deployment.variants, key=lambda variant: variant.weight, default=None)
        if variant is None or not variant.replicas:
            self.need(deployment.id)
            raise Unavailable(f"The deployment {deployment.name!r} has no ready replica yet. Try again shortly.")
        pool = self.pool(variant)
        replica = pool.take()
        if replica is None:
            self.follow()
            try:
                replica = await pool.wait(5.0)
            except (TimeoutError, Moved):
                raise Overloaded(f"All replicas of {deployment.name!r} are busy.", retry_after=pool.retry_after()) from None
        try:
            answer = await replica.upstream.request(target, b"", method="GET", seconds=10.0)
        except Lost as error:
            pool.failed(replica)
            raise Unavailable(f"The replica of {deployment.name!r} went away. Try again shortly.") from error
        finally:
            pool.release(replica)
        if answer.status != 200:
            raise UpstreamFailed(f"The replica of {deployment.name!r} does not tell about its model (status {answer.status}).")
        return answer.body

    def pool(self, variant: VariantRoute) -> Pool:
        pool = self._pools.get(variant.id)
        if pool is None:
            pool = Pool(queue_limit=self.settings.queue_limit)
            self._pools[variant.id] = pool
            pool.update(variant.replicas)
        return pool

    def need(self, deployment: str) -> None:
        """Tell the supervisor that a request waits for a replica of this deployment. Often asked, seldom sent."""
        now = asyncio.get_running_loop().time()
        if now - self._woken.get(deployment, -1e9) > _WAKE_EVERY:
            self._woken[deployment] = now
            self._wake(deployment)

    def follow(self) -> None:
        """See to it that those who wait hear of new routes."""
        if self._follower is None or self._follower.done():
            self._follower = asyncio.get_running_loop().create_task(self._follow(), name="gateway-follow")

    def entered(self, deployment: str) -> None:
        self._used.add(deployment)
        self._inflight[deployment] = self._inflight.get(deployment, 0) + 1

    def left(self, deployment: str) -> None:
        count = self._inflight.get(deployment, 0) - 1
        if count > 0:
            self._inflight[deployment] = count
        else:
            self._inflight.pop(deployment, None)

    async def close(self) -> None:
        """Close what is idle. Call it when no request is in flight any more."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        for task in (self._follower, *self._asked.values()):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @property
    def _generation(self) -> int:
        return -1 if self._seen is None else self._seen.generation

    def _refresh(self) -> None:
        """Take over the newest snapshot, if it is new."""
        snapshot = self._routes.current
        if snapshot is self._seen:
            return
        self._seen = snapshot
        self._by_id = {route.id: route for route in snapshot.deployments}
        self._named = {(route.workspace_id, route.name): route for route in snapshot.deployments}
        variants = {variant.id: variant for route in snapshot.deployments for variant in route.variants}
        for identity, pool in list(self._pools.items()):
            variant = variants.get(identity)
            if variant is None:
                del self._pools[identity]
                pool.close()
            else:
                pool.update(variant.replicas)
            if variant is None or variant.weight <= 0 or pool.told(variant.problem, variant.starting):
                pool.evict(Moved())
        self._woken = {identity: at for identity, at in self._woken.items() if identity in self._by_id}
        self._told(variants)

    async def _follow(self) -> None:
        self._refresh()
        while any(pool.waiting for pool in self._pools.values()):
            await self._routes.changed(self._generation)
            self._refresh()

    def _ask(self, context: Context, name: str, key: tuple[str, str]) -> asyncio.Task[str]:
        """Ask the control plane for the deployment of a name, once for all who ask at this moment."""
        task = self._asked.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask_implicit(context, name, key), name="gateway-implicit")
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        return task

    async def _ask_implicit(self, context: Context, name: str, key: tuple[str, str]) -> str:
        try:
            deployment = await self._implicit(context, name)
        except NotFound as error:
            self._aliases.pop(key, None)
            raise NotFound(error.message, param="model") from error
        if len(self._aliases) >= _MOST_ALIASES:
            self._aliases.clear()
        self._aliases[key] = (deployment.id, asyncio.get_running_loop().time())
        return deployment.id


def _swallow(task: asyncio.Task[str]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, DrivetrainError):
        log.warning("asking for an on-demand deployment failed", exc_info=error)
