"""No orphans, whatever dies: a child ends when the process that started it has gone.

The parent holds the write end of a pipe that nobody ever writes to; each child holds the read end. When the parent dies, by whatever
cause, the kernel closes the pipe, the child reads its end, and kills its own process group, and with it what it started itself.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "DRIVETRAIN_LIFELINE"


def watch() -> None:
    """Called first thing by every child's entry point. Without a lifeline in the environment (a person started it) it does nothing."""
    text = os.environ.pop(VARIABLE, "")
    if not text.isdigit():
        return
    pipe = int(text)
    os.set_inheritable(pipe, False)
    threading.Thread(target=_wait, args=(pipe,), name="lifeline", daemon=True).start()


def _wait(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)
