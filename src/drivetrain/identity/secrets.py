"""Secrets (keys of upstreams, webhooks): encrypted at rest with the home's key file, readable by the server alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import TYPE_CHECKING

import sqlalchemy as sa

from drivetrain.errors import DrivetrainError, Invalid, NotFound
from drivetrain.identity.audit import Audit
from drivetrain.identity.model import Context, Scope
from drivetrain.identity.tables import secrets
from drivetrain.store.ids import now_ms
from drivetrain.store.sql import Database, upsert

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")


class Secrets:
    """Named secrets of a workspace. Values go in, and come out for the server's own use only."""

    def __init__(self, db: Database, secret: bytes, audit: Audit) -> None:
        self._db = db
        self._key = base64.urlsafe_b64encode(hmac.digest(secret, b"drivetrain:secrets", hashlib.sha256))
        self._audit = audit

    def set(self, ctx: Context, name: str, value: str) -> None:
        ctx.require(Scope.admin)
        if not _NAME.fullmatch(name):
            raise Invalid("A secret's name has up to 128 letters, digits, '_', '.' and '-', and begins with a letter.", param="name")
        row = {"workspace_id": ctx.workspace_id, "name": name, "sealed": self._fernet().encrypt(value.encode()), "updated_ms": now_ms()}
        with self._db.write() as connection:
            upsert(connection, secrets, [row], key=["workspace_id", "name"], update=["sealed", "updated_ms"])
            self._audit.record(connection, ctx, "secret.set", name)

    def get(self, workspace_id: str, name: str) -> str:
        """The value, for use inside the server. Never put it into an answer."""
        from cryptography.fernet import InvalidToken

        query = sa.select(secrets.c.sealed).where(secrets.c.workspace_id == workspace_id, secrets.c.name == name)
        with self._db.read() as connection:
            sealed = connection.execute(query).scalar()
        if sealed is None:
            raise NotFound(f"There is no secret {name!r}.")
        try:
            return self._fernet().decrypt(sealed).decode()
        except InvalidToken:
            raise DrivetrainError(f"The secret {name!r} was sealed with another key file. Set it anew.") from None

    def list(self, ctx: Context) -> list[tuple[str, int]]:
        """Names, and when they were set (ms)."""
        ctx.require(Scope.admin)
        query = sa.select(secrets.c.name, secrets.c.updated_ms).where(secrets.c.workspace_id == ctx.workspace_id).order_by(secrets.c.name)
        with self._db.read() as connection:
            return [(row.name, row.updated_ms) for row in connection.execute(query)]

    def delete(self, ctx: Context, name: str) -> None:
        ctx.require(Scope.admin)
        with self._db.write() as connection:
            done = connection.execute(sa.delete(secrets).where(secrets.c.workspace_id == ctx.workspace_id, secrets.c.name == name))
            if done.rowcount == 0:
                raise NotFound(f"There is no secret {name!r}.")
            self._audit.record(connection, ctx, "secret.delete", name)

    def _fernet(self) -> Fernet:
        from cryptography.fernet import Fernet  # late: a server without secrets never needs it

        return Fernet(self._key)
