"""The schema: what the steps make is what the code's tables say, on both databases."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import drivetrain
from drivetrain.errors import Invalid
from drivetrain.store.migrate import HEAD, config, migrate, revision_of
from drivetrain.store.sql import Database, metadata


@pytest.fixture(scope="module", autouse=True)
def all_tables() -> None:
    for module in pkgutil.walk_packages(drivetrain.__path__, "drivetrain."):
        if module.name.rpartition(".")[2].startswith("tables"):
            importlib.import_module(module.name)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Make databases without a schema."""
    made: list[Database] = []

    def new() -> Database:
        url = f"sqlite:///{tmp_path}/{len(made)}.db" if request.param == "sqlite" else request.getfixturevalue("new_postgres")()
        made.append(Database(url))
        return made[-1]

    yield new
    for db in made:
        db.close()


def schema(db: Database) -> dict[str, list[str]]:
    """Everything in the database's own words, in an order that does not matter."""
    with db.read() as connection:
        if db.kind == "sqlite":
            rows = connection.exec_driver_sql("SELECT tbl_name, name, coalesce(sql, '') FROM sqlite_master").all()
            found = {f"{table}.{name}": sorted(re.split(r",\s(?=\S)", re.sub(r"\s+", " ", text))) for table, name, text in rows}
            found = {name: sorted(part.strip(" )") for part in parts) for name, parts in found.items()}
        else:
            columns = connection.exec_driver_sql(
                "SELECT table_name || '.' || column_name, data_type, character_maximum_length, is_nullable, column_default "
                "FROM information_schema.columns WHERE table_schema = 'public'"
            ).all()
            indexes = connection.exec_driver_sql("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'").all()
            constraints = connection.exec_driver_sql(
                "SELECT conrelid::regclass::text || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0"
            ).all()
            found = {str(row[0]): [str(value) for value in row[1:]] for row in (*columns, *indexes, *constraints)}
    return {name: parts for name, parts in found.items() if "alembic_version" not in name}


def test_the_steps_make_what_the_tables_say(new_database: Callable[[], Database]) -> None:
    migrated, direct = new_database(), new_database()
    migrate(migrated)
    with direct.write() as connection:
        metadata.create_all(connection)
    assert schema(migrated) == schema(direct)
    with migrated.read() as connection:
        # Alembic cannot read SQLite's indexes on expressions; all indexes have been compared word by word above.
        opts = {"compare_type": True, "compare_server_default": True, "include_object": lambda *found: found[2] != "index"}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing_and_needs_no_backup(new_database: Callable[[], Database]) -> None:
    db = new_database()
    assert revision_of(db) is None
    backups: list[Path] = []

    def backup() -> Path:
        backups.append(Path())
        return Path()

    migrate(db, backup=backup)
    assert revision_of(db) == HEAD
    migrate(db, backup=backup)
    assert backups == []  # there was nothing before


def test_an_older_schema_is_backed_up_first(new_database: Callable[[], Database]) -> None:
    db = new_database()
    migrate(db)
    with db.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))

    class CalledError(Exception):
        pass

    def backup() -> Path:
        raise CalledError

    with pytest.raises(CalledError):
        migrate(db, backup=backup)


def test_a_newer_schema_is_refused(new_database: Callable[[], Database]) -> None:
    db = new_database()
    migrate(db)
    with db.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Invalid, match="newer drivetrain"):
        migrate(db)


def test_many_servers_migrate_at_once(new_database: Callable[[], Database]) -> None:
    first = new_database()
    url = first.url.render_as_string(hide_password=False)
    others = [Database(url) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [first, *others]))
    assert revision_of(first) == HEAD
    for db in others:
        db.close()


def test_a_step_that_fails_leaves_no_trace(new_database: Callable[[], Database]) -> None:
    db = new_database()
    with db.write() as connection:
        connection.execute(sa.text("CREATE TABLE runs (mine INTEGER)"))
    with pytest.raises(sa.exc.DBAPIError):
        migrate(db)
    with db.read() as connection:
        assert sa.inspect(connection).get_table_names() == ["runs"]


def test_head_is_the_newest_step() -> None:
    assert ScriptDirectory.from_config(config()).get_heads() == [HEAD]
