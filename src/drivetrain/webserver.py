"""A web process: one uvicorn on the sockets that the supervisor bound. It holds no truth and can be killed at any moment."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drivetrain.compute import lifeline


def main() -> None:
    lifeline.watch()
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--listeners", required=True, help="FD=DIALECT,… ; the first serves everything")
    arguments = parser.parse_args()
    # Imported after the lifeline hangs: a supervisor that dies meanwhile takes this process with it.
    from drivetrain.config import load
    from drivetrain.store.home import Home

    home = Home.open(arguments.home, create=False)
    told: dict[str, Any] = json.loads((home.runtime / "settings.json").read_text())
    settings = load(Path(told.pop("home")), environ={}, **told)
    logging.basicConfig(stream=sys.stderr, level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve(settings, home, arguments.index, arguments.listeners))


async def serve(settings: Any, home: Any, index: int, listeners: str) -> None:
    import uvicorn

    from drivetrain.app import Application
    from drivetrain.platform import Platform
    from drivetrain.serving.gateway.channel import ChannelClient, socket_path
    from drivetrain.serving.routes import RoutesHolder
    from drivetrain.store.events.spool import Spool
    from drivetrain.store.ids import uuid7

    routes = RoutesHolder()
    counts: list[Callable[[], dict[str, int]]] = []
    channel = ChannelClient(socket_path(home.runtime), routes, lambda: counts[0]() if counts else {})
    platform = Platform.open(settings, home, nudge=channel.nudge)
    spool = Spool(
        home.spool / uuid7(),
        fsync_s=settings.event_fsync_seconds,
        segment_s=settings.event_segment_seconds,
        segment_bytes=settings.event_segment_bytes,
    )
    sockets = [(socket.socket(fileno=int(fd)), dialect) for fd, _, dialect in (entry.partition("=") for entry in listeners.split(","))]
    ports = {sock.getsockname()[1]: dialect for sock, dialect in sockets if dialect}
    app = Application(platform, routes, spool, channel.wake, ports)
    counts.append(app.inflight)
    following = asyncio.create_task(channel.run())
    sharing = asyncio.create_task(app.share(os.getppid()))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    server = uvicorn.Server(config)
    app.stopping = lambda: server.should_exit
    async with asyncio.timeout(settings.start_seconds):
        await routes.changed(0)  # nobody is let in before it is known who may come in
    # uvicorn raises the signal that stopped it once more when it has finished; there is some tidying to do after that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    gc.freeze()  # what is here now stays: looking through it for garbage again and again would hold up streams
    (home.runtime / f"web-{index}.ready").touch()
    try:
        await server.serve([sock for sock, _ in sockets])
    finally:
        for task in (following, sharing):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await app.close()
        spool.close()
        platform.db.close()


if __name__ == "__main__":
    main()
