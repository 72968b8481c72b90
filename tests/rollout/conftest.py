from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivetrain.store.home import Home
from drivetrain.store.sql import Database
from tests.rollout.parts import World
from tests.rollout.retraining import Scene


@pytest.fixture
def world(database: Database, tmp_path: Path) -> World:
    return World(database, tmp_path)


@pytest.fixture
def scene(database: Database, tmp_path: Path, home: Home) -> Iterator[Scene]:
    made = Scene(database, tmp_path, home)
    yield made
    made.spool.close()
