"""Which server to speak to: DRIVETRAIN_URL, else the one that runs on the default home, else the default address."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from drivetrain.config import ClientSettings, default_home, load_client


def find(home: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> ClientSettings:
    """The address and key to use. A `home` that is named comes before the environment.

    The key is DRIVETRAIN_API_KEY, else the token that the server left in its home for its owner.
    """
    given = load_client(environ=environ)
    url, token = running(home or default_home(environ))
    if home is None and "DRIVETRAIN_URL" in environ:
        # The token of a home goes to the server of that home only.
        same = given.url.rstrip("/") == url
        return replace(given, url=given.url.rstrip("/"), api_key=given.api_key or (token if same else ""))
    if not url:
        return given
    return replace(given, url=url, api_key=given.api_key or token)


def running(home: Path) -> tuple[str, str]:
    """(address, token) that the server of a home has left there; empty where none runs or they cannot be read."""
    try:
        said = json.loads((home / "server.json").read_text())
        os.kill(int(said["pid"]), 0)  # its port may be somebody else's by now, who must not get the token
        return str(said["url"]).rstrip("/"), str(said.get("token", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", ""
