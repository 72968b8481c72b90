from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.identity.model import Context
from drivetrain.registry.service import Registry
from drivetrain.store.blobs import Blobs
from drivetrain.store.sql import Database


@pytest.fixture
def ctx() -> Context:
    return Context("u1", "ada", "w1", "vision")


@pytest.fixture
def other() -> Context:
    return Context("u2", "bob", "w2", "speech")


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    return Registry(database, Blobs(database, str(tmp_path / "blobs"), min_free=0, scratch=tmp_path / "scratch"))


def put(registry: Registry, text: str) -> str:
    return registry.blobs.put([text.encode()]).sha256
