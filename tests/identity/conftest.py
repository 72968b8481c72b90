"""Identity on both databases."""

from __future__ import annotations

import pytest

from drivetrain.identity.model import Context
from drivetrain.identity.service import Identity
from drivetrain.store.sql import Database


@pytest.fixture
def identity(database: Database) -> Identity:
    made = Identity(database, b"s" * 32)
    made.bootstrap()
    return made


@pytest.fixture
def root(identity: Identity) -> Context:
    """The user of open mode, who may do everything."""
    return identity.local_context()
