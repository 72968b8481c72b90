"""The front of a server: its listening sockets, and the web processes that share them.

The sockets are bound here and inherited, so that a web process can die and be replaced while others answer, and so that whoever connects
meanwhile waits in line instead of being refused.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

from drivetrain.compute.local import Child, Local
from drivetrain.config import Settings
from drivetrain.errors import Conflict, Invalid
from drivetrain.store.files import write_file
from drivetrain.store.home import Home

log = logging.getLogger(__name__)

STEADY_SECONDS = 30.0
LONGEST_BACKOFF = 10.0
MANY_DEATHS = 3
BACKLOG = 2048


class Front:
    """`say` tells the person who started the server. Raises `Conflict` for a port that is taken, `Invalid` for a wrong `listen`."""

    def __init__(self, settings: Settings, home: Home, local: Local, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._home = home
        self._local = local
        self._say = say
        self._web: list[_Web] = []
        self._sockets: list[tuple[socket.socket, str]] = []
        try:
            self._sockets.append((self._bind(settings.port), ""))
            for entry in settings.listen:
                port, _, dialect = entry.partition("=")
                if not port.isdigit() or not dialect:
                    raise Invalid(f"--listen takes PORT=DIALECT, as in 11434=ollama; {entry!r} is not that.", param="listen")
                self._sockets.append((self._bind(int(port)), dialect))
        except Exception:
            self._close()
            raise
        host, self.port = self._sockets[0][0].getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def inner_url(self) -> str:
        """Where this machine's own jobs reach the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._settings.host, self._settings.host)  # noqa: S104  compared, not bound
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"

    def start(self) -> None:
        """Start the web processes. They let nobody in before their first route table has come."""
        for ready in self._home.runtime.glob("web-*.ready"):
            ready.unlink(missing_ok=True)
        # The settings travel as a file, so that the command line's reach the web processes too.
        values = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self._settings).items()}
        write_file(self._home.runtime / "settings.json", json.dumps(values).encode(), mode=0o600)
        self._web = [_Web(index, self._start(index)) for index in range(self._settings.web)]

    def watch(self) -> None:
        """Replace web processes that have ended; one that keeps ending waits longer and longer. Call it often."""
        now = time.monotonic()
        for web in self._web:
            if web.child.code is None:
                continue
            if web.due is None:
                web.child.kill()
                web.deaths = 1 if now - web.born > STEADY_SECONDS else web.deaths + 1
                web.due = now + (0.0 if web.deaths == 1 else min(LONGEST_BACKOFF, 0.2 * 2.0**web.deaths))
                log.warning("web process %d ended with status %s: %s", web.index, web.child.code, web.child.last_words(400))
                if web.deaths == MANY_DEATHS:
                    self._say(f"Web process {web.index} keeps ending; its log is {web.child.log}")
            if now >= web.due:
                web.child, web.born, web.due = self._start(web.index), now, None

    def answers(self) -> bool:
        """Whether a web process has told that it is ready: it writes its file when its first route table has come."""
        return any(self._home.runtime.glob("web-*.ready"))

    def stop(self, seconds: float) -> None:
        """Take no new connections, let the web processes finish what they have begun, and end them."""
        for web in self._web:
            web.child.terminate()
        end = time.monotonic() + seconds
        for web in self._web:
            web.child.stop(max(0.0, end - time.monotonic()))
        self._web = []
        self._close()

    def _start(self, index: int) -> Child:
        listeners = ",".join(f"{sock.fileno()}={dialect}" for sock, dialect in self._sockets)
        arguments = ["--home", str(self._home.path), "--index", str(index), "--listeners", listeners]
        keep = [sock.fileno() for sock, _ in self._sockets]
        return self._local.start("drivetrain.webserver", arguments, log=f"web-{index}.log", keep=keep)

    def _bind(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._settings.host, port))
        except OSError as error:
            sock.close()
            raise Conflict(
                f"The port {port} of {self._settings.host} cannot be used: {error.strerror}. Name another with --port, or 0 for a free one."
            ) from error
        sock.listen(BACKLOG)
        sock.set_inheritable(True)
        return sock

    def _close(self) -> None:
        for sock, _ in self._sockets:
            sock.close()


class _Web:
    def __init__(self, index: int, child: Child) -> None:
        self.index = index
        self.child = child
        self.born = time.monotonic()
        self.deaths = 0
        self.due: float | None = None
