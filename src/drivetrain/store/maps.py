"""Tables of key and value: tags, params and metadata, each with one owner, are declared, written and read in one way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from drivetrain.store.sql import chunked, tuples, upsert

MOST_LETTERS = 250
"""Of a key."""


def key_values(name: str, metadata: sa.MetaData, owner: str, of: str) -> sa.Table:
    """Such a table. The column `owner` refers to what the values belong to, by its column `of` (table.column), and goes with it."""
    return sa.Table(
        name,
        metadata,
        sa.Column(owner, sa.ForeignKey(of, ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.String(MOST_LETTERS), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def put(c: sa.Connection, table: sa.Table, owner: object, values: Mapping[str, str], *, keep: bool = False) -> None:
    """Set the owner's values; those under other keys stay. `keep`: what is there already stays as well."""
    name = _owner(table).name
    # In the order of the keys: two writers of the same ones wait for each other, and never each for the other.
    rows = [{name: owner, "key": key, "value": value} for key, value in sorted(values.items())]
    upsert(c, table, rows, key=[name, "key"], update=[] if keep else ["value"])


def drop(c: sa.Connection, table: sa.Table, owner: object, *keys: str) -> int:
    """Take away values of the owner; how many there were."""
    gone = 0
    for some in chunked(keys):
        gone += c.execute(table.delete().where(_owner(table) == owner, table.c.key.in_(some))).rowcount
    return gone


def read(c: sa.Connection, table: sa.Table, owners: Iterable[Any]) -> dict[Any, dict[str, str]]:
    """All values of each owner that has some."""
    found: dict[Any, dict[str, str]] = {}
    mine = _owner(table)
    for some in chunked(owners):
        for owner, key, value in tuples(c, sa.select(mine, table.c.key, table.c.value).where(mine.in_(some))):
            found.setdefault(owner, {})[key] = value
    return found


def _owner(table: sa.Table) -> sa.Column[Any]:
    return table.columns[0]
