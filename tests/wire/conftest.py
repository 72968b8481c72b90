"""One running server for each test of the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.running import Running, running


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Running]:
    """auth = open."""
    with running(tmp_path) as it:
        yield it


@pytest.fixture
def admin(wire: Running) -> str:
    """The same server, with auth = keys: an admin's key."""
    root = wire.identity.local_context()
    _, secret = wire.identity.create_key(root, scopes=("read", "write", "invoke", "admin"))
    wire.identity.set_auth(root, "keys")
    wire.refresh()
    return secret
