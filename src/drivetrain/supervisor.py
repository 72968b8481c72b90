"""The supervisor: owns every child, runs the loops, speaks no HTTP.

Web processes are started first: they take as long to import what they need as the supervisor itself does, and answer nobody before the
supervisor, which has brought the database up to date by then, sends them a route table.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.compute.front import Front
from drivetrain.compute.local import Local
from drivetrain.compute.process import Compute
from drivetrain.config import Settings
from drivetrain.errors import Invalid
from drivetrain.store.files import write_file
from drivetrain.store.home import Home

if TYPE_CHECKING:
    from drivetrain.platform import Platform
    from drivetrain.serving.gateway.channel import Message

log = logging.getLogger(__name__)

TOKEN_SECONDS = 366 * 24 * 3600.0
WATCH_SECONDS = 0.05
VERSION_SECONDS = 24 * 3600.0
"""How long the files of a deleted version stay, for whoever is reading them."""
LOG_BYTES = 16 << 20
LOGS = 3


def run(settings: Settings, say: Callable[[str], None]) -> None:
    """`drivetrain up`, until SIGTERM or SIGINT. Raises `Conflict` when the home or the port is taken, `Invalid` for settings that do not go
    together."""
    began = time.monotonic()
    stopping = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    home = Home.open(settings.home)
    _log_to(home.logs / "supervisor.log", settings)
    with home.lock():
        local = Local(home.logs, home.runtime)
        front = Front(settings, home, local, say)
        try:
            front.start()
            # Heavy imports, beside those of the web processes.
            from drivetrain.platform import Platform

            platform = Platform.open(settings, home, nudge=lambda _: None, migrating=True)
            try:
                Supervisor(platform, front, local, say).run(stopping, began)
            finally:
                platform.db.close()
        finally:
            front.stop(0.0)
            local.close()


class Supervisor:
    """The loops of one life of a server. Raises `Invalid` if everybody could do everything from everywhere."""

    def __init__(self, platform: Platform, front: Front, compute: Compute, say: Callable[[str], None]) -> None:
        from drivetrain.jobs.kinds import KINDS
        from drivetrain.loops.alerts import AlertSender
        from drivetrain.loops.deployments import Reconciler
        from drivetrain.loops.environments import Environments
        from drivetrain.loops.events import EventExpiry, SpoolWatch
        from drivetrain.loops.heartbeats import HeartbeatWatch
        from drivetrain.loops.jobs import JobRunner
        from drivetrain.loops.loop import Loop
        from drivetrain.loops.monitors import MonitorRunner
        from drivetrain.loops.purging import Purging
        from drivetrain.loops.retention import BlobSweeper, Leftovers
        from drivetrain.loops.retraining import RetrainingKeeper
        from drivetrain.loops.rollouts import RolloutKeeper
        from drivetrain.registry.forgetting import forget
        from drivetrain.retraining.watch import Watch
        from drivetrain.rollout.counting.fold import Counting
        from drivetrain.rollout.steps import Steps
        from drivetrain.serving.gateway.channel import ChannelServer, socket_path
        from drivetrain.store.events.fold import EventFolder
        from drivetrain.store.leases import Leases
        from drivetrain.tracking.deletion.purging import Purger
        from drivetrain.wire.hosts import is_loopback

        self._platform = platform
        self._front = front
        self._settings = settings = platform.settings
        self._home = home = platform.home
        self._say = say
        if platform.identity.auth_mode() == "open" and not is_loopback(settings.host):
            raise Invalid(
                f"To listen on {settings.host}, keys must be required, and they are not: everybody there could do everything. "
                f"First: drivetrain keys create --scope admin, then: drivetrain keys require"
            )
        self._channel = ChannelServer(socket_path(home.runtime), self._heard)
        self._deployments = Reconciler(
            platform.db,
            home,
            platform.blobs,
            platform.registry,
            platform.identity,
            Environments(platform.jobs, platform.identity, home),
            compute,
            settings,
            publish=self._channel.publish,
            inflight=self._channel.inflight,
        )
        leases, counting = Leases(platform.db, home.server_id), Counting()
        jobs = JobRunner(platform.jobs, KINDS, platform.identity, home, compute, leases, settings, url=front.inner_url)
        watch = Watch(platform.db, platform.retrainings, platform.serving, platform.feedback, platform.rollouts, platform.jobs)
        monitors = MonitorRunner(platform.monitors, platform.serving, platform.events, platform.lineages, platform.alerts)
        folder = EventFolder(platform.db, platform.blobs, home, settings, folds=[counting])
        rollouts = RolloutKeeper(
            Steps(
                platform.db,
                platform.serving,
                platform.feedback,
                counting,
                answers=platform.events,
                trained=platform.monitors.references,
            ),
            platform.alerts,
            moved=lambda: self._poke("deployments"),
        )
        sweeper = BlobSweeper(
            platform.blobs,
            platform.live_blobs,
            forget=lambda: forget(platform.db, platform.serving.needed, older_than_s=VERSION_SECONDS),
        )
        purging = Purging(platform.deletion, Purger(platform.db, platform.blobs, platform.live_blobs))
        loop = partial(Loop, leases=leases)
        loops = (
            loop("deployments", self._deployments.step, interval=1.0, first=0.0, end=self._deployments.end),
            loop("jobs", jobs.step, interval=1.0, first=0.0, end=jobs.end),
            loop("events", SpoolWatch(folder, settings).step, interval=0.5, end=folder.fold),
            loop("leftovers", Leftovers(platform.serving, platform.jobs, home).step, interval=3600.0, first=60.0),
            loop("rollouts", rollouts.step, interval=0.25, first=0.0, lease=10.0),
            loop("retraining", RetrainingKeeper(watch, platform.alerts).step, interval=1.0, lease=15.0),
            loop("alerts", AlertSender(platform.channels, home.logs, lambda: front.url).step, interval=5.0, gather=1.0, lease=60.0),
            loop("monitors", monitors.step, interval=5.0, lease=60.0),
            loop("heartbeats", HeartbeatWatch(platform.tracking).step, interval=20.0, lease=60.0),
            loop("expiry", EventExpiry(folder).step, interval=3600.0, first=60.0, lease=3600.0),
            loop("sweeping", sweeper.step, interval=3600.0, first=60.0, lease=3600.0),
            loop("purging", purging.step, interval=20.0, first=2.0, lease=60.0),
        )
        self._loops = {loop.name: loop for loop in loops}

    def run(self, stopping: threading.Event, began: float) -> None:
        gc.freeze()  # what is here now stays: no use in looking through it for garbage with every fold of events
        gc.set_threshold(50_000, 20, 20)  # nor in looking for circles, of which a fold leaves none, among what it has just made
        threads = [threading.Thread(target=loop.run, name=loop.name) for loop in self._loops.values()]
        for thread in threads:
            thread.start()
        self._write_server_file()
        told = False
        try:
            while not stopping.wait(WATCH_SECONDS):
                self._front.watch()
                if not told and self._front.answers():
                    told = True
                    self._say(f"drivetrain is at {self._front.url} (started in {time.monotonic() - began:.1f} s)   home: {self._home.path}")
                    self._say('Point your clients at it with: eval "$(drivetrain env)"   Stop with Ctrl-C.')
        finally:
            self._say("Stopping: requests in flight are finished first.")
            self._front.stop(self._settings.drain_seconds + 2)
            for loop in self._loops.values():
                loop.stop()
            for thread in threads:
                thread.join()
            self._channel.close()
            self._home.server_file.unlink(missing_ok=True)

    def _write_server_file(self) -> None:
        """For the command line on this home: the address, and an admin's token. Only the home's owner can read it."""
        identity = self._platform.identity
        token = identity.home_token(identity.local_context(), seconds=TOKEN_SECONDS)
        about = {"url": self._front.url, "pid": os.getpid(), "token": token}
        write_file(self._home.server_file, json.dumps(about).encode(), mode=0o600)

    def _heard(self, message: Message) -> None:
        if message.op == "wake":
            self._deployments.use(message.what)
            self._loops["deployments"].wake()
        elif message.op == "nudge":
            # What no loop is named after, as who has which key, is in the route table.
            self._poke(message.what if message.what in self._loops else "deployments")
            if message.what == "deployments":
                self._poke("rollouts")

    def _poke(self, name: str) -> None:
        self._loops[name].poke()


def _log_to(file: Path, settings: Settings) -> None:
    level = getattr(logging, settings.log_level.upper())
    handlers: list[logging.Handler] = [RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=LOGS)]
    if sys.stderr.isatty():
        handlers.append(logging.StreamHandler())
    logging.basicConfig(level=level, handlers=handlers, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
