"""The names under which this server may be addressed.

A page on the web can make a browser send requests to a name of its own that points at 127.0.0.1 (DNS rebinding). Such a request says so in
its Host header, so a name that is not ours is refused. An address in numbers cannot be rebound: those are good wherever we listen.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

_MOST = 256


class Hosts:
    """`bind` is the address that the server listens on; `allowed` has more names: exact ones, or `*.example.org`."""

    def __init__(self, bind: str = "127.0.0.1", allowed: Sequence[str] = ()) -> None:
        names = {name.lower().rstrip(".") for name in allowed}
        self._exact = frozenset({"localhost", bind.lower(), *(name for name in names if not name.startswith("*."))})
        self._below = (".localhost", *(name[1:] for name in names if name.startswith("*.")))
        address = _address(bind)
        self._everywhere = bind == "" or (address is not None and address.is_unspecified)
        self._seen: dict[bytes, bool] = {}

    def known(self, header: bytes) -> bool:
        """Whether a Host header names this server."""
        good = self._seen.get(header)
        if good is None:
            good = self._known(header.decode("latin-1"))
            if len(self._seen) >= _MOST:
                self._seen.clear()
            self._seen[header] = good
        return good

    def _known(self, header: str) -> bool:
        name = _without_port(header.strip().lower())
        if name in self._exact or name.endswith(self._below):
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or self._everywhere)


def is_loopback(bind: str) -> bool:
    """Whether only this machine can reach a server that listens on `bind`."""
    address = _address(bind)
    return bind.lower() == "localhost" if address is None else address.is_loopback


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
