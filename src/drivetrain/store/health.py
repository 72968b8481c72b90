"""Whether a database answers and is whole: what `drivetrain doctor` says of it."""

from __future__ import annotations

import sqlalchemy as sa

from drivetrain.errors import Unavailable
from drivetrain.store.sql import Database


def examine(url: str) -> str:
    """The database's kind, version and, of PostgreSQL, where it is. Raises `Unavailable` with what is wrong; no password is in it."""
    db = Database(url)
    try:
        with db.read() as c:
            if db.kind == "sqlite":
                said = list(c.exec_driver_sql("PRAGMA quick_check(3)").scalars())
                if said != ["ok"]:
                    raise Unavailable(f"{db.url.database} is damaged: {'; '.join(said)[:200]}. Restore a backup: drivetrain restore")
                return f"SQLite {c.scalar(sa.text('select sqlite_version()'))}"
            return f"PostgreSQL {c.scalar(sa.text('show server_version'))} at {db.url.host or 'a socket'}"
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        raise Unavailable(f"{db.url.render_as_string(hide_password=True)}: {str(error).splitlines()[0][:200]}") from error
    finally:
        db.close()
