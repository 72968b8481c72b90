"""Write the next step of the schema: what the tables in the code have and the newest step has not.

.venv/bin/python scripts/new-revision.py 0002 "Add a table of budgets"

Look over what it wrote (it compares structure; it cannot know about data), and raise HEAD in store/migrate.py.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile

from alembic import command
from alembic.script import ScriptDirectory

import drivetrain
from drivetrain.store.migrate import config
from drivetrain.store.sql import Database


def import_tables() -> None:
    """Import every module that declares tables."""
    for module in pkgutil.walk_packages(drivetrain.__path__, "drivetrain."):
        if module.name.rpartition(".")[2].startswith("tables"):
            importlib.import_module(module.name)


def main(number: str, message: str) -> None:
    import_tables()
    with tempfile.TemporaryDirectory() as folder:
        db = Database(f"sqlite:///{folder}/at-head.db")
        configuration = config()
        with db.write() as connection:
            configuration.attributes["connection"] = connection
            if ScriptDirectory.from_config(configuration).get_current_head() is not None:
                command.upgrade(configuration, "head")
            command.revision(configuration, message, autogenerate=True, rev_id=number)
        db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
