"""`drivetrain env`: point every client at the server."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Annotated

import typer

from drivetrain.cli import output
from drivetrain.cli.output import JsonFlag, note

PLACEHOLDER = "dt-" + "open" * 10
"""A well-formed key for clients that refuse to start without one; with auth = open any is as good."""


class Shell(StrEnum):
    sh = "sh"
    fish = "fish"
    json = "json"


def exports(url: str, key: str = "", workspace: str = "") -> dict[str, str]:
    """What each client reads, for the dialects that the server has."""
    found = {
        "DRIVETRAIN_URL": url,
        "MLFLOW_TRACKING_URI": f"{url}/mlflow",
        "WANDB_BASE_URL": f"{url}/wandb",
        "WANDB_API_KEY": key or PLACEHOLDER,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": key or PLACEHOLDER,
        "OLLAMA_HOST": f"{url}/ollama",
    }
    if key:
        found |= {"DRIVETRAIN_API_KEY": key, "MLFLOW_TRACKING_TOKEN": key, "OLLAMA_API_KEY": key}
    if workspace:
        found |= {"DRIVETRAIN_WORKSPACE": workspace, "WANDB_ENTITY": workspace}
    return found


def env(
    shell: Annotated[Shell, typer.Option(help="For which shell: sh (also bash and zsh), fish, or json.")] = Shell.sh,
    as_json: JsonFlag = False,
) -> None:
    """Print the variables that point mlflow, wandb, openai, ollama and drivetrain itself at the server.

    In bash or zsh: `eval "$(drivetrain env)"`   In fish: `drivetrain env --shell fish | source`
    """
    from drivetrain.client.discovery import find
    from drivetrain.config import load_client

    server = find()
    # A key that one was given is passed on; the token that the home keeps for its owner's command line is not for other programs.
    key = load_client().api_key
    variables = exports(server.url, key, server.workspace)
    output.show(variables, lambda found: _lines(found, shell), as_json=as_json or shell is Shell.json)
    _remark(server.url, key)


def _lines(variables: dict[str, str], shell: Shell) -> None:
    for name, value in variables.items():
        quoted = shlex.quote(value)
        typer.echo(f"set -gx {name} {quoted};" if shell is Shell.fish else f"export {name}={quoted}")


def _remark(url: str, key: str) -> None:
    from drivetrain.cli.connect import connect
    from drivetrain.client.http import Unreachable
    from drivetrain.errors import DrivetrainError

    try:
        with connect(timeout=2.0) as client:
            keys_required = client.keys.me().auth == "keys"
    except Unreachable:
        note(f"# No server answers at {url} yet. Start one with: drivetrain up")
        return
    except DrivetrainError:
        keys_required = True
    if keys_required and not key:
        note("# This server wants a key. Make one with: drivetrain keys create   Then set DRIVETRAIN_API_KEY, and run this again.")
