"""Forget what nobody needs: blobs that nothing names, and in this home the files of ended replicas and jobs.

Blobs are common to all servers of a database, so one of them sweeps, under a lease. Event segments go in a loop of their own.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from drivetrain.jobs.service import Jobs
from drivetrain.loops.loop import Loop
from drivetrain.serving.service import Serving
from drivetrain.store.blobs import Blobs
from drivetrain.store.home import Home

log = logging.getLogger(__name__)

BLOB_SECONDS = 24 * 3600.0
MODEL_SECONDS = 24 * 3600.0
LOG_SECONDS = 14 * 24 * 3600.0
MOST_LOGS = 500


class BlobSweeper:
    """`live` says which blobs are named by something; it is asked once for each sweep. `forget` is what goes before that."""

    def __init__(self, blobs: Blobs, live: Callable[[], Collection[str]], *, forget: Callable[[], object] = lambda: None) -> None:
        self._blobs = blobs
        self._live = live
        self._forget = forget

    def step(self, loop: Loop) -> None:
        if not loop.mine():
            return
        self._forget()
        count, size = self._blobs.sweep(self._live(), older_than_s=BLOB_SECONDS)
        if count:
            log.info("%d blobs that nothing names any more were deleted, %d bytes", count, size)


class Leftovers:
    """What replicas and jobs of this home have left there."""

    def __init__(self, serving: Serving, jobs: Jobs, home: Home) -> None:
        self._serving = serving
        self._jobs = jobs
        self._home = home

    def step(self, loop: Loop) -> None:
        self._forget_models()
        self._forget_job_folders()
        self._forget_logs()

    def _forget_models(self) -> None:
        """Folders of models that no deployment wants; they are made again from blobs when one does."""
        folder = self._home.cache / "models"
        used = self._serving.commits()
        for path in entries(folder):
            if path.name not in used and age(path) > MODEL_SECONDS:
                gone = path.with_name(f"{path.name}.gone.partial")
                try:
                    path.rename(gone)  # a folder is whole or not there
                except OSError:
                    continue
                shutil.rmtree(gone, ignore_errors=True)

    def _forget_job_folders(self) -> None:
        kept = self._jobs.open()
        for path in entries(self._home.path / "jobs"):
            if path.name not in kept and age(path) > MODEL_SECONDS:
                shutil.rmtree(path, ignore_errors=True)

    def _forget_logs(self) -> None:
        logs = [path for path in entries(self._home.logs) if path.name.startswith(("replica-", "job-"))]
        logs.sort(key=age)
        for i, path in enumerate(logs):
            if i >= MOST_LOGS or age(path) > LOG_SECONDS:
                path.unlink(missing_ok=True)


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def age(path: Path) -> float:
    """Seconds since it was last changed; 0 if it has gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
