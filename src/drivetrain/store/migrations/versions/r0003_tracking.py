"""Tracking for two clients: details of runs, artifacts, sweeps, traces, evaluation datasets, scorers."""

from __future__ import annotations

import importlib
import pkgutil

from alembic import op

import drivetrain
from drivetrain.store.sql import metadata

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    for module in pkgutil.walk_packages(drivetrain.__path__, "drivetrain."):
        if module.name.rpartition(".")[2].startswith("tables"):
            importlib.import_module(module.name)
    metadata.create_all(op.get_bind(), checkfirst=True)
