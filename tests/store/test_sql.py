"""What one database cannot hold, whichever it is, is the request's fault and changes nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.store.leases import leases_table as table
from drivetrain.store.sql import Database

ROW: dict[str, Any] = {"name": "a", "owner": "me", "token": "t", "seconds": 1.0}


@pytest.mark.parametrize("grouped", [False, True])
def test_a_text_that_is_no_unicode(database: Database, grouped: bool) -> None:
    def work(c: sa.Connection) -> None:
        c.execute(sa.insert(table), [ROW])
        c.execute(sa.insert(table), [{**ROW, "name": "half a pair: \ud800"}])

    with pytest.raises(Invalid, match="cannot hold"):
        if grouped:
            database.group_write(work)
        else:
            with database.write() as c:
                work(c)
    with database.read() as c:
        assert c.scalar(sa.select(sa.func.count()).select_from(table)) == 0


def test_a_number_beyond_64_bits(database: Database) -> None:
    with pytest.raises(Invalid, match="cannot hold"), database.read() as c:
        c.execute(sa.select(table).limit(2**70)).all()


def test_a_nul(database: Database) -> None:
    """SQLite keeps it, PostgreSQL does not."""
    try:
        with database.write() as c:
            c.execute(sa.insert(table), [{**ROW, "name": "a\0b"}])
    except Invalid:
        assert database.kind == "postgresql"
    with database.read() as c:
        assert c.scalars(sa.select(table.c.name)).all() == (["a\0b"] if database.kind == "sqlite" else [])


def test_who_stops_waiting_for_a_group_write_harms_nobody(database: Database) -> None:
    """A client that hangs up: its write is done all the same, and so are those that come after."""

    async def ask() -> None:
        hold = threading.Event()

        def first(c: sa.Connection) -> None:
            hold.wait(60)
            c.execute(sa.insert(table), [ROW])

        waiting = asyncio.ensure_future(asyncio.wrap_future(database.group_submit(first)))
        await asyncio.sleep(0)
        assert waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        hold.set()
        await asyncio.wrap_future(database.group_submit(lambda c: c.execute(sa.insert(table), [{**ROW, "name": "b"}]) and None))

    asyncio.run(ask())
    assert not database.group_submit(lambda c: None).cancel()
    with database.read() as c:
        assert c.scalars(sa.select(table.c.name).order_by(table.c.name)).all() == ["a", "b"]
