"""Bring a database to this version's schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from drivetrain.store import blobs, fold, leases  # noqa: F401 - their tables are part of the schema
from drivetrain.store.sql import Database, metadata


def migrate(db: Database, *, backup: Callable[[], Path] | None = None) -> None:
    """Make what is missing. `backup` is called before a database with an older schema is changed."""
    with db.write() as connection:
        metadata.create_all(connection)
