"""The client that commands use, and names for the shell to complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivetrain.client import Client


def connect(*, patience: float = 0.0, timeout: float = 120.0) -> Client:
    """The server of DRIVETRAIN_URL, else the one that runs on the default home, else the one at the default address."""
    from drivetrain.client import Client

    return Client(patience=patience, timeout=timeout)


def deployment_names(incomplete: str) -> list[str]:
    """For completion: never an error, never a long wait."""
    from drivetrain.errors import DrivetrainError

    try:
        with connect(timeout=1.0) as client:
            return [one.name for one in client.deployments.list() if one.name.startswith(incomplete)]
    except DrivetrainError:
        return []


def model_names(incomplete: str) -> list[str]:
    """As `deployment_names`, of the registry."""
    return _repo_names("model", incomplete)


def artifact_names(incomplete: str) -> list[str]:
    return _repo_names("artifact", incomplete)


def _repo_names(kind: str, incomplete: str) -> list[str]:
    from drivetrain.errors import DrivetrainError

    try:
        with connect(timeout=1.0) as client:
            return [one.slug for one in client.models.list(kind=kind) if one.slug.startswith(incomplete)]
    except DrivetrainError:
        return []
