"""The production checklist of a deployment."""

from __future__ import annotations

from fastapi import APIRouter

from drivetrain.checklist.model import Checklist
from drivetrain.checklist.service import Checklists
from drivetrain.wire.answers import native_router
from drivetrain.wire.fastapi import Asking


def router(checklists: Checklists) -> APIRouter:
    """Include it before the router of deployments: their names may hold slashes, so what follows a name must come first."""
    api = native_router("serving")

    @api.get("/deployments/{name:path}/checklist")
    def checklist(ctx: Asking, name: str) -> Checklist:
        """What production asks of a deployment: each line with why it matters, and the command that mends it."""
        return checklists.of(ctx, name)

    return api
