"""What the native API says of what was deleted for good."""

from __future__ import annotations

from msgspec import Struct

from drivetrain.tracking.deletion.model import Collected


class CollectedList(Struct, frozen=True):
    collections: list[Collected]
