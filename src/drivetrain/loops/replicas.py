"""One replica process of this server, from its files to its end."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

import msgspec
from msgspec import Struct

from drivetrain.compute.address import Address
from drivetrain.compute.process import Compute, Process
from drivetrain.config import Settings
from drivetrain.engines import options, table
from drivetrain.engines.engine import Engine
from drivetrain.engines.model import BAD_MODEL, ReplicaSpec, ReplicaStatus
from drivetrain.errors import DrivetrainError
from drivetrain.loops.environments import Environments
from drivetrain.registry.model import FileEntry
from drivetrain.serving.model import Variant
from drivetrain.store.blobs import Blobs
from drivetrain.store.home import Home
from drivetrain.store.ids import now_ms, uuid7

HEALTH_SECONDS = 2.0
MOST_MISSES = 5
SETTLE_SECONDS = 0.5
"""Web processes may still be using the route table of a moment ago."""
Ask = Callable[[Callable[[], bool]], Future[bool]]
"""Asks a question about a replica off the loop."""
_OURS = re.compile(r"[0-9a-f]{12}\.(sock|json|status)")


class Failure(Struct, frozen=True):
    """Why a replica ended. `final`: another try would end the same way."""

    message: str
    final: bool = False


class Running:
    """States: preparing (files), starting, ready, draining, ended."""

    def __init__(self, variant: Variant, home: Home, compute: Compute) -> None:
        self.id = uuid7()
        self.variant = variant
        self.state = "preparing"
        self.address = compute.address(self.id[-12:])
        self.child: Process | None = None
        self.failure: Failure | None = None
        self.began = time.monotonic()
        self.ready_at: float | None = None
        self.draining_since: float | None = None
        self.started_ms = now_ms()
        self.ready_ms: int | None = None
        self.next_check = 0.0
        self.probe: Future[bool] | None = None
        self.idle: Future[bool] | None = None
        self.misses = 0
        self._home = home
        self._compute = compute
        self._order = home.runtime / f"{self.id[-12:]}.json"

    @property
    def engine(self) -> Engine:
        """Raises `Invalid` for one that this version does not have."""
        return table.find(self.variant.engine)

    def launch(self, blobs: Blobs, files: Callable[[str], Mapping[str, FileEntry]], environments: Environments, settings: Settings) -> None:
        """Put files and environment in place and start the process. Takes as long as those take to arrive."""
        folder = model_folder(self._home, self.variant.commit)
        materialise(blobs, files(self.variant.commit), folder)
        try:
            engine = self.engine
            chosen = asdict(options.read(engine.options, self.variant.options, settings))
            python = environments.python(engine, self.variant, folder, lambda: self.state != "ended")
        except DrivetrainError as error:
            if self.state != "ended":
                self.failure = Failure(error.message, final=True)
                self.state = "ended"
            return
        self.began = time.monotonic()
        spec = ReplicaSpec(
            id=self.id,
            name=self.variant.name,
            engine=engine.name,
            tasks=self.variant.tasks,
            model_dir=str(folder),
            address=self.address,
            options=chosen,
            slots=self.variant.slots,
        )
        self._order.write_bytes(msgspec.json.encode(spec))
        self._order.chmod(0o600)
        log = f"replica-{self.id}.log"
        child = self._compute.start(
            "drivetrain.engines.replica", [str(self._order)], log=log, environ=engine.environ(settings), python=python
        )
        self.child = child  # before the look at the state: whoever ends it from here on ends the child too
        if self.state == "ended":
            # Stopped while its files were on their way.
            self.end()
            return
        self.state = "starting"

    def check(self, settings: Settings, ask: Ask) -> None:
        """Look at the process, and at what it answered since the last look."""
        if self.child is None or self.state == "ended":
            return
        if self.child.code is not None:
            if self.state not in ("draining", "stopping"):
                self.failure = self._why(self.child)
            self.end()
            return
        now = time.monotonic()
        if self.state == "starting":
            if self._answer(ask, now, every=0.05, seconds=1.0):
                self.state, self.ready_at, self.ready_ms = "ready", now, now_ms()
            elif now - self.began > settings.start_seconds:
                self.failure = Failure(f"It was not ready within {settings.start_seconds:g} s (setting start_seconds). {self._words()}")
                self.end()
        elif self.state == "ready":
            answer = self._answer(ask, now, every=HEALTH_SECONDS, seconds=5.0)
            if answer is not None:
                self.misses = 0 if answer else self.misses + 1
            if self.misses >= MOST_MISSES:
                self.failure = Failure(f"It has not answered its health check {self.misses} times. {self._words()}")
                self.end()

    def _answer(self, ask: Ask, now: float, *, every: float, seconds: float) -> bool | None:
        """Whether it said that it is well, once for each answer; None while there is none."""
        if self.probe is None:
            if now >= self.next_check:
                self.next_check = now + every
                self.probe = ask(lambda: healthy(self.address, seconds=seconds))
            return None
        if not self.probe.done():
            return None
        asked, self.probe = self.probe, None
        return asked.result()

    def drain(self) -> None:
        """No new requests; it ends when it has finished what it has begun."""
        if self.state in ("starting", "ready"):
            self.state, self.draining_since = "draining", time.monotonic()
        elif self.state == "preparing":
            self.state = "ended"

    def drained(self, settings: Settings, ask: Ask) -> bool:
        """Whether a draining replica has nothing left to do (or has had time enough)."""
        assert self.draining_since is not None
        waited = time.monotonic() - self.draining_since
        if waited < SETTLE_SECONDS:
            return False
        if waited > settings.drain_seconds or self.ready_at is None:
            return True
        if self.idle is None:
            self.idle = ask(lambda: not self.engine.busy(lambda target: get(self.address, target, seconds=1.0)))
        elif self.idle.done():
            asked, self.idle = self.idle, None
            return asked.result()
        return False

    def end(self) -> None:
        """Kill what is left of it and tidy up."""
        self.state = "ended"
        if self.child is not None:
            self.child.kill()
            self.child.wait()
        self._compute.release(self.address)
        for suffix in (".json", ".status"):
            self._order.with_suffix(suffix).unlink(missing_ok=True)

    def _why(self, child: Process) -> Failure:
        status = self._status()
        if status is not None and status.state == "failed":
            return Failure(status.message, final=child.code == BAD_MODEL)
        code = child.code or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if self.state == "ready":
            return Failure(f"The process {how} while it served.")
        return Failure(f"The process {how} while it started. {self._words()}")

    def _status(self) -> ReplicaStatus | None:
        try:
            return msgspec.json.decode(self._order.with_suffix(".status").read_bytes(), type=ReplicaStatus)
        except (OSError, msgspec.DecodeError):
            return None

    def _words(self) -> str:
        words = self.child.last_words() if self.child is not None else ""
        return f"Its last words: {words[-600:]}" if words else ""


def tidy(home: Home) -> None:
    """Delete what replicas of an earlier life left in the runtime folder."""
    for path in home.runtime.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)


def model_folder(home: Home, commit: str) -> Path:
    return home.cache / "models" / commit


def materialise(blobs: Blobs, files: Mapping[str, FileEntry], folder: Path) -> None:
    """The files of a commit as a folder: hard links where blobs are local. Whole, or not there."""
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.{uuid7()[-8:]}.partial")
    for path, entry in files.items():
        target = partial / path
        if not target.resolve().is_relative_to(partial.resolve()):
            raise ValueError(f"{path!r} leaves its folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        blobs.materialise(entry.sha256, target)
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)  # another replica of the same version was faster


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("replica", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(address: str, target: str, *, seconds: float) -> tuple[int, bytes] | None:
    """GET from a replica; None when it does not answer. For the few small questions that loops ask."""
    path, host, port = Address.parse(address)
    connection = UnixConnection(path, seconds) if path else http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def healthy(address: str, *, seconds: float = 1.0) -> bool:
    answer = get(address, "/health", seconds=seconds)
    return answer is not None and answer[0] == 200
