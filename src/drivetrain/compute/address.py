"""Where a process listens: a Unix socket of this machine, or a port of some host."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from drivetrain.errors import Invalid


class Address(NamedTuple):
    """One or the other: `path` of a Unix socket, else `host` and `port`. As text: `unix:/path` or `http://host:port`."""

    path: str
    host: str
    port: int

    @classmethod
    def unix(cls, path: Path) -> Self:
        return cls(str(path), "", 0)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `Invalid` for what is neither."""
        if text.startswith("unix:/"):
            return cls(text.removeprefix("unix:"), "", 0)
        try:
            url = urlsplit(text)
            if url.scheme == "http" and url.hostname and url.port and url.path in ("", "/"):
                return cls("", url.hostname, url.port)
        except ValueError:
            pass
        raise Invalid(f"{text[:200]!r} is no address of a process: unix:/path or http://host:port.")

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
