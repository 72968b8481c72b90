from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.identity.model import Context
from drivetrain.store.blobs import Blobs
from drivetrain.store.sql import Database
from drivetrain.tracking.service import Tracking


@pytest.fixture
def tracking(database: Database, tmp_path: Path) -> Tracking:
    return Tracking.of(database, Blobs(database, str(tmp_path / "blobs"), min_free=0, scratch=tmp_path / "scratch"))


@pytest.fixture
def ctx() -> Context:
    return Context("u1", "ann", "w1", "red")


@pytest.fixture
def stranger() -> Context:
    """Somebody in another workspace."""
    return Context("u2", "bob", "w2", "blue")
