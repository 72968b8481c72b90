"""A command within a job: what it prints goes into the job's log, and nothing of it outlives the job or its time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from drivetrain.compute import lifeline

LAST_WORDS = 800


def run_logged(
    command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Callable[[str], None], *, limit: float | None = None
) -> tuple[int | None, str]:
    """Its status (None: it was stopped after `limit` seconds), and its last words.

    It has a process group of its own, with all that it starts, so that it can be stopped as a whole; and a lifeline, by which it ends with
    this process."""
    last: deque[str] = deque(maxlen=40)
    read, write = os.pipe()
    late = threading.Event()
    try:
        with subprocess.Popen(
            command,
            cwd=folder,
            env={**environ, lifeline.VARIABLE: str(read)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
            pass_fds=(read,),
            start_new_session=True,
        ) as child:

            def stop() -> None:
                late.set()
                _kill(child.pid)

            timer = threading.Timer(limit if limit is not None else threading.TIMEOUT_MAX, stop)
            timer.daemon = True
            timer.start()
            assert child.stdout is not None
            for line in child.stdout:
                log(line.rstrip("\n"))
                last.append(line)
            child.wait()
            timer.cancel()
            _kill(child.pid)  # what it may have left behind
    finally:
        os.close(write)
        os.close(read)
    stopped = late.is_set() and child.returncode != 0
    return None if stopped else child.returncode, "".join(last)[-LAST_WORDS:].strip()


def _kill(group: int) -> None:
    """End a process group, as far as there is still something of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
