"""What one database cannot hold, whichever it is, is the request's fault and changes nothing."""

from __future__ import annotations

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
