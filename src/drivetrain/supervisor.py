"""The supervisor: owns every child, runs the loops, speaks no HTTP.

It binds the port and passes it to its web processes, so that one of them can die and be replaced while the others answer.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from drivetrain.app import JOB_HANDLERS, Platform, build
from drivetrain.compute.local import Child, Local
from drivetrain.config import Settings
from drivetrain.errors import Conflict, Invalid
from drivetrain.loops.deployments import DeploymentsLoop
from drivetrain.loops.environments import Environments
from drivetrain.loops.events import EventsLoop
from drivetrain.loops.jobs import JobsLoop
from drivetrain.loops.retention import RetentionLoop
from drivetrain.serving.channel import ChannelServer, Message, socket_path
from drivetrain.store.files import write_file
from drivetrain.store.fold import EventFolder
from drivetrain.store.home import Home
from drivetrain.store.leases import Leases

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
TOKEN_SECONDS = 366 * 24 * 3600.0
WATCH_SECONDS = 0.05


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """`drivetrain up`, until SIGTERM or SIGINT. Raises `Conflict` when the home or the port is taken, `Invalid` for settings that do not go
    together."""
    home = Home.open(settings.home)
    _log_to(home.logs / "supervisor.log", settings)
    with home.lock():
        platform = build(settings, home, nudge=lambda _: None, migrating=True)
        try:
            Supervisor(platform, say).run()
        finally:
            platform.db.close()


class Supervisor:
    """One life of a server."""

    def __init__(self, platform: Platform, say: Callable[[str], None]) -> None:
        self._platform = platform
        self._settings = platform.settings
        self._home = platform.home
        self._say = say
        self._stopping = threading.Event()
        if platform.identity.auth_mode() == "open" and self._settings.host not in LOOPBACK:
            raise Invalid(
                f"To listen on {self._settings.host}, keys must be required, and they are not: everybody there could do everything. "
                f"First: drivetrain keys create --scope admin, then: drivetrain keys require"
            )
        self._sockets = [(self._listen(self._settings.port), "")]
        for entry in self._settings.listen:
            port, _, dialect = entry.partition("=")
            if not port.isdigit() or not dialect:
                raise Invalid(f"--listen takes PORT=DIALECT, as in 11434=ollama; {entry!r} is not that.", param="listen")
            self._sockets.append((self._listen(int(port)), dialect))
        host, port = self._sockets[0][0].getsockname()[:2]
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._local = Local(self._home.logs)
        self._channel = ChannelServer(socket_path(self._home.runtime), self._heard)
        self._deployments = DeploymentsLoop(
            platform.db,
            self._home,
            platform.blobs,
            platform.registry,
            platform.identity,
            Environments(platform.jobs, platform.identity, self._home),
            self._local,
            self._settings,
            publish=self._channel.publish,
            inflight=self._channel.inflight,
        )
        leases = Leases(platform.db, self._home.server_id)
        self._jobs = JobsLoop(
            platform.jobs, JOB_HANDLERS, platform.identity, self._home, self._local, leases, self._settings, url=self._inner_url(port)
        )
        self._events = EventsLoop(EventFolder(platform.db, platform.blobs, self._home, self._settings), leases, self._settings)
        self._retention = RetentionLoop(
            platform.blobs,
            lambda: platform.registry.live_blobs() | platform.tracking.live_blobs(),
            platform.serving,
            platform.jobs,
            self._home,
            leases,
        )

    def run(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: self._stopping.set())
        began = time.monotonic()
        web = [self._start_web(i) for i in range(self._settings.web)]
        loops = (self._deployments, self._jobs, self._events, self._retention)
        threads = [threading.Thread(target=loop.run, name=type(loop).__name__) for loop in loops]
        for thread in threads:
            thread.start()
        self._write_server_file()
        try:
            self._watch(web, began)
        finally:
            self._say("Stopping: requests in flight are finished first.")
            for child in web:
                child.terminate()
            end = time.monotonic() + self._settings.drain_seconds + 2
            for child in web:
                child.stop(max(0.0, end - time.monotonic()))
            for loop in loops:
                loop.stop()
            for thread in threads:
                thread.join()
            self._channel.close()
            self._local.close()
            self._home.server_file.unlink(missing_ok=True)

    def _watch(self, web: list[Child], began: float) -> None:
        """Web processes are replaced when they end; one that keeps ending waits longer and longer."""
        told = False
        deaths = [0] * len(web)
        born = [time.monotonic()] * len(web)
        due = [0.0] * len(web)
        while not self._stopping.wait(WATCH_SECONDS):
            now = time.monotonic()
            for i, child in enumerate(web):
                if child.code is None:
                    continue
                if due[i] == 0.0:
                    child.kill()
                    deaths[i] = 1 if now - born[i] > 30 else deaths[i] + 1
                    due[i] = now + (0.0 if deaths[i] == 1 else min(10.0, 0.2 * 2.0 ** deaths[i]))
                    log.warning("web process %d ended with status %s: %s", i, child.code, child.last_words(400))
                    if deaths[i] >= 3:
                        self._say(f"Web process {i} keeps ending; its log is {child.log}")
                if now >= due[i]:
                    web[i], born[i], due[i] = self._start_web(i), now, 0.0
            if not told and self._answers():
                told = True
                self._say(f"drivetrain is at {self._url} (started in {now - began:.1f} s)   home: {self._home.path}")
                self._say('Point your clients at it with: eval "$(drivetrain env)"   Stop with Ctrl-C.')

    def _answers(self) -> bool:
        """Whether a web process has told that it is ready: it writes its file when its first route table has come."""
        return any(self._home.runtime.glob("web-*.ready"))

    def _start_web(self, index: int) -> Child:
        (self._home.runtime / f"web-{index}.ready").unlink(missing_ok=True)
        descriptors = [sock.fileno() for sock, _ in self._sockets]
        listeners = ",".join(f"{sock.fileno()}={dialect}" for sock, dialect in self._sockets)
        arguments = ["--home", str(self._home.path), "--index", str(index), "--listeners", listeners]
        # The settings travel as one file, so that the command line's reach the web processes too.
        file = self._home.runtime / "settings.json"
        write_file(file, json.dumps(_plain(self._settings)).encode(), mode=0o600)
        return self._local.start("drivetrain.webserver", arguments, log=f"web-{index}.log", keep=descriptors)

    def _listen(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        sock = socket.socket(family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._settings.host, port))
        except OSError as error:
            sock.close()
            raise Conflict(
                f"The port {port} of {self._settings.host} cannot be used: {error.strerror}. Name another with --port, or 0 for a free one."
            ) from error
        sock.listen(2048)
        sock.set_inheritable(True)
        return sock

    def _inner_url(self, port: int) -> str:
        """Where this machine's own jobs reach the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._settings.host, self._settings.host)  # noqa: S104  compared, not bound
        return f"http://{host}:{port}"

    def _write_server_file(self) -> None:
        """For the command line on this home: the address, and an admin's token. Only the home's owner can read it."""
        token = self._platform.identity.home_token(self._platform.identity.local_context(), seconds=TOKEN_SECONDS)
        about = {"url": self._url, "pid": os.getpid(), "token": token}
        write_file(self._home.server_file, json.dumps(about).encode(), mode=0o600)

    def _heard(self, message: Message) -> None:
        if message.op == "wake":
            self._deployments.wake(message.what)
        elif message.op == "nudge":
            (self._jobs if message.what == "jobs" else self._deployments).poke()


def _plain(settings: Settings) -> dict[str, object]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(settings).items()}


def _log_to(file: Path, settings: Settings) -> None:
    level = getattr(logging, settings.log_level.upper())
    handlers: list[logging.Handler] = [logging.FileHandler(file)]
    if sys.stderr.isatty():
        handlers.append(logging.StreamHandler())
    logging.basicConfig(level=level, handlers=handlers, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
