"""`drivetrain backup` and `restore`: a whole home in one file."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.output import JsonFlag, note, size
from drivetrain.errors import Conflict

OfHome = Annotated[Path | None, typer.Option("--home", help="Which home.", show_default="DRIVETRAIN_HOME or the user's data folder")]


def backup(
    archive: Annotated[Path, typer.Argument(help="The file to write, as in drivetrain.tar.", dir_okay=False)],
    home: OfHome = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write everything that a home holds into one file: database, blobs, events and the key file. A server may go on running.

    Keep the file as safe as the home: it holds the key that decrypts the secrets.
    """
    from drivetrain.config import default_home, load
    from drivetrain.store.backups.backup import backup as write
    from drivetrain.store.home import Home
    from drivetrain.store.sql import Database

    if archive.exists() and not force:
        raise Conflict(f"{archive} exists already. Choose another name, or overwrite it with --force.")
    path = home or default_home()
    opened = Home.open(path, create=False)
    settings = load(path)
    with ExitStack() as stack:
        try:
            stack.enter_context(opened.lock())
        except Conflict:
            # A snapshot of the database and files that never change: a server that writes meanwhile does no harm.
            note("[dim]A server is running here; it goes on.[/]")
        db = Database(settings.database_url or opened.database_url)
        stack.callback(db.close)
        tell = stack.enter_context(output.progress(f"backing up {path}"))
        write(opened, db, archive, lambda done, total: tell(done, total, f"backing up {path}"))
    written = archive.stat().st_size
    found = {"archive": str(archive), "home": str(opened.path), "bytes": written}
    output.show(found, f"{opened.path} is in {archive} ({size(written)}).", as_json=as_json)


def restore(
    archive: Annotated[Path, typer.Argument(help="A file that `drivetrain backup` wrote.", dir_okay=False)],
    home: Annotated[Path, typer.Option("--home", help="Where to: a folder that is not there yet, or is empty.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a new home out of a backup. Nothing that exists is overwritten."""
    from drivetrain.store.backups.backup import restore as read

    with output.progress(f"restoring {home}") as tell:
        read(archive, home, lambda done, total: tell(done, total, f"restoring {home}"))
    found = {"archive": str(archive), "home": str(home.absolute())}
    output.show(found, f"{home} is complete. Start it: drivetrain up --home {home}", as_json=as_json)
