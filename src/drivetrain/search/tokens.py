"""Page tokens: where a page ended, as a text that a client sends back."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from drivetrain.errors import Invalid

_SHOWN = 60


def to_token(values: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def from_token(token: str, length: int | None = None) -> list[Any]:
    """Raises `Invalid` for a token that was not made here."""
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, binascii.Error):
        found = None
    if not isinstance(found, list) or (length is not None and len(found) != length):
        shown = repr(token if len(token) <= _SHOWN else token[:_SHOWN] + "…")
        raise Invalid(f"{shown} is not a page token of this search: send the one that came with the page before.", param="page_token")
    return found
