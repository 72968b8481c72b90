"""`drivetrain users` and `drivetrain workspaces`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago, console, emit, note

users = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")
workspaces = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

User = Annotated[str, typer.Argument(help="Name of the user.")]
Workspace = Annotated[str, typer.Argument(help="Name of the workspace.")]


class Role(StrEnum):
    viewer = "viewer"
    editor = "editor"
    admin = "admin"


@users.callback()
def all_users(context: typer.Context, as_json: JsonFlag = False) -> None:
    """People and service accounts that hold keys. Without a command: list them."""
    if context.invoked_subcommand is None:
        list_users(as_json=as_json)


@users.command("list")
def list_users(as_json: JsonFlag = False) -> None:
    """List users."""
    with connect() as client:
        found = client.users.list()
    if as_json:
        emit(found)
        return
    lines = [(u["name"], u.get("display"), "disabled" if u.get("disabled_ms") else "", ago(u["created_ms"])) for u in found]
    output.rows(output.table("user", "", "state", "made"), lines, empty="There is nobody.")


@users.command("create")
def create_user(name: User, display: Annotated[str, typer.Option(help="Full name.")] = "", as_json: JsonFlag = False) -> None:
    """Make a user, with a personal workspace of the same name."""
    with connect() as client:
        made = client.users.create(name, display=display)["user"]
    if as_json:
        emit(made)
    else:
        console().print(f"{name} is a user now.")
        note(f"[dim]Give a role: drivetrain workspaces add WORKSPACE {name}     A key: drivetrain keys create --user {name}[/]")


@users.command("disable")
def disable_user(name: User, as_json: JsonFlag = False) -> None:
    """Let none of the user's keys in, until enabled again."""
    with connect() as client:
        client.users.disable(name)
    emit({"user": name, "disabled": True}) if as_json else console().print(f"{name} is disabled.")


@users.command("enable")
def enable_user(name: User, as_json: JsonFlag = False) -> None:
    """Let the user's keys in again."""
    with connect() as client:
        client.users.enable(name)
    emit({"user": name, "disabled": False}) if as_json else console().print(f"{name} is enabled.")


@workspaces.callback()
def all_workspaces(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Workspaces: each has its own models, runs and deployments. Without a command: list yours.

    DRIVETRAIN_WORKSPACE chooses the one that commands work in.
    """
    if context.invoked_subcommand is None:
        list_workspaces(as_json=as_json)


@workspaces.command("list")
def list_workspaces(as_json: JsonFlag = False) -> None:
    """List your workspaces."""
    with connect() as client:
        found = client.workspaces.list()
    if as_json:
        emit(found)
        return
    lines = [(w["slug"], w.get("display"), w.get("role"), ago(w["created_ms"])) for w in found]
    output.rows(output.table("workspace", "", "your role", "made"), lines, empty="You are a member of none.")


@workspaces.command("create")
def create_workspace(name: Workspace, display: Annotated[str, typer.Option(help="Full name.")] = "", as_json: JsonFlag = False) -> None:
    """Make a workspace, with yourself as its admin."""
    with connect() as client:
        made = client.workspaces.create(name, display=display)["workspace"]
    if as_json:
        emit(made)
    else:
        console().print(f"The workspace {name} is there. Work in it with: export DRIVETRAIN_WORKSPACE={name}")


@workspaces.command()
def members(name: Workspace, as_json: JsonFlag = False) -> None:
    """List who is in a workspace, and in which role."""
    with connect() as client:
        found = list(client.workspaces.members(name))
    if as_json:
        emit(found)
    else:
        output.rows(output.table("user", "role", "since"), [(m["user"], m["role"], ago(m["created_ms"])) for m in found], empty="Nobody.")


@workspaces.command()
def add(
    name: Workspace,
    user: User,
    role: Annotated[
        Role, typer.Option(help="viewer reads and asks; editor also changes; admin also manages people and keys.")
    ] = Role.editor,
    as_json: JsonFlag = False,
) -> None:
    """Give a user a role in a workspace."""
    with connect() as client:
        client.workspaces.add(name, user, role.value)
    emit({"workspace": name, "user": user, "role": role.value}) if as_json else console().print(f"{user} is {role.value} of {name}.")


@workspaces.command()
def remove(name: Workspace, user: User, as_json: JsonFlag = False) -> None:
    """Take a user out of a workspace."""
    with connect() as client:
        client.workspaces.remove(name, user)
    emit({"workspace": name, "user": user, "role": None}) if as_json else console().print(f"{user} is no longer in {name}.")
