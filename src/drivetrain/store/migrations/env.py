"""Where Alembic starts: it gets an open connection from `drivetrain.store.migrate` and never makes its own."""

from __future__ import annotations

from alembic import context

from drivetrain.store.sql import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=False)
context.run_migrations()
