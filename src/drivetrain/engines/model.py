"""What the deployments loop and the process of a replica say to each other.

The loop writes a `ReplicaSpec` and starts `python -m drivetrain.engines.replica SPEC.json`. The replica listens on `socket`; `/health` there
answers 503 while it loads and 200 when it is ready. If it cannot start it writes a `ReplicaStatus` beside the socket (`….status`) and ends
with `BAD_MODEL` (trying again is useless) or another status (it may be tried again).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

BAD_MODEL = 3
"""Exit status: the model itself cannot be served by this engine."""


class ReplicaSpec(Struct, frozen=True, kw_only=True):
    """`slots` requests at once, `context_tokens` each; `threads` 0: one for each core."""

    id: str
    name: str
    engine: str
    tasks: tuple[str, ...]
    model_dir: str
    socket: str
    options: dict[str, Any]
    slots: int
    context_tokens: int
    threads: int


class ReplicaStatus(Struct, frozen=True, kw_only=True):
    """`state`: failed (the only one that a file is needed for). `message` is for people."""

    state: str
    message: str
