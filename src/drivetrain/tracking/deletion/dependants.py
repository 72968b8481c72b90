"""What hangs on runs, logged models and experiments, and how to delete it piece by piece.

Tables that refer to them by a foreign key are found by themselves, however deep they lie. A column that holds such an id without one is
declared in `LOOSE`, with what becomes of its row; a test fails for one that is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal

import sqlalchemy as sa
from msgspec import Struct

from drivetrain.store.sql import metadata

Kind = Literal["run", "model", "experiment"]

ROOTS: dict[Kind, tuple[str, str]] = {"run": ("runs", "id"), "model": ("logged_models", "id"), "experiment": ("experiments", "uid")}

LOOSE: tuple[tuple[str, Kind, Literal["delete", "keep"]], ...] = (
    ("logged_model_metrics.run_id", "run", "delete"),
    ("run_models.model_id", "model", "delete"),
    # What was imported once, and is gone, can be imported again.
    ("imports.target", "run", "delete"),
    ("imports.target", "model", "delete"),
    # A model that a run made, and a version made of either, have files and records of their own. Their lineage says that the run is gone.
    ("logged_models.source_run_id", "run", "keep"),
    ("versions.run_id", "run", "keep"),
    ("versions.model_id", "model", "keep"),
    ("drafts.run_id", "run", "keep"),
    # Copies of what the run's or the sweep's row says: they go with that.
    ("latest_metrics.experiment_uid", "experiment", "keep"),
    ("run_details.experiment_uid", "experiment", "keep"),
    ("sweeps.experiment_id", "experiment", "keep"),
)
"""`table.column`, whose id it holds, and whether its row goes too. Artifacts, which belong to several kinds, are not here."""


class Dependant(Struct, frozen=True):
    """A table with rows that go before their owner does. `path`: the joins from its rows up to the column that holds the owner's id."""

    table: str
    path: tuple[tuple[str, str, str, str], ...]
    """(table, column, parent table, parent's column), beginning at the table itself."""
    column: str
    """`table.column` that holds the owner's id."""


@cache
def dependants(kind: Kind) -> tuple[Dependant, ...]:
    """Those of a kind, each before what it hangs on. All tables must have been imported."""
    root, key = ROOTS[kind]
    found: list[Dependant] = []
    for table, column in _referrers(root, key):
        found += _below(table, f"{table}.{column}", ())
    for place, owner, fate in LOOSE:
        table = place.partition(".")[0]
        if owner == kind and fate == "delete" and table in metadata.tables:
            found += _below(table, place, ())
    return tuple(found)


def _below(table: str, column: str, path: tuple[tuple[str, str, str, str], ...]) -> Iterator[Dependant]:
    # What is purged by itself has gone before its experiment does.
    if table in {root for root, _ in ROOTS.values()}:
        return
    for child, link, mine in _all_referrers(table):
        if child != table:
            yield from _below(child, column, ((child, link, table, mine), *path))
    yield Dependant(table, path, column)


def _referrers(root: str, key: str) -> list[tuple[str, str]]:
    return [(child, link) for child, link, mine in _all_referrers(root) if mine == key]


def _all_referrers(parent: str) -> list[tuple[str, str, str]]:
    """(table, column, parent's column) of the foreign keys to a table."""
    return [
        (table.name, key.parent.name, key.column.name)
        for table in sorted(metadata.tables.values(), key=lambda one: one.name)
        for key in sorted(table.foreign_keys, key=lambda one: one.parent.name)
        if key.column.table.name == parent
    ]


def delete_some(c: sa.Connection, dependant: Dependant, owners: Sequence[Any], most: int) -> int:
    """Delete up to `most` of the dependant's rows of these owners; how many there were."""
    return c.execute(_statement(dependant, c.dialect.name), {"owners": list(owners), "most": most}).rowcount


@cache
def _statement(dependant: Dependant, dialect: str) -> sa.TextClause:
    table = metadata.tables[dependant.table]
    joins = "".join(f' JOIN "{parent}" ON "{parent}"."{theirs}" = "{one}"."{link}"' for one, link, parent, theirs in dependant.path)
    owner, _, column = dependant.column.partition(".")
    rest = f'FROM "{table.name}"{joins} WHERE "{owner}"."{column}" IN :owners LIMIT :most'
    if dialect == "sqlite":
        names = [column.name for column in table.primary_key]
        key, selected = ", ".join(f'"{name}"' for name in names), ", ".join(f'"{table.name}"."{name}"' for name in names)
        text = f'DELETE FROM "{table.name}" WHERE ({key}) IN (SELECT {selected} {rest})'  # noqa: S608  names of our own tables
    else:
        # By the rows' places: with a key of many columns the planner might read the whole table for each piece.
        text = f'DELETE FROM "{table.name}" WHERE ctid = ANY(ARRAY(SELECT "{table.name}".ctid {rest}))'  # noqa: S608
    return sa.text(text).bindparams(sa.bindparam("owners", expanding=True), sa.bindparam("most"))


def undeclared() -> list[str]:
    """Columns that look as if they held the id of a run, a logged model or an experiment, and of which nobody has said what becomes."""
    declared = {place for place, _, _ in LOOSE}
    names = ("run_id", "run_uuid", "model_id", "experiment_uid", "experiment_id")
    found = []
    for table in metadata.tables.values():
        for column in table.columns:
            place = f"{table.name}.{column.name}"
            if column.name.endswith(names) and not column.foreign_keys and place not in declared:
                found.append(place)
    return sorted(found)
