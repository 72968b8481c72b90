"""Leases: one server at a time does what only one may do.

No clock is compared with another machine's. Each renewal writes a new token; whoever wants to take a lease over must have seen the
same token for the lease's whole time on its own monotonic clock. So a clock that jumps, on any machine, can neither steal a lease nor
keep one for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from drivetrain.store.ids import uuid7
from drivetrain.store.sql import Database, metadata, upsert

leases_table = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("token", sa.String(32), nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)


class Leases:
    """The leases of one `owner`, which is a name that no other living process uses. Thread-safe."""

    def __init__(self, db: Database, owner: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._owner = owner
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[str, float]] = {}  # of other owners: the token, and when we first saw it
        self._until: dict[str, float] = {}  # of our own

    def acquire(self, name: str, seconds: float) -> bool:
        """Take or renew the lease for `seconds`. True if it is ours. Renew well before it ends: every third of the time, say."""
        with self._lock:
            before = self._clock()  # our time counts from before the write, everybody else's from after it
            if self._take(name, seconds):
                self._until[name] = before + seconds
                self._seen.pop(name, None)
                return True
            self._until.pop(name, None)
            return False

    def keep(self, name: str, seconds: float) -> bool:
        """As `acquire`, but a lease of ours is not renewed before a third of its time has passed: cheap to ask often."""
        with self._lock:
            fresh = self._until.get(name, float("-inf")) - self._clock() > seconds * 2 / 3
        return fresh or self.acquire(name, seconds)

    def held(self, name: str) -> bool:
        """Whether the lease is ours still: look before each step that only the holder may take."""
        with self._lock:
            return self._clock() < self._until.get(name, float("-inf"))

    def release(self, name: str) -> None:
        """Give it up, so that others need not wait for its end. Does nothing if it is not ours."""
        with self._lock:
            self._until.pop(name, None)
            mine = (leases_table.c.name == name) & (leases_table.c.owner == self._owner)
            with self._db.write() as connection:
                connection.execute(sa.delete(leases_table).where(mine))

    def _take(self, name: str, seconds: float) -> bool:
        token = uuid7()
        row = {"name": name, "owner": self._owner, "token": token, "seconds": seconds}
        with self._db.write() as connection:
            upsert(connection, leases_table, [row], key=["name"])
            current = connection.execute(sa.select(leases_table).where(leases_table.c.name == name)).one_or_none()
            if current is None:
                return False
            if current.token == token:
                return True
            if current.owner != self._owner and not self._expired(name, current.token, current.seconds):
                return False
            renew = sa.update(leases_table).where(leases_table.c.name == name, leases_table.c.token == current.token)
            return connection.execute(renew.values(**row)).rowcount == 1

    def _expired(self, name: str, token: str, seconds: float) -> bool:
        seen, since = self._seen.get(name, ("", 0.0))
        if seen != token:
            self._seen[name] = (token, self._clock())
            return False
        return self._clock() - since >= seconds
