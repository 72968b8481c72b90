"""`drivetrain users` and `drivetrain workspaces`."""

from __future__ import annotations

from typing import Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.connect import connect
from drivetrain.cli.output import JsonFlag, ago, console, note
from drivetrain.identity.model import Member, Role, User, Workspace

users = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")
workspaces = typer.Typer(invoke_without_command=True, rich_markup_mode="markdown")

UserName = Annotated[str, typer.Argument(help="Name of the user.")]
WorkspaceName = Annotated[str, typer.Argument(help="Name of the workspace.")]


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
    output.show(found, _users, as_json=as_json)


@users.command("create")
def create_user(name: UserName, display: Annotated[str, typer.Option(help="Full name.")] = "", as_json: JsonFlag = False) -> None:
    """Make a user, with a personal workspace of the same name."""
    with connect() as client:
        made = client.users.create(name, display=display)
    output.show(made, _welcome, as_json=as_json)


@users.command("disable")
def disable_user(name: UserName, as_json: JsonFlag = False) -> None:
    """Let none of the user's keys in, until enabled again."""
    with connect() as client:
        client.users.disable(name)
    output.show({"user": name, "disabled": True}, f"{name} is disabled.", as_json=as_json)


@users.command("enable")
def enable_user(name: UserName, as_json: JsonFlag = False) -> None:
    """Let the user's keys in again."""
    with connect() as client:
        client.users.enable(name)
    output.show({"user": name, "disabled": False}, f"{name} is enabled.", as_json=as_json)


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
    output.show(found, _workspaces, as_json=as_json)


@workspaces.command("create")
def create_workspace(name: WorkspaceName, display: Annotated[str, typer.Option(help="Full name.")] = "", as_json: JsonFlag = False) -> None:
    """Make a workspace, with yourself as its admin."""
    with connect() as client:
        made = client.workspaces.create(name, display=display)
    said = f"The workspace {name} is there. Work in it with: export DRIVETRAIN_WORKSPACE={name}"
    output.show(made, said, as_json=as_json)


@workspaces.command()
def members(name: WorkspaceName, as_json: JsonFlag = False) -> None:
    """List who is in a workspace, and in which role."""
    with connect() as client:
        found = list(client.workspaces.members(name))
    output.show(found, _members, as_json=as_json)


@workspaces.command()
def add(
    name: WorkspaceName,
    user: UserName,
    role: Annotated[
        Role, typer.Option(help="viewer reads and asks; editor also changes; admin also manages people and keys.")
    ] = Role.editor,
    as_json: JsonFlag = False,
) -> None:
    """Give a user a role in a workspace."""
    with connect() as client:
        client.workspaces.add(name, user, role.value)
    output.show({"workspace": name, "user": user, "role": role}, f"{user} is {role} of {name}.", as_json=as_json)


@workspaces.command()
def remove(name: WorkspaceName, user: UserName, as_json: JsonFlag = False) -> None:
    """Take a user out of a workspace."""
    with connect() as client:
        client.workspaces.remove(name, user)
    output.show({"workspace": name, "user": user, "role": None}, f"{user} is no longer in {name}.", as_json=as_json)


def _users(users: list[User]) -> None:
    lines = [(one.name, one.display, "disabled" if one.disabled_ms else "", ago(one.created_ms)) for one in users]
    output.rows(output.table("user", "", "state", "made"), lines, empty="There is nobody.")


def _welcome(user: User) -> None:
    console().print(f"{user.name} is a user now.")
    note(f"[dim]Give a role: drivetrain workspaces add WORKSPACE {user.name}     A key: drivetrain keys create --user {user.name}[/]")


def _workspaces(workspaces: list[Workspace]) -> None:
    lines = [(one.slug, one.display, one.role, ago(one.created_ms)) for one in workspaces]
    output.rows(output.table("workspace", "", "your role", "made"), lines, empty="You are a member of none.")


def _members(members: list[Member]) -> None:
    lines = [(one.user, one.role, ago(one.created_ms)) for one in members]
    output.rows(output.table("user", "role", "since"), lines, empty="Nobody.")
