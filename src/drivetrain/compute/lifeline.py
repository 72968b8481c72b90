"""No orphans, whatever dies: a child ends when the process that started it has gone.

The parent holds the write end of a pipe that nobody ever writes to; each child holds the read end. When the parent dies, by whatever
cause, the kernel closes the pipe, and the child's process group, with all that it started itself, is killed. On Linux the kernel does that
too, so that not even a child that is busy in C code outlives its parent; elsewhere a thread does.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading

VARIABLE = "DRIVETRAIN_LIFELINE"
_F_SETSIG = 10  # <linux/fcntl.h>; Python has no name for it


def watch() -> None:
    """Called first thing by every child's entry point. Without a lifeline in the environment (a person started it) it does nothing."""
    text = os.environ.pop(VARIABLE, "")
    if not text.isdigit():
        return
    pipe = int(text)
    try:
        # The siblings share the inherited description; who gets the signal is a property of it, so each opens one of its own.
        own = os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_CLOEXEC)
        fcntl.fcntl(own, _F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(own, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:  # not on Linux
        own = os.dup(pipe)
    os.close(pipe)
    # This thread also sees a parent that was gone before the kernel was told.
    threading.Thread(target=_wait, args=(own,), name="lifeline", daemon=True).start()


def _wait(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.killpg(0, signal.SIGKILL)
