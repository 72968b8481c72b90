"""`drivetrain up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drivetrain.config import doc


def up(
    home: Annotated[
        Path | None, typer.Option(help="Folder that holds everything (default: DRIVETRAIN_HOME, else your data folder).")
    ] = None,
    host: Annotated[str | None, typer.Option(help=doc("host"))] = None,
    port: Annotated[int | None, typer.Option(help=doc("port"), min=0, max=65535)] = None,
    web: Annotated[int | None, typer.Option(help=doc("web"), min=1, max=64)] = None,
    listen: Annotated[list[str] | None, typer.Option(help=doc("listen"))] = None,
) -> None:
    """Start the server: dashboard, API, every dialect, on one port. It runs until Ctrl-C or SIGTERM.

    All it knows is in its home. With nothing said it listens on 127.0.0.1:8787 and lets in everybody on this machine;
    `drivetrain keys require` changes that.
    """
    from drivetrain import config, supervisor

    settings = config.load(home, host=host, port=port, web=web, listen=tuple(listen) if listen else None)
    supervisor.run(settings, typer.echo)
