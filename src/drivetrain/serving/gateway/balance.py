"""Which replica of a variant takes a request: the one with the least outstanding work, or the queue.

A `Pool` is one variant's replicas as this web process sees them. It hands out *slots*: a replica works on at most `slots` requests
of this process at once, what is over waits in order of arrival, and what cannot hope to be served in time is refused at once.
No locks: everything happens on one event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable

from drivetrain.errors import Overloaded
from drivetrain.serving.gateway.upstream import Upstream
from drivetrain.serving.routes import ReplicaRoute

WEIGH_SECONDS = 2.0
_SHORTEST_REST = 0.05
_LONGEST_REST = 1.0


class Moved(Exception):  # noqa: N818 - a signal inside the package, not an error that anybody sees
    """What is known of the variant that a request waits for has changed: look again."""


class Replica:
    """One replica: its connections and how much of this process's work it has."""

    __slots__ = ("_memory", "_rest", "_weighed", "id", "outstanding", "pid", "resting_until", "slots", "upstream")

    def __init__(self, route: ReplicaRoute, upstream: Upstream) -> None:
        self.id = route.id
        self.pid = route.pid
        self.slots = max(1, route.slots)
        self.upstream = upstream
        self.outstanding = 0
        self._memory = 0.0
        self._weighed = -math.inf
        self.resting_until = 0.0
        self._rest = 0.0

    def failed(self, now: float) -> float:
        """It did not take a request: leave it alone for a moment, longer each time. Returns how long."""
        self._rest = min(max(self._rest * 2, _SHORTEST_REST), _LONGEST_REST)
        self.resting_until = now + self._rest
        return self._rest

    def succeeded(self) -> None:
        self._rest = self.resting_until = 0.0

    def memory_mb(self) -> float:
        """The resident memory of its process, in MB, not older than `WEIGH_SECONDS`; 0 where that is not known."""
        now = time.monotonic()
        if self.pid and now - self._weighed > WEIGH_SECONDS:
            import psutil  # not before a rollout compares memory

            self._weighed = now
            try:
                self._memory = round(psutil.Process(self.pid).memory_info().rss / 1e6, 1)
            except psutil.Error:
                self._memory = 0.0
        return self._memory


class Pool:
    """The replicas of one variant and the requests that wait for one of them."""

    def __init__(self, *, queue_limit: int) -> None:
        self._limit = queue_limit
        self._replicas: dict[str, Replica] = {}
        self._waiting: deque[asyncio.Future[Replica]] = deque()
        self._seconds = 0.0  # how long an answer takes, smoothed
        self._told = ("", False)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def outstanding(self) -> int:
        return sum(replica.outstanding for replica in list(self._replicas.values()))

    @property
    def ready(self) -> bool:
        """Whether there is any replica that would take work, now or when it has a slot free."""
        return bool(self._replicas)

    def update(self, routes: Iterable[ReplicaRoute]) -> None:
        """Take over what the new route table says. Requests on replicas that left it go on to their end."""
        old, self._replicas = self._replicas, {}
        for route in routes:
            known = old.pop(route.id, None)
            if known is not None and known.upstream.address == route.address:
                known.slots = max(1, route.slots)
                self._replicas[route.id] = known
            else:
                self._replicas[route.id] = Replica(route, Upstream(route.address, reuse=route.keep, most_idle=max(1, route.slots)))
        for gone in old.values():
            gone.upstream.close()
        self.dispatch()

    def told(self, problem: str, starting: bool) -> bool:
        """Take note of how the start of a replica goes; True when that is news to those who wait for one."""
        before, self._told = self._told, (problem, starting)
        return before != self._told and not self._replicas

    def take(self) -> Replica | None:
        """A replica with a free slot, at once, or None. Release it with `release`."""
        if self._waiting:
            return None  # first come, first served
        return self._pick()

    async def wait(self, seconds: float) -> Replica:
        """Wait for a slot. Raises `Overloaded` at once when too many wait already, TimeoutError after `seconds`."""
        if len(self._waiting) >= self._limit:
            raise Overloaded(
                f"{len(self._waiting)} requests are waiting for this model already, which is its limit (setting queue_limit). "
                "Try again later, or give the deployment more replicas: drivetrain deploy --max-replicas.",
                retry_after=self.retry_after(),
            )
        future: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self.dispatch()
        try:
            async with asyncio.timeout(seconds):
                return await future
        except BaseException:
            if future.done() and not future.cancelled():
                if future.exception() is None:
                    self.release(future.result())
            else:
                future.cancel()
                self._forget(future)
            raise

    def release(self, replica: Replica, seconds: float | None = None) -> None:
        """The request has ended; `seconds` is how long a success took."""
        replica.outstanding -= 1
        if seconds is not None:
            self._seconds += 0.1 * (seconds - self._seconds) if self._seconds else seconds
        if self._waiting:
            self.dispatch()

    def failed(self, replica: Replica) -> None:
        """The replica did not answer: prefer others for a moment."""
        loop = asyncio.get_running_loop()
        loop.call_later(replica.failed(loop.time()) + 0.001, self.dispatch)

    def retry_after(self) -> float:
        """Seconds until the queue as it is now will have been served, guessed from recent answers; 1 to 30."""
        slots = sum(replica.slots for replica in self._replicas.values()) or 1
        return float(min(30, max(1, math.ceil(self._seconds * (len(self._waiting) + 1) / slots))))

    def dispatch(self) -> None:
        """Give free slots to those who wait, in order."""
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            replica = self._pick()
            if replica is None:
                return
            self._waiting.popleft().set_result(replica)

    def evict(self, reason: Exception) -> None:
        """Send away all who wait."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(reason)

    def close(self) -> None:
        self.update(())

    def _pick(self) -> Replica | None:
        best: Replica | None = None
        now = -1.0
        for replica in self._replicas.values():
            if replica.outstanding >= replica.slots:
                continue
            if replica.resting_until:
                if now < 0:
                    now = asyncio.get_running_loop().time()
                if replica.resting_until > now:
                    continue
            if best is None or replica.outstanding < best.outstanding:
                best = replica
        if best is not None:
            best.outstanding += 1
            if len(self._replicas) > 1:  # to the end, so that equals take turns
                del self._replicas[best.id]
                self._replicas[best.id] = best
        return best

    def _forget(self, future: asyncio.Future[Replica]) -> None:
        try:
            self._waiting.remove(future)
        except ValueError:
            return
