"""`drivetrain keys`: who may use the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetrain.answers.identity import AuthMode, KeyMade
from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago, note
from drivetrain.identity.model import Key, Scope

if TYPE_CHECKING:
    from drivetrain.identity.model import Context
    from drivetrain.identity.service import Identity

app = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

OfHome = Annotated[
    Path | None, typer.Option("--home", help="Work on this home directly, without a server: none may be running on it.", show_default=False)
]


@app.callback()
def keys(context: typer.Context, as_json: JsonFlag = False) -> None:
    """API keys, and whether they are required. Without a command: list them.

    A new server listens on this machine only, and lets in everybody here (auth = open). `drivetrain keys require` changes that.
    """
    if context.invoked_subcommand is None:
        list_keys(as_json=as_json)


@app.command("list")
def list_keys(home: OfHome = None, as_json: JsonFlag = False) -> None:
    """List keys: yours, or all of them if you are an admin. Secrets are not kept, so they cannot be shown."""
    if home is not None:
        with offline(home) as (identity, ctx):
            found = identity.list_keys(ctx)
    else:
        with connect() as client:
            found = client.keys.list()
    output.show(found, _table, as_json=as_json)


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What it may do: read, write, invoke (ask models), admin. Repeat it. Default: read, write, invoke.", show_default=False
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Whose key it is. Default: yours.", show_default=False)] = None,
    workspace: Annotated[str | None, typer.Option(help="Good for this workspace only.", show_default=False)] = None,
    days: Annotated[float | None, typer.Option(min=0.0, help="Good for so many days. Default: until revoked.", show_default=False)] = None,
    home: OfHome = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key. Its secret is printed this once, and kept nowhere.

    `drivetrain keys create --name ci --scope read --scope write`     `drivetrain keys create --scope admin --home DIR`
    """
    scopes = [one.value for one in scope or (Scope.read, Scope.write, Scope.invoke)]
    if Scope.admin in scopes and len(scopes) == 1:
        scopes = [one.value for one in Scope]  # an admin may do the rest, too
    if home is not None:
        with offline(home) as (identity, ctx):
            made = KeyMade(*identity.create_key(ctx, name=name, user=user, workspace=workspace, scopes=scopes, days=days))
    else:
        with connect() as client:
            made = client.keys.create(name=name, user=user, workspace=workspace, scopes=scopes, days=days)
    output.show(made, _secret, as_json=as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `keys list` shows it.")], home: OfHome = None, as_json: JsonFlag = False
) -> None:
    """End a key, at once and for good."""
    if home is not None:
        with offline(home) as (identity, ctx):
            identity.revoke_key(ctx, key_id)
    else:
        with connect() as client:
            client.keys.revoke(key_id)
    output.show({"id": key_id, "revoked": True}, f"The key {key_id} lets nobody in any more.", as_json=as_json)


@app.command()
def require(
    off: Annotated[bool, typer.Option("--off", help="Let everybody in again who can reach the server.")] = False,
    home: OfHome = None,
    as_json: JsonFlag = False,
) -> None:
    """Let nobody in without a key, from now on (auth = keys). Somebody must hold a key with the scope admin first."""
    mode = "open" if off else "keys"
    if home is not None:
        with offline(home) as (identity, ctx):
            identity.set_auth(ctx, mode)
    else:
        with connect() as client:
            client.keys.set_auth(mode)
    said = "Keys are required now." if mode == "keys" else "Everybody who can reach the server is let in now."
    output.show(AuthMode(mode), said, as_json=as_json)


def _table(keys: list[Key]) -> None:
    lines = [
        (
            key.id,
            key.name,
            key.user,
            key.workspace or "all of the user's",
            " ".join(key.scopes),
            f"…{key.hint}",
            "revoked" if key.revoked_ms else ago(key.created_ms),
        )
        for key in keys
    ]
    made = output.table("id", "name", "user", "workspace", "scopes", "ends in", "made")
    output.rows(made, lines, empty="There is no key yet. Make one with: drivetrain keys create --scope admin")


def _secret(made: KeyMade) -> None:
    typer.echo(made.secret)
    note('[dim]Keep it: it is not shown again. Use it: export DRIVETRAIN_API_KEY=<it>, then eval "$(drivetrain env)"[/]')


@contextmanager
def offline(path: Path) -> Iterator[tuple[Identity, Context]]:
    """The identity service of a home that no server is using, as its owner."""
    from drivetrain.config import load
    from drivetrain.identity.service import Identity
    from drivetrain.store.backups.backup import backup_database
    from drivetrain.store.home import Home
    from drivetrain.store.migrate import migrate
    from drivetrain.store.sql import Database

    settings = load(path)
    home = Home.open(path)
    with home.lock():
        db = Database(settings.database_url or home.database_url)
        try:
            migrate(db, backup=lambda: backup_database(home, db))
            identity = Identity(db, home.secret)
            identity.bootstrap()
            yield identity, identity.local_context()
        finally:
            db.close()
