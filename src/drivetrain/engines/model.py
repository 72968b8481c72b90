"""What the deployments loop and the process of a replica say to each other.

The loop writes a `ReplicaSpec` and starts `python -m drivetrain.engines.replica SPEC.json`. The replica listens on `address`. Until it is
ready, `/health` there answers 503, or nobody listens yet; from then on it answers 200. A replica that cannot start writes a
`ReplicaStatus` beside the specification (x.json → x.status) and ends with `BAD_MODEL`: trying again is useless. Any other end is an
accident that may be tried again; its log has the last words. SIGTERM: finish what has begun, then end with 0.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

BAD_MODEL = 3
"""Exit status: the model itself cannot be served by this engine."""


class ReplicaSpec(Struct, frozen=True, kw_only=True):
    """`slots`: requests at once. `options`: all that the engine declares."""

    id: str
    name: str
    engine: str
    tasks: tuple[str, ...]
    model_dir: str
    address: str  # unix:/path or http://host:port
    options: dict[str, Any]
    slots: int


class ReplicaStatus(Struct, frozen=True, kw_only=True):
    """`state` is "failed", the only one that a file is needed for. `message` says to people why, and what to do."""

    state: str
    message: str
