"""A server with the small language model that a Python package ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.scripts import cli
from tests.conftest import Server


@pytest.fixture(scope="module")
def chat_server(server: Server, gguf_model: Path) -> Server:
    """`server` with SmolLM2 deployed as `bot`."""
    cli(server, "pull", str(gguf_model), "--name", "smollm2")
    cli(server, "deploy", "bot", "smollm2", "--wait")
    return server
