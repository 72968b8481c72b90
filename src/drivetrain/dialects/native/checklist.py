"""The production checklist of a deployment."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter

from drivetrain.checklist.service import Checklists
from drivetrain.wire.fastapi import Asking


def router(checklists: Checklists) -> APIRouter:
    """Include it before the router of deployments: their names may hold slashes, so what follows a name must come first."""
    api = APIRouter(prefix="/api/v1", tags=["serving"])

    @api.get("/deployments/{name:path}/checklist")
    def checklist(ctx: Asking, name: str) -> dict[str, Any]:
        """What production asks of a deployment: each line with why it matters, and the command that mends it."""
        found: dict[str, Any] = msgspec.to_builtins(checklists.of(ctx, name))
        return found

    return api
