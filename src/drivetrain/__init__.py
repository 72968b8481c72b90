"""drivetrain: everything around the model, on one store with one lineage.

    import drivetrain as dt

    client = dt.Client()                     # the server that DRIVETRAIN_URL names, or the one on this machine
    client.chat("smollm2", "Say hello.")
    with dt.init("experiment") as run:       # log a training: see docs/how-to/track.md
        run.log({"loss": 0.1})
    dt.log_profile(train, target="label")    # within mlflow.start_run(): what drift is measured against later

Names are loaded when they are first used, so that the import costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drivetrain.client import Client
    from drivetrain.client.profile import log_profile
    from drivetrain.errors import DrivetrainError
    from drivetrain.sdk import Run, init, log, runs

    __version__: str

__all__ = ["Client", "DrivetrainError", "Run", "__version__", "init", "log", "log_profile", "runs"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("drivetrain")
    if name == "Client":
        from drivetrain.client import Client

        return Client
    if name in ("Run", "init", "log", "runs"):
        from drivetrain import sdk

        return getattr(sdk, name)
    if name == "log_profile":
        from drivetrain.client.profile import log_profile

        return log_profile
    if name == "DrivetrainError":
        from drivetrain.errors import DrivetrainError

        return DrivetrainError
    raise AttributeError(f"module 'drivetrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
