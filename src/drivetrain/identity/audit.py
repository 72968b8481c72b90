"""Who did what: one row for each change of something that matters, in the transaction of the change."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from drivetrain.identity.model import Context, Entry, Scope
from drivetrain.identity.tables import audit
from drivetrain.store.ids import now_ms, uuid7
from drivetrain.store.sql import Database


class Audit:
    def __init__(self, db: Database) -> None:
        self._db = db

    def record(self, connection: sa.Connection, ctx: Context, action: str, what: str, detail: dict[str, Any] | None = None) -> None:
        """Add a row to the caller's transaction. `detail` must hold no secret."""
        connection.execute(
            sa.insert(audit).values(
                id=uuid7(),
                at_ms=now_ms(),
                workspace_id=ctx.workspace_id,
                user_id=ctx.user_id,
                user_name=ctx.user_name,
                key_id=ctx.key_id,
                request_id=ctx.request_id,
                action=action,
                object=what[:500],
                detail=detail or {},
            )
        )

    def log(self, ctx: Context, *, limit: int = 100) -> list[Entry]:
        """The newest entries of the workspace."""
        ctx.require(Scope.admin)
        query = (
            sa.select(audit).where(audit.c.workspace_id == ctx.workspace_id).order_by(audit.c.at_ms.desc(), audit.c.id.desc()).limit(limit)
        )
        with self._db.read() as connection:
            return [
                Entry(row.at_ms, row.user_name, row.key_id, row.request_id, row.action, row.object, row.detail)
                for row in connection.execute(query)
            ]
