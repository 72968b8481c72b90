"""One text for two databases: SQLite (WAL) and PostgreSQL.

`Database.read()` and `Database.write()` are the only ways to a connection. A write is one short transaction; on SQLite it
takes the write lock at its start (BEGIN IMMEDIATE), so it can never fail half-way with "database is locked".
What a `with db.write()` block did is on disk when the block has ended: WAL with synchronous=FULL, or PostgreSQL's
synchronous_commit.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.pool import ConnectionPoolEntry

from drivetrain.errors import Invalid, StorageFull, Unavailable
from drivetrain.store import patterns

T = TypeVar("T")
CHUNK = 500  # SQLite takes a limited number of parameters in one statement

log = logging.getLogger(__name__)

Serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""The type of numbers that the database gives: only an INTEGER is one that SQLite counts by itself."""
INT64 = 1 << 63
"""Integers of both databases are from -INT64 up to, but not, INT64."""
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every domain's `tables.py` adds its tables here; migrations are checked against it by a test."""


class Database:
    """A pool of connections to one database. Thread-safe; open one per process."""

    def __init__(self, url: str, *, pool_size: int = 16) -> None:
        self.url = sa.make_url(url)
        self.kind: Literal["sqlite", "postgresql"] = "sqlite" if self.url.get_backend_name() == "sqlite" else "postgresql"
        if self.kind == "sqlite":
            self.engine = sa.create_engine(self.url, pool_size=pool_size, max_overflow=16, connect_args={"timeout": 60})
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin)
        else:
            url_ = self.url.set(drivername="postgresql+psycopg")
            self.engine = sa.create_engine(url_, pool_size=pool_size, max_overflow=16, pool_pre_ping=True)
        self._write_lock = threading.Lock()
        self._committer: _GroupCommitter | None = None
        self._committer_lock = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent snapshot. Never blocks and is never blocked by a writer."""
        with _translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction that is durable when the block ends, and left no trace if it raised."""
        with _translated():
            if self.kind == "sqlite":
                # One writer at a time anyway: queueing here is fairer and cheaper than SQLite's busy loop.
                writer = self.engine.execution_options(drivetrain_write=True)
                with self._write_lock, writer.begin() as connection:
                    yield connection
            else:
                with self.engine.begin() as connection:
                    yield connection

    def group_write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction shared with other callers of this moment (group commit); return when it is durable.

        For writes that come in floods. `work` must not raise for reasons of data: validate before. If the shared transaction
        fails, each piece of work is tried again alone, so that one bad piece harms nobody else.
        """
        return self.group_submit(work).result()

    def group_submit(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        """The same without waiting. Nobody can cancel what comes back: the work is done whether or not somebody still waits for it."""
        with self._committer_lock:
            if self._committer is None:
                self._committer = _GroupCommitter(self)
            return self._committer.submit(work)

    def close(self) -> None:
        with self._committer_lock:
            if self._committer is not None:
                self._committer.close()
                self._committer = None
        self.engine.dispose()


def chunked(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Lists of so many at most, as one statement takes them."""
    items = list(values)
    for start in range(0, len(items), size):
        yield items[start : start + size]


def tuples(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: for long results of numbers and texts, several times faster than rows with names."""
    result = connection.execute(query)
    try:
        return list(result.cursor.fetchall())
    finally:
        result.close()


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    *,
    key: Sequence[str] = (),
    update: Sequence[str] = (),
) -> None:
    """Insert `rows`; where the `key` columns exist already, overwrite the `update` columns (none: keep the old row). Without a `key`, old
    rows are kept whichever key they have: of a table with several, PostgreSQL says which one two writers meet in by chance."""
    if not rows:
        return
    connection.execute(_upsert(connection.dialect.name, table, tuple(key), tuple(update)), list(rows))


@cache
def _upsert(dialect: str, table: sa.Table, key: tuple[str, ...], update: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    # Kept: to build a statement takes longer than to run it.
    statement = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(table)
    if not update:
        return statement.on_conflict_do_nothing(index_elements=list(key) or None)
    return statement.on_conflict_do_update(index_elements=list(key), set_={name: statement.excluded[name] for name in update})


def _prepare_sqlite(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    connection.create_function(patterns.FUNCTION, 2, patterns.found, deterministic=True)
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-16384",
        "mmap_size=268435456",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("drivetrain_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        text = str(error.orig).lower()
        if "disk is full" in text or "disk full" in text or "no space left" in text:
            message = "The disk that holds the database is full. Nothing was changed. Free some space and try again."
            raise StorageFull(message) from error
        if "locked" in text or "connection" in text or "unable to open" in text:
            raise Unavailable("The database cannot be reached at the moment. Try again shortly.") from error
        raise
    except (OverflowError, UnicodeEncodeError, sa.exc.DataError) as error:
        # Whatever a check in front has let through: a number beyond 64 bits, half a surrogate pair, a NUL where PostgreSQL takes none.
        log.warning("a value was refused by the database: %s", error)
        raise Invalid("A number or a text in this request is one that the database cannot hold. Nothing was changed.") from error


class _GroupCommitter:
    """One thread that runs the work of many callers in one transaction."""

    def __init__(self, database: Database, *, most: int = 256) -> None:
        self._database = database
        self._most = most
        self._queue: queue.SimpleQueue[tuple[Callable[[sa.Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[sa.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        # Running from here on: a waiter that is cancelled (its client has gone) cannot cancel it under the thread's hands.
        future.set_running_or_notify_cancel()
        self._queue.put((work, future))
        return future

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            batch = [item]
            stop = False
            while len(batch) < self._most:
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    stop = True
                    break
                batch.append(item)
            self._commit(batch)
            if stop:
                return

    def _commit(self, batch: list[tuple[Callable[[sa.Connection], Any], Future[Any]]]) -> None:
        try:
            with self._database.write() as connection:
                results = [work(connection) for work, _ in batch]
        except Exception as error:  # noqa: BLE001 - handed to the callers, each of whom is waiting
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for piece in batch:
                self._commit([piece])
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
