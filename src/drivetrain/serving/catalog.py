"""What can be called by name: the deployments of a workspace, and the registry's versions that start on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from drivetrain.identity.model import Context


class Servable(Struct, frozen=True, kw_only=True):
    """One name that a client may call, with what listings show of it. Empty fields are not known."""

    name: str
    created_ms: int = 0
    modified_ms: int = 0
    size: int = 0
    digest: str = ""  # 64 hex digits
    format: str = ""  # gguf, safetensors, mlflow, …
    family: str = ""
    parameters: int = 0
    quantization: str = ""
    context_length: int = 0
    template: str = ""
    license: str = ""
    tasks: tuple[str, ...] = ()
    deployed: bool = False


Catalog = Callable[[Context], Sequence[Servable]]
"""Lists what a workspace can call. Control plane: reads SQL, so it is run in a thread."""
