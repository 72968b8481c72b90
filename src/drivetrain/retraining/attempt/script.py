"""Run a training script as `python SCRIPT` would: `python -m drivetrain.retraining.attempt.script SCRIPT`.

It ends when the job that started it does, however that ended, with all that it has started itself: no two of them ever train into the same
run.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from drivetrain.compute import lifeline


def main() -> None:
    lifeline.watch()
    script = sys.argv[1]
    sys.argv = [script]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
