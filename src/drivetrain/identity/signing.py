"""Tokens that the server itself signs: browser sessions, job tokens, addresses that clients open without credentials.

HMAC-SHA256 with a key that is derived from the home's secret for each purpose, so that a token for one can never be used for another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from typing import Any

import msgspec

from drivetrain.errors import Unauthenticated


class Signer:
    """Signs and verifies with the secret of one home."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, purpose: str, payload: dict[str, Any], seconds: float) -> str:
        """A token that is good for `seconds`."""
        body = msgspec.json.encode({**payload, "exp": time.time() + seconds})
        return _token(body, self._mac(purpose, body))

    def verify(self, purpose: str, token: str) -> dict[str, Any]:
        """The payload. Raises `Unauthenticated` for a token that was made for something else, changed, or has run out."""
        head, _, tail = token.partition(".")
        try:
            body, mac = _bytes(head), _bytes(tail)
        except (binascii.Error, ValueError):
            raise Unauthenticated("This token is not one that this server made.") from None
        # base64 has several spellings of the same bytes ("+" for "-", bits of the last character that mean nothing); a token has one.
        if token != _token(body, mac) or not hmac.compare_digest(mac, self._mac(purpose, body)):
            raise Unauthenticated("This token is not one that this server made for this purpose.")
        payload: dict[str, Any] = msgspec.json.decode(body)
        if payload["exp"] < time.time():
            raise Unauthenticated("This token has run out. Sign in again, or ask for a new address.")
        return payload

    def _mac(self, purpose: str, body: bytes) -> bytes:
        key = hmac.digest(self._secret, b"drivetrain:" + purpose.encode(), hashlib.sha256)
        return hmac.digest(key, body, hashlib.sha256)


def _token(body: bytes, mac: bytes) -> str:
    return f"{_text(body)}.{_text(mac)}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
