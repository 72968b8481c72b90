"""What an event keeps of a request's input and output: the deployment's policy.

| policy | kept |
|---|---|
| all | both texts, each up to `MOST` characters |
| sampled | as all, for a share of the requests that is chosen by their ids (so: the same choice everywhere) |
| hashed | `sha256:<hex>` of each: equal inputs are seen to be equal, nothing more |
| nothing | neither |
"""

from __future__ import annotations

from hashlib import sha256

MOST = 256 * 1024


def kept(policy: str, rate: float, request_id: str, text: str | bytes | None) -> str | None:
    """What the event may hold of `text`."""
    if text is None or policy == "nothing":
        return None
    if policy == "hashed":
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        return "sha256:" + sha256(raw).hexdigest()
    if policy == "sampled" and not chosen(rate, request_id):
        return None
    return _shortened(text)


def plain(policy: str) -> bool:
    """Whether events hold texts as they are."""
    return policy in ("all", "sampled")


def chosen(rate: float, request_id: str) -> bool:
    """Whether the sample of `rate` (0 to 1) holds this request. The random tail of a UUIDv7 decides."""
    return int(request_id[-8:], 16) < rate * 0x1_0000_0000


def _shortened(text: str | bytes) -> str:
    left = len(text) - MOST
    whole = text[:MOST] if left > 0 else text
    raw = whole if isinstance(whole, bytes) else whole.encode("utf-8", "replace")  # a lone surrogate cannot be written down
    shown = raw.decode("utf-8", "replace")
    return f"{shown}… ({left} more)" if left > 0 else shown
