"""Placeholder."""

from __future__ import annotations

from drivetrain.dialects.wandb.services import Services
from drivetrain.wire.request import Request


async def handle(request: Request, services: Services, path: str) -> bool:
    return False
