"""Bring a database to this version's schema, step by step, in one transaction.

The steps are in `migrations/versions`. Alembic is imported only if there is something to do: a server that starts on a home of its own
version needs one query.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from drivetrain.errors import Invalid
from drivetrain.store import blobs, leases  # noqa: F401 - their tables are part of the schema
from drivetrain.store.events import fold  # noqa: F401 - their tables are part of the schema
from drivetrain.store.sql import Database

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
"""The newest step. A test compares it with the files."""

_LOCK = 0x6472_6976
"""Number of PostgreSQL's advisory lock: one migrates, others wait and find it done."""


def migrate(db: Database, *, backup: Callable[[], Path] | None = None) -> None:
    """Make the schema what this version needs. `backup` is called before a database with an older schema is changed.

    Raises Invalid for a schema that is newer than this version.
    """
    revision = revision_of(db)
    if revision == HEAD:
        return
    if revision is not None:
        _refuse_newer(revision)
        if backup is not None:
            backup()
    with db.write() as connection:
        if db.kind == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if _revision(connection) != HEAD:
            upgrade(connection, HEAD)


def revision_of(db: Database) -> str | None:
    """The step that the database is at; None if it has no schema yet."""
    with db.read() as connection:
        return _revision(connection)


def upgrade(connection: sa.Connection, revision: str) -> None:
    """Take the steps up to `revision` within the caller's transaction."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    configuration = config()
    configuration.attributes["connection"] = connection
    try:
        ScriptDirectory.from_config(configuration).get_revision(revision)
    except CommandError:
        _refuse_newer(revision)
    command.upgrade(configuration, revision)


def config() -> Config:
    """Alembic's configuration: where the steps are."""
    from alembic.config import Config

    found = Config()
    found.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    found.set_main_option("path_separator", "os")
    found.set_main_option("file_template", "r%%(rev)s_%%(slug)s")
    return found


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version = sa.table("alembic_version", sa.column("version_num"))
    return connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()


def _refuse_newer(revision: str) -> None:
    if revision > HEAD:
        raise Invalid(
            f"The database was written by a newer drivetrain (schema {revision[:40]}; this one knows {HEAD}). Upgrade drivetrain, or "
            f"restore a backup that this version made."
        )
