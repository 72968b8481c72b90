"""The process of one replica: `python -m drivetrain.engines.replica SPEC.json`."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from pathlib import Path

import msgspec

from drivetrain.compute import lifeline
from drivetrain.engines import table
from drivetrain.engines.model import BAD_MODEL, ReplicaSpec, ReplicaStatus
from drivetrain.errors import Invalid


def main() -> None:
    lifeline.watch()
    order = Path(sys.argv[1])
    spec = msgspec.json.decode(order.read_bytes(), type=ReplicaSpec)
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    try:
        process = importlib.import_module(table.find(spec.engine).module)  # each imports its heavy library, and only its own
        process.serve(spec, stop)
    except Invalid as error:
        status = ReplicaStatus(state="failed", message=error.message)
        order.with_suffix(".status").write_bytes(msgspec.json.encode(status))
        print(error.message, file=sys.stderr, flush=True)
        sys.exit(BAD_MODEL)


if __name__ == "__main__":
    main()
