"""A child process as tests need it: `python -m tests.compute.child MODE`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

from drivetrain.compute import lifeline


def finish(*_: object) -> None:
    print("finished", flush=True)
    sys.exit(0)


def main() -> None:
    mode = sys.argv[1]
    if mode == "late":
        time.sleep(0.5)  # as if the interpreter took its time to start
    lifeline.watch()
    if mode == "late":
        time.sleep(1)
    if mode == "environ":
        print(*os.environ)
        return
    if mode == "polite":
        signal.signal(signal.SIGTERM, finish)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with subprocess.Popen(["sleep", "600"]) if mode == "family" else subprocess.Popen(["true"]):
        print("ready", flush=True)
        if mode == "busy":
            re.match(r"(a+)+$", "a" * 48 + "b")  # does not let go of the interpreter's lock
        time.sleep(600)


if __name__ == "__main__":
    main()
