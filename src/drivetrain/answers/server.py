"""What the server says of itself."""

from __future__ import annotations

from msgspec import Struct


class Health(Struct, frozen=True, kw_only=True):
    """`status`: ok, degraded (it serves, but something is amiss) or starting. `database` and `events` say what is amiss, or ok."""

    status: str
    version: str
    database: str
    events: str
    events_lost: int
