"""drivetrain: everything around the model, on one store with one lineage.

    import drivetrain as dt

    client = dt.Client()                     # the server that DRIVETRAIN_URL names, or the one on this machine
    client.chat("smollm2", "Say hello.")

Names are loaded when they are first used, so that the import costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivetrain.client import Client
    from drivetrain.errors import DrivetrainError

    __version__: str

__all__ = ["Client", "DrivetrainError", "__version__"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("drivetrain")
    if name == "Client":
        from drivetrain.client import Client

        return Client
    if name == "DrivetrainError":
        from drivetrain.errors import DrivetrainError

        return DrivetrainError
    raise AttributeError(f"module 'drivetrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
